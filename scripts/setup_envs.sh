#!/usr/bin/env bash
# Make the environments that scripts/launch_blip.sh and scripts/launch_januspro.sh run Python in:
#
#   bash scripts/setup_envs.sh [blip] [januspro]
#
# With conda, mamba or micromamba from envs/env_*.yml; else as virtual environments that hold what these files have
# under pip. An environment that is there is left as it is.
#
#   FEDUMM_ENV_TOOL  conda, mamba or micromamba (or a path to one), or venv; by default the first that is there
#   FEDUMM_ENVS      folder of the virtual environments (~/.local/share/fedumm/envs)
#   PYTHON           Python of the virtual environments (python3)
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
SHARED=$ROOT/src/fedumm/launchers/environment.sh
PYTHON=${PYTHON:-python3}

fail() {
  printf 'setup_envs.sh: %s\n' "$1" >&2
  exit 2
}

with_conda() {
  local tool=$1 name=$2 file=$3
  if "$tool" env list | awk -v name="$name" '$1 == name { found = 1 } END { exit !found }'; then
    "$tool" run --name "$name" python -c 'import fedumm' 2>/dev/null ||
      fail "$name is there, but incomplete. Remove it with: $tool env remove --name $name; then run this again."
    echo "$name is there already."
    return
  fi
  echo "$name: $tool, $file"
  case ${tool##*/} in
    micromamba*) "$tool" create --yes --file "$file" ;;
    # Older ones do not know --yes here.
    *) CONDA_ALWAYS_YES=true MAMBA_ALWAYS_YES=true "$tool" env create --file "$file" ;;
  esac || fail "$tool could not make $name; its message is above."
}

with_venv() {
  local name=$1 file=$2 folder wanted
  folder=$(environments_folder)/$name
  if "$folder/bin/python" -c 'import fedumm' 2>/dev/null; then
    echo "$folder is there already."
    return
  fi
  echo "$folder: $PYTHON -m venv, $file"
  type -P "$PYTHON" >/dev/null || fail "no conda, mamba or micromamba, and no $PYTHON. Name a Python in PYTHON."
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail "$PYTHON is older than Python 3.10."
  "$PYTHON" -m venv "$folder" || fail "$PYTHON -m venv failed; its message is above."
  mapfile -t wanted < <(awk 'pip && /^ *- / { sub(/^ *- /, ""); print } /^ *- pip:$/ { pip = 1 }' "$file")
  # Paths in the file start from its own folder.
  (cd "$ROOT/envs" && "$folder/bin/python" -m pip install "${wanted[@]}") ||
    fail "pip could not fill $folder; its message is above."
}

[ -f "$SHARED" ] || fail "$SHARED is missing: this takes a whole checkout of FedUMM."
# shellcheck source-path=SCRIPTDIR source=../src/fedumm/launchers/environment.sh
. "$SHARED"
tool=$(environment_tool) || fail "FEDUMM_ENV_TOOL=$FEDUMM_ENV_TOOL is not there."
[ $# -gt 0 ] || set -- blip januspro
for backend in "$@"; do
  [ -f "$ROOT/envs/env_$backend.yml" ] || fail "there is no $ROOT/envs/env_$backend.yml."
done
for backend in "$@"; do
  if [ "$tool" = venv ]; then
    with_venv "nvflare_$backend" "$ROOT/envs/env_$backend.yml"
  else
    with_conda "$tool" "nvflare_$backend" "$ROOT/envs/env_$backend.yml"
  fi
done
echo "Ready. Try: bash scripts/launch_$1.sh -m fedumm.cli.main --version"
