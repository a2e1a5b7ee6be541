#!/usr/bin/env bash
# Stands for conda, mamba or micromamba, by the name it is called: what the scripts of the project need of them.
# STAND_IN_ENVS is the folder of its environments, STAND_IN_LOG the file in which it writes what it was asked.
set -euo pipefail
me=${0##*/}
printf '%s %s\n' "$me" "$*" >>"$STAND_IN_LOG"
case "$me $*" in
  "conda shell.bash hook" | *"mamba shell hook --shell bash")
    # As the real one's functions, this runs in the user's shell, and reads a variable that is not set.
    cat <<FUNCTION
$me() {
  local prefix="$STAND_IN_ENVS/\$2"
  case \$2 in */*) prefix=\$2 ;; esac
  if [ ! -d "\$prefix/conda-meta" ]; then
    printf '\nEnvironmentNameNotFound: Could not find %s environment: %s\nYou can list all.\n' $me "\$2" >&2
    return 1
  fi
  echo "welcome to \$2\$NOT_SET_BY_ANYONE"
  export CONDA_PREFIX=\$prefix PATH=\$prefix/bin:\$PATH
  false # some activation scripts end like this
  true
}
FUNCTION
    ;;
  *" env list") (cd "$STAND_IN_ENVS" && printf '# %s environments:\n' "$me" && ls) ;;
  *" env create --file "* | *" create --yes --file "*)
    name=$(sed -n 's/^name: //p' "${*: -1}")
    mkdir -p "$STAND_IN_ENVS/$name/conda-meta" "$STAND_IN_ENVS/$name/bin"
    ;;
  *" run --name "*) [ -n "${STAND_IN_COMPLETE:-}" ] ;;
  *) exit 64 ;;
esac
