"""The contestants of the suite: hwc's engine, and three peers as a careful user would run them.

| name        | what runs                                                                                          |
|-------------|----------------------------------------------------------------------------------------------------|
| hwc         | the engine of `hwc compile -t cpu`, loaded from its bundle                                         |
| openvino    | the plain file, compiled for the CPU with the latency hint and the arithmetic stated (f32 or bf16) |
| onnxruntime | the plain file, default session options                                                            |
| torch       | the module in eager mode, eval, inference_mode; under autocast for bf16                            |

All get the same number of threads, the same arrays and fixed shapes (see benchmarks/plain.py). What a library offers
beyond that (ahead-of-time compilation, other memory formats, binding of buffers) is left out on all sides. Every `run`
takes numpy arrays and gives numpy arrays, by the calls that the library's documentation shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from benchmarks.models import Entry
from benchmarks.plain import Plain, bind_feeds, source_for_hwc
from hwc.artifacts import TensorSpec
from hwc.engines.base import Session
from hwc.errors import TargetError, UsageError
from hwc.sessions import open_bundle
from hwc.store import Store

HINTS = {"fp32": "f32", "bf16": "bf16"}


class PlainSession(Session):
    """A peer. Its inputs are those of the plain file; outputs come back as "0", "1", ... in the file's order."""

    def __init__(self, plain: Plain, infer: Callable[[dict[str, np.ndarray]], list[np.ndarray]]) -> None:
        self.inputs, self.outputs = plain.inputs, plain.outputs
        self._infer = infer

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {str(place): value for place, value in enumerate(self._infer(dict(feeds)))}


def open_openvino(
    plain: Plain, precision: str, threads: int, properties: Mapping[str, object] | None = None
) -> Session:
    """The plain file in OpenVINO; `properties` are added to those that all are compiled with."""
    import openvino as ov

    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        **(properties or {}),
    }
    compiled = ov.Core().compile_model(str(plain.path), "CPU", config)
    request, ports = compiled.create_infer_request(), compiled.outputs

    def infer(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        # Inputs shared and outputs copied, as hwc's own session does it.
        made = request.infer(feeds, share_inputs=True, share_outputs=False)
        return [made[port] for port in ports]

    return PlainSession(plain, infer)


def open_onnxruntime(plain: Plain, precision: str, threads: int) -> Session:
    """Raises TargetError for bf16, which ONNX Runtime has no kernels for on a CPU."""
    import onnxruntime as ort

    if precision != "fp32":
        raise TargetError(f"ONNX Runtime has no {precision} on the CPU")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # silence only; its warnings are about its own passes
    session = ort.InferenceSession(str(plain.path), options, providers=["CPUExecutionProvider"])
    return PlainSession(plain, lambda feeds: session.run(None, feeds))


def open_torch(plain: Plain, precision: str, threads: int) -> Session:
    """Raises UsageError where the network is an ONNX file and there is no module."""
    import torch
    from torch.utils import _pytree as pytree

    if plain.module is None:
        raise UsageError("the network is an ONNX file")
    torch.set_num_threads(threads)
    module = plain.module.eval()

    def infer(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        tensors = [torch.from_numpy(array) for array in feeds.values()]
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            made = pytree.tree_leaves(module(*tensors))
        # numpy has no bfloat16; widening is part of what a user must do to read the result.
        return [(value.float() if value.dtype == torch.bfloat16 else value).numpy() for value in made]

    return PlainSession(plain, infer)


@contextmanager
def open_hwc(entry: Entry, precision: str, threads: int, store: Store, folder: Path) -> Iterator[Session]:
    """The bundle of `hwc compile`, written into `folder` and opened from there.

    Raises:
        HwcError: the compilation failed.
    """
    from hwc.compile import CompileRequest, compile_model

    model, shapes = source_for_hwc(entry, store.root / "sources")
    request = CompileRequest(
        model=model, target="cpu", out=folder / "bundle", precision=precision, shapes=shapes, threads=threads
    )
    compile_model(request, store=store)
    with open_bundle(folder / "bundle", threads=threads) as session:
        yield session


PEERS: dict[str, Callable[[Plain, str, int], Session]] = {
    "openvino": open_openvino,
    "onnxruntime": open_onnxruntime,
    "torch": open_torch,
}
NAMES = ("hwc", *PEERS)


def openers(
    entry: Entry, plain: Plain, precision: str, threads: int, store: Store, folder: Path, stack: ExitStack
) -> dict[str, Callable[[], Session]]:
    """Name -> a function that opens that contestant; `stack` closes what needs closing."""

    def open_peer(name: str) -> Session:
        return PEERS[name](plain, precision, threads)

    def open_own() -> Session:
        return stack.enter_context(open_hwc(entry, precision, threads, store, folder))

    named: dict[str, Callable[[], Session]] = {"hwc": open_own}
    named.update({name: lambda name=name: open_peer(name) for name in PEERS})  # type: ignore[misc]
    return named


def judge_outputs(plain: Plain, examples: dict[str, np.ndarray], threads: int) -> tuple[str, dict[str, np.ndarray]]:
    """Who is believed, and its outputs in fp32: torch where there is a module, else ONNX Runtime on the plain file."""
    name = "onnxruntime" if plain.module is None else "torch"
    with PEERS[name](plain, "fp32", threads) as session:
        return name, session.run(bind_feeds(plain.inputs, examples))


def describe_inputs(specs: tuple[TensorSpec, ...]) -> str:
    """'3x224x224' of each input, joined."""
    return ", ".join("x".join(map(str, spec.at("opt"))) or "scalar" for spec in specs)
