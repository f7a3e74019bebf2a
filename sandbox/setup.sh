#!/usr/bin/env bash
# Installs what the sandbox and the tests need: a virtual environment in .venv, and mosquitto (the
# MQTT broker and its command-line clients) with apt-get.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

apt_install() {
    local sudo=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || {
            echo "setup: sudo is missing; run apt-get install $* as root, then run make again" >&2
            exit 1
        }
        sudo=(sudo)
    fi
    echo "setup: installing $* with ${sudo[*]:+${sudo[*]} }apt-get"
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

missing=()
PATH=$PATH:/usr/sbin command -v mosquitto >/dev/null || missing+=(mosquitto)
command -v mosquitto_pub >/dev/null || missing+=(mosquitto-clients)
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
    apt_install "${missing[@]}"
fi

[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
