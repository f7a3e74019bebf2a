#!/usr/bin/env bash
# Builds all components and publishes those that have changed, with gdk where it is installed, and
# with --images the container images too. ./publish_all.sh --help has the options; those of
# build_all.sh are taken too.
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
