#!/usr/bin/env bash
# Builds all components and publishes those that have changed, with gdk if it is installed. With
# --images it also publishes the container images. ./publish_all.sh --help lists the options; it
# also accepts those of build_all.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

images=
dry_run=
arguments=()
for argument in "$@"; do
    case $argument in
    --images) images=yes ;;
    *)
        [ "$argument" != --dry-run ] || dry_run=--dry-run
        arguments+=("$argument")
        ;;
    esac
done

python=.venv/bin/python
[ -x "$python" ] || python=${PYTHON:-python3}
"$python" -m tools.publish ${arguments[@]+"${arguments[@]}"}
if [ -n "$images" ]; then
    docker/publish.sh ${dry_run:+"$dry_run"}
fi
