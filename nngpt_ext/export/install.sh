#!/bin/sh
# Installs nngpt-ext into a new environment from this folder, without a network: sh install.sh ENVIRONMENT
# PYTHON is the Python to use (python3); if the folder has no torch, the environment uses the one of that Python.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
fail() { echo "error: $1" >&2; exit 2; }
[ $# -eq 1 ] || fail "give the folder of the new environment: sh $0 my-environment"
target=$1
[ ! -e "$target" ] || fail "'$target' is there already; give another folder"
python=${PYTHON:-python3}
wanted=$(cat "$here/python.txt")
given=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null) ||
  fail "there is no Python '$python'; set PYTHON"
[ "$given" = "$wanted" ] || fail "this bundle is for Python $wanted, and $python is $given: PYTHON=python$wanted sh $0 $target"
xz -t "$here/lemur.tar.xz" 2> /dev/null || fail "lemur.tar.xz is damaged, or xz is missing; copy the bundle again"
torch=
if ! ls "$here"/wheels/torch-*.whl > /dev/null 2>&1; then
  find='import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0].rpartition("/")[0])'
  torch=$("$python" -c "$find" 2> /dev/null) ||
    fail "$python has no torch; give one that has it: PYTHON=… sh install.sh, or make the bundle with --torch tested"
fi
trap 'rm -rf "$target"' EXIT  # whole or not at all
"$python" -m venv --without-pip "$target"
pip=$(ls "$here"/wheels/pip-*.whl)
"$target/bin/python" "$pip/pip" --disable-pip-version-check install -q --no-index --no-deps "$here"/wheels/*.whl
site=$("$target/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
if [ -n "$torch" ]; then
  echo "$torch" > "$site/torch.pth"  # behind the environment's own libraries on the path
  printf '#!/bin/sh\nexec "$(dirname "$0")/python" -m torch.distributed.run "$@"\n' > "$target/bin/torchrun"
  chmod +x "$target/bin/torchrun"
fi
tar -xJf "$here/lemur.tar.xz" -C "$site"
trap - EXIT
for base in "$here"/base/*; do
  [ ! -d "$base" ] || echo "the base model: --set model.base=$base"
done
echo "installed; type: $target/bin/nngpt-ext doctor"
