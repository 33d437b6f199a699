"""Runs a compiled OpenVINO model, times its kernels and reads its execution graph.

Each node of the execution graph (`get_runtime_model`) carries its kind, its primitive and the names of the operators
that were fused into it; the profiler says which of them ran and for how long.
Source: https://docs.openvino.ai/2025/api/ie_python_api/_autosummary/openvino.CompiledModel.html.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hwc.artifacts import Kernel, TensorSpec
from hwc.engines.base import Session, check_feeds
from hwc.engines.openvino_names import Names
from hwc.errors import EngineError

# Signedness says nothing about the arithmetic: both are 8-bit integer kernels.
_PRECISIONS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "i8": "int8", "u8": "int8", "i32": "int32", "i64": "int64"}


class OpenVinoSession(Session):
    """See `Session`. Synchronous, one request at a time."""

    def __init__(
        self,
        path: Path,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        settings: Mapping[str, Any],
        names: Names,
        profile: bool,
    ) -> None:
        import openvino as ov

        self.inputs, self.outputs = inputs, outputs
        self._names, self._profile = names, profile
        self._times: dict[str, list[float]] = {}
        config = {
            "INFERENCE_PRECISION_HINT": settings["hint"],
            "PERFORMANCE_HINT": "LATENCY",
            "PERF_COUNT": profile,
            "NUM_STREAMS": 1,
        }
        if settings["threads"]:
            config["INFERENCE_NUM_THREADS"] = settings["threads"]
        try:
            core = ov.Core()
            self._compiled: Any = core.compile_model(core.read_model(str(path)), "CPU", config)
            self._request: Any = self._compiled.create_infer_request()
            # By position: looking an output up by name in every run costs a small network several per cent.
            ports = [port.get_names() for port in self._compiled.outputs]
            self._ports = [next(i for i, found in enumerate(ports) if spec.name in found) for spec in outputs]
        except (RuntimeError, StopIteration) as error:
            raise EngineError("OpenVINO cannot compile this model", where=path.name, got=last_line(error)) from error

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._request is None:
            raise EngineError("this session is closed", do="open a new session")
        check_feeds(self.inputs, feeds)
        try:
            self._request.infer(dict(feeds), share_inputs=True, share_outputs=True)
            # The next run overwrites the request's own outputs: the caller gets copies.
            values = {
                spec.name: self._request.get_output_tensor(port).data.copy()
                for spec, port in zip(self.outputs, self._ports)
            }
        except (RuntimeError, KeyError) as error:
            raise EngineError("OpenVINO failed", got=last_line(error)) from error
        if self._profile:
            for info in self._request.get_profiling_info():
                if info.status == info.Status.EXECUTED:
                    self._times.setdefault(info.node_name, []).append(info.real_time.total_seconds() * 1e6)
        return values

    def layers(self) -> tuple[Kernel, ...]:
        if not self._times:
            return ()
        return tuple(
            Kernel(
                name=name,
                kind=info["layerType"],
                precision=_precision(info),
                sources=self._names.sources(info["originalLayersNames"].split(",")),
                time_us=statistics.median(self._times[name]),
            )
            for name, info in self._nodes()
            if name in self._times
        )

    def untimed_kernels(self) -> tuple[Kernel, ...]:
        """`layers` without times: what belongs to the engine and not to one run of it."""
        return tuple(Kernel(kernel.name, kernel.kind, kernel.precision, kernel.sources) for kernel in self.layers())

    def saturating_kernels(self) -> int:
        """INT8 convolutions and products whose x86 instruction (vpmaddubsw) adds pairs of products in 16 bits."""
        kinds = ("Convolution", "GroupConvolution", "FullyConnected", "MatMul", "Deconvolution")
        primitives = (info["primitiveType"].lower() for _, info in self._nodes() if info["layerType"] in kinds)
        return sum(
            text.endswith("_i8") and "vnni" not in text and "amx" not in text and ("avx" in text or "sse" in text)
            for text in primitives
        )

    def idle_nodes(self) -> list[tuple[str, int]]:
        """(kind, how many) of the execution graph's nodes that never ran, borders and constants left out."""
        kinds = (info["layerType"] for name, info in self._nodes() if name not in self._times)
        return Counter(kind for kind in kinds if kind not in ("Input", "Output", "Const")).most_common()

    def _nodes(self) -> list[tuple[str, dict[str, str]]]:
        """(name, properties) of the execution graph in the order its nodes run."""
        if self._compiled is None:
            return []
        nodes = []
        for node in self._compiled.get_runtime_model().get_ordered_ops():
            found = {key: value.astype(str) for key, value in node.get_rt_info().items()}
            nodes.append((int(found.get("execOrder", 0)), node.get_friendly_name(), found))
        return [(name, found) for _, name, found in sorted(nodes, key=lambda node: node[0])]

    def close(self) -> None:
        self._request = self._compiled = None


def _precision(info: Mapping[str, str]) -> str:
    """The arithmetic of a node, from its primitive: "brgconv_avx2_f32", "jit_avx2_I8".

    `runtimePrecision` is the second choice: it calls an fp32 convolution f16 when only its stored weights are.
    """
    last = info["primitiveType"].rsplit("_", 1)[-1].lower()
    return _PRECISIONS.get(last) or _PRECISIONS.get(info["runtimePrecision"], info["runtimePrecision"])


def last_line(error: BaseException) -> str:
    """The last line of an OpenVINO message: the lines before it name places in OpenVINO's own source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
