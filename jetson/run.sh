#!/bin/sh
# Builds a bundle's engine if needed, then profiles it or runs it: `run.sh BUNDLE OUT [profile|run] [ARGUMENTS...]`.
#
#     BUNDLE   folder that `hwc compile` wrote; its own hwc.pyz is used, or HWC_PYZ
#     OUT      gets engines/ (the store), reports/<UTC time>.json and reports/latest.json, or outputs.npz of `run`
#
# The bundle is verified first, so a damaged copy or another board never reaches the builder. What a step prints is
# left as it is. Exit code: that of the first step that failed (1 the verdict is no, 2 usage, 3 this board or its
# TensorRT, 4 the engine, 70 a bug of hwc).
set -eu

if [ $# -lt 2 ]; then
    echo "usage: run.sh BUNDLE OUT [profile|run] [ARGUMENTS...]" >&2
    exit 2
fi
bundle=$1
out=$2
verb=${3:-profile}
if [ $# -gt 3 ]; then shift 3; else shift $#; fi
program=${HWC_PYZ:-$bundle/hwc.pyz}

case "$verb" in profile | run) ;; *)
    echo "run.sh: unknown verb '$verb': profile or run" >&2
    exit 2
    ;;
esac
if [ ! -f "$program" ]; then
    echo "run.sh: no program at $program; pack the bundle anew, or set HWC_PYZ" >&2
    exit 2
fi

mkdir -p "$out/engines" "$out/reports"
python3 "$program" verify "$bundle"
python3 "$program" build "$bundle" --store "$out/engines"
if [ "$verb" = run ]; then
    exec python3 "$program" run "$bundle" --store "$out/engines" --save-outputs "$out/outputs.npz" "$@"
fi
report=$(date -u +%Y%m%dT%H%M%SZ).json
python3 "$program" profile "$bundle" --store "$out/engines" -o "$out/reports/$report" "$@"
# A link is put in place by renaming, so a reader never meets none.
ln -s "$report" "$out/reports/.latest.$$"
mv -T "$out/reports/.latest.$$" "$out/reports/latest.json"
echo "report $out/reports/$report"
