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
  # Its file is read, because importing torch may take minutes. What is printed is wrong about it.
  check='import re, sys
version = re.search(r"(?m)^__version__\b.*?(\d[\w.+]*)", open(sys.argv[1]).read())[1]
found, least = ([int(n) for n in re.findall(r"\d+", v)[:2]] for v in (version, sys.argv[2]))
print(version if found < least else "")'
  least=$(cat "$here/torch.txt")
  wrong=$("$python" -c "$check" "$torch/torch/version.py" "$least" 2> /dev/null) || wrong="of an unknown version"
  [ -z "$wrong" ] || fail "torch in $torch is $wrong; $least or later is needed: install it, or PYTHON=… sh $0 $target"
fi
trap 'rm -rf "$target"' EXIT  # whole or not at all
trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 143' TERM  # dash runs no EXIT trap when a signal ends it
"$python" -m venv --without-pip "$target"
pip=$(ls "$here"/wheels/pip-*.whl)
# Neither pip's configuration nor PYTHONPATH may have it install elsewhere, or leave out what another place has.
PIP_CONFIG_FILE=/dev/null "$target/bin/python" -I "$pip/pip" --isolated --disable-pip-version-check \
  install -q --no-index --no-deps "$here"/wheels/*.whl
[ -x "$target/bin/nngpt-ext" ] || fail "pip did not install nngpt-ext into '$target'; copy the bundle again"
site=$("$target/bin/python" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
if [ -n "$torch" ]; then
  echo "$torch" > "$site/torch.pth"  # behind the environment's own libraries on the path
  printf '#!/bin/sh\nexec "$(dirname "$0")/python" -m torch.distributed.run "$@"\n' > "$target/bin/torchrun"
  chmod +x "$target/bin/torchrun"
fi
tar -xJf "$here/lemur.tar.xz" -C "$site"
trap - EXIT HUP INT TERM
for base in "$here"/base/*; do
  [ ! -d "$base" ] || echo "the base model: --set model.base=$base"
done
echo "installed; type: $target/bin/nngpt-ext doctor"
