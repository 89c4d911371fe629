#!/bin/sh
# Installs nngpt-ext into a new environment from this folder, without a network: sh install.sh ENVIRONMENT
# PYTHON is the Python to use (python3); if the folder has no torch, the environment uses the one of that Python.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=${1:?type: sh install.sh ENVIRONMENT}
python=${PYTHON:-python3}
torch=
if ! ls "$here"/wheels/torch-*.whl > /dev/null 2>&1; then
  find='import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0].rpartition("/")[0])'
  torch=$("$python" -c "$find" 2> /dev/null) || {
    echo "error: $python has no torch; give one that has it: PYTHON=… sh install.sh, or make the bundle with --torch tested" >&2
    exit 2
  }
fi
"$python" -m venv --without-pip "$target"
"$python" -m pip --python "$target/bin/python" --disable-pip-version-check install -q --no-index --no-deps "$here"/wheels/*.whl
site=$("$target/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
[ -z "$torch" ] || echo "$torch" > "$site/torch.pth"  # behind the environment's own libraries on the path
tar -xJf "$here/lemur.tar.xz" -C "$site"
for base in "$here"/base/*; do
  [ ! -d "$base" ] || echo "the base model: --set model.base=$base"
done
echo "installed; type: $target/bin/nngpt-ext doctor"
