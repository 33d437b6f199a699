"""The command line: one file per verb, each a thin layer that turns flags into one library call and prints the result.

No file here imports anything heavy at the top, so `hwc --help` answers in under 0.2 s (a test holds it to that).
"""

from __future__ import annotations

import click

import hwc
from hwc.cli.bisect import bisect
from hwc.cli.calibrate import calibrate
from hwc.cli.command import Group
from hwc.cli.compare import compare
from hwc.cli.compile import compile_command
from hwc.cli.deploy import deploy
from hwc.cli.docker import docker
from hwc.cli.doctor import doctor
from hwc.cli.estimate import estimate
from hwc.cli.explain import explain
from hwc.cli.export import export
from hwc.cli.inspect import inspect
from hwc.cli.memory import memory
from hwc.cli.optimize import optimize
from hwc.cli.pack import pack
from hwc.cli.profile import profile
from hwc.cli.run import run
from hwc.cli.targets import targets
from hwc.cli.unpack import unpack


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(hwc.__version__, prog_name="hwc")
def main() -> None:
    """Compile PyTorch and ONNX models for TensorRT, NVIDIA Jetson and the CPU, and measure what came out."""


for command in (
    compile_command, calibrate, bisect, explain, inspect, memory, estimate, profile, run, compare, optimize, export,
    pack, unpack, deploy, docker, targets, doctor,
):  # fmt: skip
    main.add_command(command)
