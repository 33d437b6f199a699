#!/bin/sh
# Runs the device half and its own tests in a Debian bullseye root: Python 3.9 and numpy 1.19, the nearest to JetPack 5
# (Python 3.8, numpy 1.17) that Debian has; once natively and once for arm64 under qemu.
#
#     sudo scripts/test_device_half.sh [amd64] [arm64]          both by default
#
# What runs: every test that needs no more than numpy, pytest and hypothesis and the device half
# (`scripts/list_device_tests.py` decides by imports). What is copied: those tests and the files they need, nothing
# else, so a device file that reaches the host half fails here. After the tests the runtime is started as a board
# starts it, `python3 hwc.pyz`. Needs a Debian or Ubuntu machine, root, a network for the packages, 1 GiB below
# /var/tmp, and PYTHON with pytest (.venv/bin/python by default). tomli is put beside the tests: they read targets from
# TOML, which a board never does.
#
# KEEP_ROOTS=1 leaves the roots for a next run. Exit code: 0 if every test passed on every architecture.
set -eu
cd "$(dirname "$0")/.."
. scripts/debian_root.sh

SUITE=bullseye
PACKAGES=python3,python3-numpy,python3-pytest,python3-hypothesis
VERSIONS='import numpy, platform as p; print(p.machine(), "Python", p.python_version(), "numpy", numpy.__version__)'
ROOTS=${ROOTS:-/var/tmp/hwc-roots}
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
WORK=$(mktemp -d)

clean_up() {
    for arch in $ARCHES; do
        if [ "${KEEP_ROOTS:-0}" = 1 ]; then
            if mountpoint -q "$ROOTS/$SUITE-$arch/proc"; then umount "$ROOTS/$SUITE-$arch/proc"; fi
        else
            remove_root "$ROOTS/$SUITE-$arch"
        fi
    done
    rmdir "$ROOTS" 2>/dev/null || true
    rm -rf "$WORK"
    stop_emulation
}

# run_in ROOT COMMAND...: as nobody, in the folder of the tests.
run_in() {
    root=$1
    shift
    nice chroot --userspec=nobody:nogroup "$root" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/tmp LANG=C.UTF-8 \
        PYTHONPATH=/opt/hwc:/opt/extra PYTHONDONTWRITEBYTECODE=1 HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis \
        sh -c 'cd /opt/hwc && exec "$@"' sh "$@"
}

test_in() {
    root=$ROOTS/$SUITE-$1
    make_root "$SUITE" "$1" "$root" "$PACKAGES"
    mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
    rm -rf "$root/opt/hwc" "$root/opt/extra"
    mkdir -p "$root/opt/hwc" "$root/opt/extra"
    tar -cf - pyproject.toml -T "$WORK/files" | tar -xf - -C "$root/opt/hwc" --no-same-owner
    cp -r "$WORK/extra/." "$root/opt/extra"
    run_in "$root" python3 -c "$VERSIONS"
    started=$(date +%s)
    code=0
    run_in "$root" python3 -m pytest -q -p no:cacheprovider -m "not slow and not suite" $(cat "$WORK/tests") || code=$?
    say "$1: pytest ended with $code after $(($(date +%s) - started)) s"
    [ "$code" = 0 ] || failed="$failed $1"
}

ARCHES=${*:-"amd64 arm64"}
failed=""
need_root
need_commands debootstrap=debootstrap qemu-aarch64-static=qemu-user-static
for arch in $ARCHES; do
    case "$arch" in amd64 | arm64) ;; *) fail "unknown architecture '$arch': amd64 or arm64" ;; esac
done
trap clean_up EXIT
trap 'exit 130' INT TERM
"$PYTHON" scripts/list_device_tests.py "$WORK/tests" "$WORK/files"
say "$(wc -l <"$WORK/tests") test files, $(wc -l <"$WORK/files") files copied"
"$PYTHON" -m pip install --quiet --no-deps --target "$WORK/extra" --only-binary=:all: --platform any \
    --python-version 3.9 "$(sed -n 's/^\(tomli==[0-9.]*\).*/\1/p' requirements.txt)"
mkdir -p "$ROOTS"
start_emulation
for arch in $ARCHES; do test_in "$arch"; done
if [ -n "$failed" ]; then
    say "FAILED on:$failed"
    exit 1
fi
say "PASSED on: $ARCHES"
