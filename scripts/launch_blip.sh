#!/usr/bin/env bash
# bash scripts/launch_blip.sh ARGUMENTS...: python -u ARGUMENTS... in the environment of BLIP. The launcher itself is
# part of the package, so that installed sites have it too.
exec bash "$(dirname "${BASH_SOURCE[0]}")/../src/fedumm/launchers/launch_blip.sh" "$@"
