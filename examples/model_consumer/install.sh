#!/bin/sh
# Installs the consumer's requirements into a virtual environment in its work folder, without root.
#
#   sh install.sh WORK_FOLDER
#
# The packages come from the folder `wheels` beside this script, if the artifact has it, else from
# the package index. The environment is renamed to its final name when it is complete. If the same
# requirements are already installed, nothing is changed.
set -eu
umask "$(printf '%04o' "$(($(umask) | 022))")" # so that other users cannot change the program

artifact=$(cd "$(dirname "$0")" && pwd)
environment=$1/venv
new=$1/venv.new

wanted=$(cat "$artifact/requirements.txt" && python3 --version)
if [ "$(cat "$environment/installed.txt" 2>/dev/null)" = "$wanted" ] &&
    "$environment/bin/python" -c 'import awsiot' 2>/dev/null; then
    echo "install: everything is there already"
    exit 0
fi

rm -rf "$new"
trap 'rm -rf "$new"' EXIT
python3 -m venv "$new" || {
    echo "install: python3 cannot make a virtual environment; install python3-venv" >&2
    exit 1
}
set -- --require-hashes --no-deps --only-binary :all: --requirement "$artifact/requirements.txt"
if [ -d "$artifact/wheels" ]; then
    set -- "$@" --no-index --find-links "$artifact/wheels"
fi
"$new/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --no-cache-dir "$@"

printf '%s\n' "$wanted" >"$new/installed.txt"
sync
rm -rf "$environment"
mv "$new" "$environment"
echo "install: installed"
