"""`python -m benchmarks.networks NAME SHAPE OUT.onnx`: one network of the table as an ONNX file, random weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.networks import NETWORKS, build_network
from benchmarks.networks.graph import save_network


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks", description=__doc__)
    parser.add_argument("name", choices=sorted(NETWORKS), metavar="NAME")
    parser.add_argument("shape", metavar="SHAPE", help="of one input, as 3x224x224")
    parser.add_argument("out", type=Path, metavar="OUT.onnx")
    args = parser.parse_args()
    save_network(build_network(args.name, tuple(int(d) for d in args.shape.split("x"))), args.out)


if __name__ == "__main__":
    main()
