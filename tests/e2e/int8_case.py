"""One small network with its samples, captured and optimized for a target: where the tests of INT8 start from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from hwc.artifacts import Target
from hwc.build import build_engine
from hwc.capture import capture_model
from hwc.choose_precision import GuardOptions, PrecisionRequest
from hwc.compile import resolve_target
from hwc.engines.base import no_progress
from hwc.frontend.input_shapes import InputShapes
from hwc.optimize import Optimized, OptimizeOptions, optimize_model
from hwc.quantize import IMPROVEMENTS, CalibrationOptions
from hwc.store import Store
from tests.e2e.labelled import write_classifier, write_samples

CALIBRATED, JUDGED = 100, 200
LIMIT = 3.0  # points; 200 samples without a difference bound the drop to 2.1


@dataclass(frozen=True)
class Case:
    """A network, its samples and a step cache. `floating` is what `auto` settled on for the target."""

    folder: Path
    model: Path
    data: Path
    store: Store
    target: Target
    full: Optimized
    floating: Optimized

    def options(self, **changes: object) -> CalibrationOptions:
        # Without improvements: they take their time, and one of them mends the layer that tests want broken.
        plain = CalibrationOptions(str(self.data), samples=CALIBRATED, without=IMPROVEMENTS, rounding_seconds=0.0)
        return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]

    def request(self, asked: str = "int8", *, guard: GuardOptions | None = None, **changes: object) -> PrecisionRequest:
        target, backend = self.target, self.target.engine

        def build(optimized: Optimized):
            return build_engine(optimized, target, backend, {}, 0, store=self.store, progress=no_progress)[0]

        return PrecisionRequest(
            name="classifier", target=target, backend=backend, full=self.full, floating=self.floating, asked=asked,
            calibration=self.options(**changes), guard=guard or GuardOptions(max_drop=LIMIT), build=build,
            engine_key="tests",
        )  # fmt: skip


def make_case(folder: Path, *, target: str = "cpu", outlier: float = 1.0, store: Store | None = None) -> Case:
    """The classifier of `labelled`, with CALIBRATED + JUDGED samples."""
    store = store or Store(folder / "cache")
    model = write_classifier(folder, outlier=outlier)
    data = write_samples(folder, model, CALIBRATED + JUDGED)
    hardware = resolve_target(target, store)
    captured, _ = capture_model(str(model), InputShapes(), store=store)
    graphs = [
        optimize_model(captured, hardware, OptimizeOptions(p, hardware.engine), store=store, progress=no_progress)[0]
        for p in ("fp32", "auto")
    ]
    return Case(folder, model, data, store, hardware, graphs[0], graphs[1])
