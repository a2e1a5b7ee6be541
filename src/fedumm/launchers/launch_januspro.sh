#!/usr/bin/env bash
# bash launch_januspro.sh ARGUMENTS...: python -u ARGUMENTS... in the environment of Janus-Pro.
#
# FEDUMM_ENV_JANUSPRO: its name (nvflare_januspro), or the folder of a conda or virtual environment.
# Status 3: there is no such environment; else python's own.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
enter_environment "${FEDUMM_ENV_JANUSPRO:-nvflare_januspro}" FEDUMM_ENV_JANUSPRO
exec python -u "$@"
