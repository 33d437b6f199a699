"""`python benchmarks/memory_peer_cpsat.py PROBLEM.csv CAPACITY SECONDS WORKERS`: OR-tools' CP-SAT on one problem.

Run by the Python of an environment with benchmarks/requirements-memory.txt. The model is the usual one: a rectangle for
each buffer, its time fixed and its offset free, no two overlapping (AddNoOverlap2D); sizes over their greatest common
divisor; and, which helps CP-SAT, one-dimensional no-overlap for each maximal set of buffers alive together. Prints one
line of JSON: status, seconds, offsets.
"""

import csv
import functools
import json
import math
import sys
import time

from ortools.sat.python import cp_model


def main() -> None:
    path, capacity, seconds, workers = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    with open(path, encoding="utf-8") as stream:
        rows = [(int(r["lower"]), int(r["upper"]), int(r["size"])) for r in csv.DictReader(stream)]
    unit = functools.reduce(math.gcd, (size for _, _, size in rows))
    began = time.monotonic()
    model = cp_model.CpModel()
    offsets = [model.NewIntVar(0, capacity // unit - size // unit, "") for _, _, size in rows]
    across = [model.NewFixedSizeIntervalVar(o, size // unit, "") for o, (_, _, size) in zip(offsets, rows)]
    down = [model.NewFixedSizeIntervalVar(lower, upper - lower, "") for lower, upper, _ in rows]
    model.AddNoOverlap2D(down, across)
    starts, ends = sorted({lower for lower, _, _ in rows}), sorted({upper for _, upper, _ in rows})
    for at, tick in enumerate(starts):
        end = next(e for e in ends if e > tick)
        if at + 1 == len(starts) or end <= starts[at + 1]:
            model.AddNoOverlap([a for a, (lower, upper, _) in zip(across, rows) if lower <= tick < upper])
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = workers
    status = solver.Solve(model)
    found = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    print(json.dumps({
        "status": solver.StatusName(status), "seconds": time.monotonic() - began,
        "offsets": [solver.Value(o) * unit for o in offsets] if found else None,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
