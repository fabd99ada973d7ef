#!/bin/sh
# The system libraries that Python wheels do not bring: installs the missing ones where it may (root on
# Debian and its kin), otherwise prints the one line to paste. Usage: scripts/system_libs.sh [PYTHON]
set -eu
python=${1:-python3}
[ "$(uname -s)" = Linux ] || exit 0 # on macOS and Windows the wheels are complete

# One line each: what is looked for, Debian's package, who needs it.
wanted='libusb-1.0.so.0   libusb-1.0-0      open3d
libGL.so.1        libgl1            opencv, open3d, Qt
libgthread-2.0.so.0 libglib2.0-0    opencv, Qt
libgomp.so.1      libgomp1          open3d, torch
libEGL.so.1       libegl1           Qt
libxkbcommon.so.0 libxkbcommon0     Qt
libdbus-1.so.3    libdbus-1-3       Qt
libfontconfig.so.1 libfontconfig1   Qt'

present=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null || true)
missing=$(printf '%s\n' "$wanted" | while read -r library package _users; do
    case "$present" in *"$library "*) ;; *) printf ' %s' "$package" ;; esac
done)
# Debian splits the module that makes virtual environments off Python's own package.
"$python" -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "rakelight needs system libraries that are missing here; Debian calls them:$missing" >&2
elif [ "$(id -u)" = 0 ]; then
    echo "installing system libraries:$missing"
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086  # a list of names
    if ! { apt-get install -y --no-install-recommends $missing ||
        { apt-get update && apt-get install -y --no-install-recommends $missing; }; } >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        rm -f "$log"
        exit 1
    fi
    rm -f "$log"
else
    echo "rakelight needs system libraries that are missing here; paste this line, then run make again if it fails:" >&2
    echo "  sudo apt-get install -y$missing" >&2
fi
