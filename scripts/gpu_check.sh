#!/usr/bin/env bash
# What only a GPU can show, in one run of a few minutes: scripts/gpu_check.sh [OUT_DIR] [BUNDLES_DIR]
#
#   device         name, driver, memory
#   cuda_memory    pinned copies, streams and events by the driver API, and by pycuda where it is installed
#   nvml           NVML's energy counter against the integral of its samples, idle and under load
#   overlap        copies on one stream while another one computes
#   engines        each bundle of BUNDLES_DIR: is its plan loaded, does it run, are its outputs those of expected.npz
#
# Needs python3 with numpy; torch, if there, makes the load. Nothing here changes a setting of the card. Each part is
# bounded in time, and one that fails is a line in the result and not the end of the run.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-benchmarks/gpu/results}
bundles=${2:-}
mkdir -p "$out"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
exec timeout 420 python3 -m benchmarks.gpu.check_gpu --out "$out" ${bundles:+--bundles "$bundles"}
