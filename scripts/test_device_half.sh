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
# Under emulation the tests in SPEED are left out: they hold a machine to a speed, and qemu has none.
#
# KEEP_ROOTS=1 leaves the roots for a next run. Exit code: 0 if every test passed on every architecture.
set -eu
cd "$(dirname "$0")/.."
. scripts/debian_root.sh

SUITE=bullseye
SPEED="--deselect tests/targets/test_targets.py::test_loading_is_quick
    --deselect tests/targets/test_probe.py::test_this_machine_is_measured"
PACKAGES=python3,python3-numpy,python3-pytest,python3-hypothesis
# Every module of the program, with nothing but the standard library and numpy.
IMPORTS='
import importlib, sys, zipfile
sys.path.insert(0, sys.argv[1])
files = [n for n in zipfile.ZipFile(sys.argv[1]).namelist() if n.startswith("hwc/") and n.endswith(".py")]
for name in files:
    importlib.import_module(name[:-3].replace("/__init__", "").replace("/", "."))
print(len(files), "modules of hwc.pyz imported; numpy is all they need")
'
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

# expect_code ROOT CODE WORDS...: runs hwc.pyz with those words in the root; what it says is shown if the code differs.
expect_code() {
    root=$1
    wanted=$2
    shift 2
    got=0
    run_in "$root" python3 /opt/bundle/hwc.pyz "$@" >"$WORK/said" 2>&1 || got=$?
    if [ "$got" = "$wanted" ]; then
        say "hwc.pyz $1: exit code $got, as it should without a board"
    else
        cat "$WORK/said"
        say "hwc.pyz $1: exit code $got, expected $wanted"
        return 1
    fi
}

# The program of a bundle, as a board starts it. There is no GPU and no TensorRT here, and it says so: 1 is the verdict
# of doctor, 3 is that this machine is not the bundle's, 2 that nothing was built.
start_program() {
    if [ ! -d "$WORK/bundle" ]; then
        say "hwc.pyz was NOT started: $PYTHON lacks onnx, so no bundle was compiled"
        return 0
    fi
    rm -rf "$1/opt/bundle"
    cp -r "$WORK/bundle" "$1/opt/bundle"
    ok=0
    run_in "$1" python3 -c "$IMPORTS" /opt/bundle/hwc.pyz || ok=1
    expect_code "$1" 0 --help || ok=1
    expect_code "$1" 1 doctor --bundle /opt/bundle || ok=1
    expect_code "$1" 3 verify /opt/bundle || ok=1
    expect_code "$1" 3 build /opt/bundle --store /tmp/store || ok=1
    expect_code "$1" 2 profile /opt/bundle --store /tmp/store || ok=1
    return $ok
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
    speed=""
    [ "$1" = "$(host_arch)" ] || speed=$SPEED
    # shellcheck disable=SC2046,SC2086  # words of several, none with spaces
    run_in "$root" python3 -m pytest -q -p no:cacheprovider -m "not slow and not suite" $speed $(cat "$WORK/tests") \
        || code=$?
    start_program "$root" || code=1
    say "$1: pytest and the program ended with $code after $(($(date +%s) - started)) s"
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
if "$PYTHON" -c 'import onnx' 2>/dev/null; then
    "$PYTHON" -c "from pathlib import Path; from tests.e2e.tiny_models import write_onnx; write_onnx(Path('$WORK'))"
    nice "$PYTHON" -m hwc compile "$WORK/net.onnx" -t agx-xavier -o "$WORK/bundle" --no-cache >"$WORK/said" 2>&1 || {
        cat "$WORK/said"
        fail "the bundle for the roots could not be compiled"
    }
    chmod -R a+rX "$WORK/bundle"
fi
mkdir -p "$ROOTS"
start_emulation
for arch in $ARCHES; do test_in "$arch"; done
if [ -n "$failed" ]; then
    say "FAILED on:$failed"
    exit 1
fi
say "PASSED on: $ARCHES"
