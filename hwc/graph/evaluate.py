"""Runs a graph as it is written: the judge of every rewrite, precision and export.

ONNX Runtime on the CPU with all of its own graph optimizations off, so that a node of the graph is a node that runs.
What it has no kernel for goes to onnx's reference evaluator, which is slow and says so. Weights above protobuf's limit
are handled by writing the model to a temporary folder first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from hwc.errors import EngineError
from hwc.graph.save import save_model


class Evaluator:
    """A graph ready to run. `judge` names who runs it: "onnxruntime" or "reference"."""

    def __init__(self, model: ir.Model | Path) -> None:
        """Loads the graph.

        Raises:
            EngineError: neither judge takes it.
        """
        self.judge = "onnxruntime"
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        path = model if isinstance(model, Path) else self._write(model)
        try:
            self._session: Any = _open_onnxruntime(path)
            self.outputs = [output.name for output in self._session.get_outputs()]
        except Exception as error:  # its kinds differ by build; all mean "I cannot load this"
            self._session = None
            self._evaluator = _open_reference(path, error)
            self.outputs = list(self._evaluator.output_names)
            self.judge = "reference"

    def _write(self, model: ir.Model) -> Path:
        self._temporary = tempfile.TemporaryDirectory(prefix="hwc-evaluate-")
        path = Path(self._temporary.name) / "model.onnx"
        save_model(model, path)
        return path

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Output name -> array.

        Raises:
            EngineError: the judge failed on these feeds.
        """
        try:
            runner = self._session or self._evaluator
            return dict(zip(self.outputs, runner.run(None, dict(feeds))))
        except Exception as error:  # onnxruntime's and the evaluator's kinds are not stable
            raise EngineError(
                f"{self.judge} cannot run the graph",
                got=f"{type(error).__name__}: {str(error)[:400]}",
                do="check the inputs' shapes and values; `hwc inspect MODEL` lists what the graph expects",
            ) from None


def _open_onnxruntime(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _open_reference(path: Path, first: Exception) -> Any:
    import onnx
    from onnx.reference import ReferenceEvaluator

    try:
        return ReferenceEvaluator(onnx.load(path))
    except Exception as error:  # an unknown operator, mostly
        raise EngineError(
            "neither ONNX Runtime nor the reference evaluator can run this graph",
            where=path.name,
            got=f"{str(first)[:200]}; {str(error)[:200]}",
            do="an operator of another domain cannot be judged here",
        ) from None
