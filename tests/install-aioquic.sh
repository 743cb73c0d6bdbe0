#!/bin/sh
# Installs aioquic, a QUIC implementation that tests/wire talks to, into a virtual environment in the target
# directory. Safe to run again, and quick when it is there.
set -eu

target=${CARGO_TARGET_DIR:-$(dirname "$0")/../target}
home=$target/aioquic
[ -x "$home/bin/python" ] && "$home/bin/python" -c 'import aioquic' 2> /dev/null && exit 0
mkdir -p "$target"
/usr/bin/python3 -m venv "$home"
"$home/bin/pip" install --quiet --disable-pip-version-check 'aioquic>=1.2,<2'
