"""build.json: what a board builds from its bundle, as `hwc compile` decided it.

The manifest says what the bundle is; this says what its builder is to be told: the model file, the precision of all
that is not quantized, options with the reason for each that `hwc` chose itself, the second INT8 dialect where the
target's TensorRT reads one (a float model with a calibration cache, for the DLA and the implicit path), and the example
inputs with the outputs that the engine has to give.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping, Tuple

from hwc.artifacts import Bundle
from hwc.engines.tensorrt_options import FILES
from hwc.errors import TargetError, UsageError
from hwc.serialize import from_json, to_json

REQUEST = "build.json"
ENGINES = ("tensorrt", "tensorrt_rtx")  # what a board builds; the other engines are built by `hwc compile`


@dataclass(frozen=True)
class BoardRequest:
    """Names of files are relative to the bundle folder.

    `why` maps an option to the sentence that explains its value. `implicit` maps "model" and "calibration_cache" to
    the files of the second dialect, and is empty where there is none. `feeds` and `expected` are empty where the
    arrays were too large to travel; `tolerance` names the row of hwc/compare.py that they are judged by.
    """

    engine: str
    model: str
    precision: str
    tolerance: str
    options: Mapping[str, str] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)
    implicit: Mapping[str, str] = field(default_factory=dict)
    plugins: Tuple[str, ...] = ()
    feeds: str = ""
    expected: str = ""

    def files(self) -> Tuple[str, ...]:
        """Every file that the request names."""
        named = (self.model, *self.implicit.values(), *self.plugins, self.feeds, self.expected)
        return tuple(name for name in (*named, *option_files(self.options)) if name)


def option_files(options: Mapping[str, str]) -> Tuple[str, ...]:
    """The files that options of a build name; libraries among them are code that is run."""
    return tuple(name for option in FILES for name in options.get(option, "").split(",") if name)


def write_request(folder: Path, request: BoardRequest) -> None:
    """Writes build.json."""
    (folder / REQUEST).write_text(to_json(request), encoding="utf-8")


def read_request(folder: Path, bundle: Bundle) -> BoardRequest:
    """The request of a bundle whose files were verified.

    Raises:
        TargetError: this bundle's engine is of a kind that is built by `hwc compile`, not on a board.
        UsageError: build.json is missing or wrong, or names a file that the manifest does not.
    """
    if bundle.engine.backend not in ENGINES:
        raise TargetError(
            f"a bundle for {bundle.target.name} holds its engine already", expected=" or ".join(ENGINES),
            got=bundle.engine.backend, do="run it where hwc is installed: `hwc run DIR`",
        )  # fmt: skip
    if REQUEST not in bundle.files:
        raise UsageError(
            f"the bundle has no {REQUEST}", where=str(folder), got=f"hwc {bundle.versions.get('hwc', 'unknown')}",
            do="compile again with this version of hwc",
        )  # fmt: skip
    request = from_json(BoardRequest, (folder / REQUEST).read_text(encoding="utf-8"))
    strange = [name for name in request.files() if name not in bundle.files]
    if strange or request.engine not in ENGINES:
        raise UsageError(
            f"{REQUEST} asks for what this bundle does not have", where=str(folder),
            got=", ".join(strange) or f"engine {request.engine}", do="compile again, or copy the bundle again",
        )  # fmt: skip
    return request
