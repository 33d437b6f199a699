#!/bin/sh
# Debian root file systems for amd64 and arm64, as stand-ins for boards. Sourced by the proofs beside this file.
#
# An arm64 root runs here through qemu-user-static: the kernel's binfmt_misc hands each aarch64 program to the
# interpreter. Flag F of the registration opens the interpreter once, so that a chroot needs no copy of it.
# Needs root and the packages debootstrap and qemu-user-static. What was mounted or registered here is undone by
# `stop_emulation`; what was there before stays. Two proofs at once would take the emulation from each other.
#
# MIRROR: the Debian mirror; debootstrap's own by default.

BINFMT=/proc/sys/fs/binfmt_misc
mounted_binfmt=no
registered_binfmt=no

say() { printf '%s  %s\n' "$(date -u +%H:%M:%S)" "$*"; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 4
}

need_root() { [ "$(id -u)" = 0 ] || fail "this makes root file systems and mounts: run it as root"; }

# need_commands COMMAND=PACKAGE...
need_commands() {
    missing=""
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || missing="$missing ${pair#*=}"
    done
    [ -z "$missing" ] || fail "missing packages; apt-get install --no-install-recommends$missing"
}

host_arch() { dpkg --print-architecture; }

# Let this machine run aarch64 programs, unless it already does.
start_emulation() {
    [ "$(host_arch)" != arm64 ] || return 0
    if [ ! -e "$BINFMT/register" ]; then
        mount -t binfmt_misc binfmt_misc "$BINFMT" || fail "binfmt_misc cannot be mounted: the kernel lacks it"
        mounted_binfmt=yes
    fi
    if [ ! -e "$BINFMT/qemu-aarch64" ]; then
        registration=/usr/lib/binfmt.d/qemu-aarch64.conf
        [ -e "$registration" ] || fail "$registration is missing: install qemu-user-static"
        cat "$registration" >"$BINFMT/register" || fail "binfmt_misc refused $registration"
        registered_binfmt=yes
    fi
}

stop_emulation() {
    [ "$registered_binfmt" = no ] || { echo -1 >"$BINFMT/qemu-aarch64" && registered_binfmt=no; }
    [ "$mounted_binfmt" = no ] || { umount "$BINFMT" && mounted_binfmt=no; }
}

# make_root SUITE ARCH FOLDER PACKAGES: a minimal Debian with those packages (comma separated).
# A root that an earlier run finished is kept; a half-made one is made anew.
make_root() {
    if [ -e "$3.ready" ] && [ "$(cat "$3.ready")" = "$1 $2 $4" ]; then
        say "root $1 $2: kept from an earlier run"
        return 0
    fi
    remove_root "$3"
    say "root $1 $2: debootstrap (log $3.log)"
    nice debootstrap --variant=minbase --arch="$2" --include="$4" "$1" "$3" ${MIRROR:+"$MIRROR"} >"$3.log" 2>&1 || {
        tail -n 5 "$3.log" >&2
        fail "debootstrap of $1 $2 failed"
    }
    rm -rf "$3"/var/cache/apt/archives/*.deb
    echo "$1 $2 $4" >"$3.ready"
    say "root $1 $2: $(du -sm "$3" | cut -f1) MiB"
}

# Removes a root and nothing mounted below it.
remove_root() {
    case "$1" in /tmp/?* | /var/tmp/?*) ;; *) fail "will not remove '$1': roots live below /tmp or /var/tmp" ;; esac
    for place in proc sys dev; do
        if mountpoint -q "$1/$place" 2>/dev/null; then umount "$1/$place"; fi
    done
    rm -rf --one-file-system "$1" "$1.ready" "$1.log"
}
