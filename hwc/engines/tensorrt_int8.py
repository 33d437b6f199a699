"""INT8 by scales beside the graph: TensorRT's implicit path, which exists up to 10 and is the DLA's own dialect.

Two forms of one table. A calibration cache (text, `hwc/calibrate/cache.py` writes it) goes through a calibrator that
hands the cache over and has no data: if TensorRT asks it for a batch, the cache was not taken (its header names another
version or algorithm), and the build is refused instead of being calibrated on nothing. Dynamic ranges are set tensor by
tensor: amax = scale * 127, or scale * 255 for a uint8 tensor, which TensorRT's symmetric int8 then holds half as fine.

A tensor without a scale is computed in floats; how many have one is reported, and no match at all is refused, because
then the table belongs to another graph.

Sources: NvInfer.h of TensorRT 8.5 and 10.16 (IInt8Calibrator, ITensor::setDynamicRange);
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html.

This file is part of the device half: Python 3.8, standard library only; the module is an argument.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, List, Set

from hwc.artifacts import QuantTable
from hwc.engines.tensorrt_options import Options
from hwc.errors import EngineError, TargetError, UsageError
from hwc.serialize import from_json

_HEADER = re.compile(r"TRT-(\d+)-(\w+)")
_ALGORITHM = "EntropyCalibration2"
_LEVELS = {"int8": 127.0, "uint8": 255.0}


class Scales:
    """What was given to the builder; `check` says after the build whether it was taken."""

    def __init__(self, note: str, calibrator: Any = None) -> None:
        self.note = note
        self.calibrator = calibrator  # the builder keeps only a pointer to it

    def check(self) -> None:
        """Raises EngineError if TensorRT wanted to calibrate by itself."""
        if self.calibrator is not None and self.calibrator.asked:
            raise EngineError(
                "TensorRT did not take the calibration cache and asked for data to calibrate on",
                expected="a cache of this very TensorRT and algorithm",
                do="write the cache for this version, or use dynamic_ranges or a graph with Q/DQ",
            )


def set_scales(trt: Any, network: Any, config: Any, options: Options, folder: Path) -> Scales:
    """Gives the builder the INT8 scales of the file that the options name, relative to `folder`.

    Raises:
        TargetError: this TensorRT has no implicit INT8, or the cache is for another one.
        UsageError: the file cannot be read, or no tensor of it is in the network.
    """
    by_cache = bool(options.named("calibration_cache"))
    (name,) = options.named("calibration_cache") or options.named("dynamic_ranges")
    path = folder / name
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("cannot read the INT8 scales", where=str(path), got=str(error)) from None
    tensors = network_tensors(network)
    if by_cache:
        _require(trt, hasattr(trt, "IInt8EntropyCalibrator2") and hasattr(config, "int8_calibrator"),
                 "calibrators")  # fmt: skip
        check_header(text, version_int(str(trt.__version__)), f"{trt.__name__} {trt.__version__}")
        named = {line.rpartition(": ")[0] for line in text.splitlines()[1:] if ": " in line}
        matched = _matched(named, tensors, name)
        calibrator = make_calibrator(trt, text.encode("utf-8"))
        config.int8_calibrator = calibrator
        return Scales(f"INT8 scales from the calibration cache: {matched}", calibrator)
    first = next(iter(tensors.values()))
    _require(trt, hasattr(first, "dynamic_range"), "dynamic ranges")
    table = from_json(QuantTable, text)
    matched = _matched(set(table.tensors), tensors, name)
    for tensor, scale in table.tensors.items():
        if tensor in tensors:
            if scale.axis is not None or len(scale.scale) != 1:
                raise UsageError("a dynamic range is one per tensor", where=tensor, got=f"axis {scale.axis}")
            amax = scale.scale[0] * _LEVELS[scale.dtype]
            if not tensors[tensor].set_dynamic_range(-amax, amax):
                raise EngineError("TensorRT refuses a dynamic range", where=tensor, got=f"-{amax} to {amax}")
    return Scales(f"INT8 scales from dynamic ranges: {matched}")


def network_tensors(network: Any) -> Dict[str, Any]:
    """Name -> ITensor of every input and every layer's output."""
    tensors = [network.get_input(index) for index in range(network.num_inputs)]
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        tensors += [layer.get_output(output) for output in range(layer.num_outputs)]
    return {tensor.name: tensor for tensor in tensors}


def make_calibrator(trt: Any, cache: bytes) -> Any:
    """An IInt8EntropyCalibrator2 that knows one cache and no data. `asked` tells whether it was asked for data."""

    class CacheOnly(trt.IInt8EntropyCalibrator2):
        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)
            self.asked = False

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: List[str]) -> None:
            # Not an exception: this is called from C++, which may end the process on one.
            self.asked = True

        def read_calibration_cache(self) -> bytes:
            return cache

        def write_calibration_cache(self, new: Any) -> None:
            """Nothing is kept: the cache belongs to whoever made it."""

    return CacheOnly()


def version_int(version: str) -> str:
    """The number in the cache header of a TensorRT of that version: "8.5.2.2" -> "8502", "10.3.0" -> "100300"."""
    major, minor, patch = (int(part) for part in (re.findall(r"\d+", version) + ["0", "0", "0"])[:3])
    return str(major * (10000 if major >= 10 else 1000) + minor * 100 + patch)


def check_header(text: str, version: str, builder: str) -> None:
    """Refuses a calibration cache that a TensorRT of that version number ("8502") would pass over.

    Raises:
        UsageError: no such cache.
        TargetError: one of another version or algorithm.
    """
    header = (text.splitlines() or [""])[0].strip()
    found = _HEADER.fullmatch(header)
    if found is None:
        raise UsageError(
            "this is no TensorRT calibration cache", expected=f"TRT-<version>-{_ALGORITHM}", got=repr(header[:60])
        )
    if found.groups() != (version, _ALGORITHM):
        raise TargetError(
            "the calibration cache is for another TensorRT, which would ignore it and calibrate anew",
            expected=f"TRT-{version}-{_ALGORITHM} for {builder}",
            got=header,
            do="compile the bundle for this version, or use dynamic_ranges, which have no version",
        )


def _matched(named: Set[str], tensors: Dict[str, Any], name: str) -> str:
    found = len(named & set(tensors))
    if not found:
        raise UsageError(
            "no tensor of the INT8 scales is in this network", where=name,
            expected=", ".join(sorted(tensors)[:3]), got=", ".join(sorted(named)[:3]) or "no scales",
            do="give the scales that were made for this very graph",
        )  # fmt: skip
    return f"{found} of its {len(named)} names are among the network's {len(tensors)} tensors"


def _require(trt: Any, is_there: bool, what: str) -> None:
    if not is_there:
        raise TargetError(
            f"this TensorRT has no {what}", got=f"{trt.__name__} {trt.__version__}",
            do="compile a graph with Q/DQ for it: TensorRT 11 takes no other INT8",
        )  # fmt: skip

