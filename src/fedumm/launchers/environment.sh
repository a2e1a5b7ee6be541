# shellcheck shell=bash
# Read by the launchers, which run with set -eu: enter_environment activates a conda or a virtual environment.
#
#   FEDUMM_ENVS      folder of the virtual environments that are known by name (~/.local/share/fedumm/envs)
#   FEDUMM_ENV_TOOL  conda, mamba or micromamba (or a path to one), or venv; by default the first that is there

MISSING_ENVIRONMENT=3 # exit status of a launcher without its environment

environments_folder() { printf '%s\n' "${FEDUMM_ENVS:-${XDG_DATA_HOME:-$HOME/.local/share}/fedumm/envs}"; }

# Print the path of the tool for conda environments, or venv; fail if FEDUMM_ENV_TOOL is not there.
environment_tool() {
  local tool
  # Where conda is a function of the user's shell, a script inherits only the variable that it left.
  local tools=(conda mamba micromamba "${CONDA_EXE:-}" "${MAMBA_EXE:-}")
  [ -z "${FEDUMM_ENV_TOOL:-}" ] || tools=("$FEDUMM_ENV_TOOL")
  [ "${tools[0]}" = venv ] || for tool in "${tools[@]}"; do type -P "$tool" && return; done
  case ${FEDUMM_ENV_TOOL:-venv} in venv) echo venv ;; *) return 1 ;; esac
}

# Activate $1: a folder (with a slash) or a name. If that fails: one line on what to do about variable $2, and the end.
enter_environment() {
  local wanted=$1 variable=$2 folder=$1 prefix why=""
  case $wanted in */*) ;; *) folder=$(environments_folder)/$wanted ;; esac
  if [ -f "$folder/bin/activate" ] && [ ! -d "$folder/conda-meta" ]; then
    _activate_virtual "$folder" >/dev/null 2>&1
    prefix=${VIRTUAL_ENV:-}
    [ "$prefix" -ef "$folder" ] || why="$folder was moved after it was made"
  else
    _activate_conda "$wanted" >/dev/null 2>&1 || why=$(_why_not "$wanted")
    prefix=${CONDA_PREFIX:-}
  fi
  if [ -z "$why" ] && [ "$(type -P python)" != "$prefix/bin/python" ]; then why="$prefix has no python"; fi
  [ -n "$why" ] || return 0
  printf '%s: no environment %s: %s. Make it with: bash scripts/setup_envs.sh; or name another in %s.\n' \
    "${0##*/}" "$wanted" "${why%.}" "$variable" >&2
  exit "$MISSING_ENVIRONMENT"
}

_activate_virtual() {
  # Scripts of environments read variables that are not set, and their last command may well fail.
  set +eu
  # shellcheck disable=SC1091
  . "$1/bin/activate"
  set -eu
}

_activate_conda() {
  local tool status
  tool=$(environment_tool) && [ "$tool" != venv ] || return 1
  set +eu
  case ${tool##*/} in
    conda*) eval "$("$tool" shell.bash hook)" && conda activate "$1" ;;
    mamba*) eval "$("$tool" shell hook --shell bash)" && mamba activate "$1" ;;
    *) eval "$("$tool" shell hook --shell bash)" && micromamba activate "$1" ;;
  esac
  status=$?
  set -eu
  return "$status"
}

# The first line of what the tool says about environment $1.
_why_not() {
  local told
  case $(environment_tool || echo none) in
    none) echo "FEDUMM_ENV_TOOL=$FEDUMM_ENV_TOOL is not there" ;;
    venv) case $1 in
      */*) echo "there is no virtual environment in that folder" ;;
      *) echo "it is not in $(environments_folder)" ;;
    esac ;;
    *)
      # All of it first: a reader that has seen enough would end the tool in mid-sentence, which counts as a failure.
      told=$(_activate_conda "$1" 2>&1 || true)
      told=$(grep -m 1 . <<<"$told" || true)
      if [ -n "$told" ]; then echo "$told"; else echo "it can't be activated"; fi
      ;;
  esac
}
