#!/bin/sh
# Builds the image of each target named: `docker/build.sh agx-xavier agx-orin [-- --push --tag ...]`.
# What follows `--` goes to each `hwc docker build`. Exit code: that of the first that failed.
set -eu
cd "$(dirname "$0")/.."
hwc=${HWC:-$([ -x .venv/bin/hwc ] && echo .venv/bin/hwc || echo hwc)}
names=""
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    names="$names $1"
    shift
done
[ $# -eq 0 ] || shift
if [ -z "$names" ]; then
    echo "usage: docker/build.sh TARGET... [-- FLAGS of hwc docker build]; targets: $hwc docker list" >&2
    exit 2
fi
for name in $names; do "$hwc" docker build --target "$name" "$@"; done
