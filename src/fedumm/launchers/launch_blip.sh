#!/usr/bin/env bash
# bash launch_blip.sh ARGUMENTS...: python -u ARGUMENTS... in the environment of BLIP.
#
# FEDUMM_ENV_BLIP: its name (nvflare_blip), or the folder of a conda or virtual environment.
# Status 3: there is no such environment; else python's own.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
enter_environment "${FEDUMM_ENV_BLIP:-nvflare_blip}" FEDUMM_ENV_BLIP
exec python -u "$@"
