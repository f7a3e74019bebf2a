#!/usr/bin/env bash
# Builds all components into their folders greengrass-build, with gdk if it is installed. With
# --images it also builds the container images. ./build_all.sh --help lists the options.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

images=
arguments=()
for argument in "$@"; do
    if [ "$argument" = --images ]; then
        images=yes
    else
        arguments+=("$argument")
    fi
done

python=.venv/bin/python
[ -x "$python" ] || python=${PYTHON:-python3}
"$python" -m tools.build ${arguments[@]+"${arguments[@]}"}
if [ -n "$images" ]; then
    docker/build.sh
fi
