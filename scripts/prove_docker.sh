#!/bin/sh
# Builds the Dockerfiles of docker/ on a machine that has neither Docker nor a board, and looks at what came out.
#
#     sudo scripts/prove_docker.sh [jetpack5] [jetpack6] [jetpack7] [x86]         all by default
#
# 1. Debian root file systems by debootstrap, those for boards as arm64 under qemu (scripts/debian_root.sh). Each stands
#    in for NVIDIA's base image of that generation, which not every network may fetch. THE STAND-IN HAS NO CUDA AND NO
#    TENSORRT: what is proved is the Dockerfile and the device half on that Python, not that NVIDIA's image fits.
# 2. `hwc docker build` itself, with a `docker` on PATH that hands its words to buildah (chroot isolation, vfs).
#    The stage on a plain Python runs natively, as with Docker. buildah looks up the images of all stages by one
#    platform (its issue 4721), so that Python bears the label of the target's platform here.
# 3. Of each image: platform, user, entry point, health check; then the program runs in it, as that user.
#
# The stand-ins differ on purpose: jetpack5 and jetpack7 have Python and numpy, x86 lacks numpy and jetpack6 lacks both,
# so the Dockerfiles' own apt-get runs natively and under qemu.
#
# Needs a Debian machine, root, debootstrap, qemu-user-static, buildah, and a network for packages; 6 GiB below ROOTS
# (/var/tmp/hwc-roots). Nothing stays but with KEEP_ROOTS=1 the roots. Exit code 0 if all was as it should be.
set -eu
cd "$(dirname "$0")/.."
. scripts/debian_root.sh

ROOTS=${ROOTS:-/var/tmp/hwc-roots}
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo "$PWD/.venv/bin/python" || echo python3)}
NUMPY=python3,python3-numpy
# Of `test_device_half.sh` the same root is used, if it was kept.
TESTS=$NUMPY,python3-pytest,python3-hypothesis
VERSIONS='import numpy, sys; print("Python", sys.version.split()[0], "numpy", numpy.__version__)'
CHOSEN=${*:-"jetpack5 jetpack6 jetpack7 x86"}

# generation -> target, suite, architecture, packages of the stand-in
target_of() {
    case "$1" in jetpack5) echo agx-xavier ;; jetpack6) echo agx-orin ;; jetpack7) echo agx-thor ;; x86) echo t4 ;; esac
}
suite_of() { case "$1" in jetpack5) echo bullseye ;; jetpack6 | x86) echo bookworm ;; jetpack7) echo trixie ;; esac }
arch_of() { case "$1" in x86) echo amd64 ;; *) echo arm64 ;; esac }
packages_of() {
    case "$1" in
        jetpack5) echo "$TESTS" ;;
        jetpack6) echo ca-certificates ;;
        jetpack7) echo "$NUMPY" ;;
        x86) echo python3 ;;
    esac
}

nice_buildah() { nice buildah --root "$WORK/storage" --runroot "$WORK/run" --storage-driver vfs "$@"; }

clean_up() {
    # Working containers are mounted below the storage; they go before it does.
    nice_buildah rm --all >/dev/null 2>&1 || true
    if mountpoint -q "$WORK/storage/vfs" 2>/dev/null; then umount "$WORK/storage/vfs"; fi
    rm -rf --one-file-system "$WORK"
    if [ "${KEEP_ROOTS:-0}" != 1 ]; then
        for generation in $CHOSEN x86; do
            remove_root "$ROOTS/$(suite_of "$generation")-$(arch_of "$generation")"
        done
        rmdir "$ROOTS" 2>/dev/null || true
    fi
    stop_emulation
}

# A root as a local image: import_root GENERATION
import_root() {
    root=$ROOTS/$(suite_of "$1")-$(arch_of "$1")
    make_root "$(suite_of "$1")" "$(arch_of "$1")" "$root" "$(packages_of "$1")"
    container=$(nice_buildah from scratch)
    tar -C "$root" --one-file-system -cf - . | tar -xf - -C "$(nice_buildah mount "$container")"
    nice_buildah config --os linux --arch "$(arch_of "$1")" "$container"
    nice_buildah commit --quiet "$container" "localhost/stand-in:$1" >/dev/null
    if [ "$1" = x86 ]; then
        for arch in amd64 arm64; do
            nice_buildah config --arch "$arch" "$container"
            nice_buildah commit --quiet "$container" "localhost/python:$arch" >/dev/null
        done
    fi
    nice_buildah rm "$container" >/dev/null
    say "$1: stand-in $(suite_of "$1") $(arch_of "$1") is an image"
}

# What `hwc docker build` finds as docker.
write_docker() {
    mkdir -p "$WORK/bin"
    cat >"$WORK/bin/docker" <<END
#!/bin/sh
# \`docker buildx build WORDS\` as buildah: --load is what buildah does anyway.
[ "\$1 \$2" = "buildx version" ] && exit 0
[ "\$1 \$2" = "buildx build" ] || { echo "this docker only builds, not: \$*" >&2; exit 2; }
shift 2
for word in "\$@"; do
    shift
    [ "\$word" = --load ] || set -- "\$@" "\$word"
    case "\$word" in linux/*) platform=\$word ;; esac
done
exec nice buildah --root "$WORK/storage" --runroot "$WORK/run" --storage-driver vfs bud --isolation chroot \\
    --format docker --pull-never --build-arg "BUILDPLATFORM=\$platform" \\
    --build-arg "PYTHON_IMAGE=localhost/python:\${platform#*/}" "\$@"
END
    chmod +x "$WORK/bin/docker"
}

# expect NAME FOUND WANTED
expect() {
    if [ "$2" = "$3" ]; then return 0; fi
    say "$generation: WRONG $1: expected '$3', got '$2'"
    failed="$failed $generation"
}

image_fact() { nice_buildah inspect --type image --format "$1" "localhost/hwc:$generation"; }

# inside COMMAND...: in $container as its user; what it printed and its exit code. By way of a file: buildah's chroot
# isolation was seen to lose the last output of a short command on a busy machine.
inside() {
    inside_code=0
    nice_buildah run --isolation chroot "$container" -- sh -c '"$@" >/tmp/said 2>&1' sh "$@" >/dev/null 2>&1 \
        || inside_code=$?
    cat "$place/tmp/said"
    return $inside_code
}

look_at() {
    expect architecture "$(image_fact '{{.OCIv1.Architecture}}')" "$(arch_of "$generation")"
    expect user "$(image_fact '{{.Docker.Config.User}}')" hwc
    expect "entry point" "$(image_fact '{{.Docker.Config.Entrypoint}}')" "[python3 /opt/hwc/hwc.pyz]"
    expect "health check" "$(image_fact '{{index .Docker.Config.Healthcheck.Test 0}}')" CMD
    container=$(nice_buildah from --pull-never --arch "$(arch_of "$generation")" "localhost/hwc:$generation")
    place=$(nice_buildah mount "$container")
    expect "user id" "$(inside id -u)" 10001
    expect machine "$(inside uname -m)" "$([ "$(arch_of "$generation")" = arm64 ] && echo aarch64 || echo x86_64)"
    expect "that the user cannot write the program" "$(inside sh -c '[ -w /opt/hwc ] || echo no')" no
    expect "that the user can write /data" "$(inside sh -c 'touch /data/x && echo yes')" yes
    expect "no engine in the image" "$(inside sh -c 'find /opt /data -name "*.plan" -o -name "*.engine"')" ""
    expect "no sources in the image" "$(inside sh -c 'ls -d /src /hwc 2>/dev/null || true')" ""
    say "$generation: $(inside python3 -c "$VERSIONS")"
    code=0
    inside python3 /opt/hwc/hwc.pyz doctor >"$WORK/doctor" || code=$?
    # Without TensorRT the verdict is no (1) or the target's (3); anything else is no verdict.
    case "$code" in 0 | 1 | 3) ;; *) expect "exit code of doctor" "$code" "0, 1 or 3" ;; esac
    grep -v 'not known' "$WORK/doctor" | sed 's/^/    /'
    say "$generation: doctor ended with $code as uid 10001 on $(inside uname -m)"
    nice_buildah rm "$container" >/dev/null
}

failed=""
need_root
need_commands debootstrap=debootstrap qemu-aarch64-static=qemu-user-static buildah=buildah
for generation in $CHOSEN; do
    [ -n "$(suite_of "$generation")" ] || fail "unknown generation '$generation'"
done
mkdir -p "$ROOTS"
WORK=$(mktemp -d /var/tmp/hwc-proof.XXXXXX)
trap clean_up EXIT
trap 'exit 130' INT TERM
write_docker
start_emulation
import_root x86
for generation in $CHOSEN; do
    [ "$generation" = x86 ] || import_root "$generation"
    started=$(date +%s)
    log=$WORK/$generation.log
    if PATH="$WORK/bin:$PATH" "$PYTHON" -m hwc docker build --target "$(target_of "$generation")" \
        --base-image "localhost/stand-in:$generation" --tag "localhost/hwc:$generation" >"$log" 2>&1; then
        say "$generation: built in $(($(date +%s) - started)) s from docker/$generation.Dockerfile"
        look_at
    else
        tail -n 25 "$log"
        failed="$failed $generation"
    fi
done
if [ -n "$failed" ]; then
    say "FAILED:$failed"
    exit 1
fi
say "PASSED: $CHOSEN"
