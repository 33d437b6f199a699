"""Puts into a bundle what its board needs to go on alone: hwc.pyz, build.json, example inputs and expected outputs.

The expected outputs are those of the captured graph in FP32, the same that `hwc compile` judges every engine by, so a
board can say "verified" of an engine that this machine could never run. Arrays over CHECK_LIMIT bytes together stay
behind, and a note says so.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from hwc.artifacts import Engine
from hwc.board_request import ENGINES, BoardRequest, write_request
from hwc.capture import FEEDS, MODEL
from hwc.engines.tensorrt_options import FILES
from hwc.optimize import EXPECTED, Optimized
from hwc.write_zipapp import ZIPAPP, write_zipapp

CHECK_LIMIT = 64 << 20
CHECK_FEEDS, CHECK_EXPECTED = "check.feeds.npz", "check.expected.npz"


def equip_bundle(
    stage: Path, engine: Engine, optimized: Optimized, *, rest: str, implicit: Mapping[str, str], model: str = MODEL
) -> tuple[str, ...]:
    """Writes the files into `stage` where the engine is one that a board builds; notes for the manifest.

    Args:
        rest: the precision of layers without integers in an INT8 graph.
        implicit: the files of the second INT8 dialect, if there is one (see `BoardRequest`).
        model: the file in `stage` that the board builds from.
    """
    if engine.backend not in ENGINES:
        return ()
    notes: tuple[str, ...] = ()
    arrays = {CHECK_FEEDS: optimized.folder / FEEDS, CHECK_EXPECTED: optimized.folder / EXPECTED}
    size = sum(path.stat().st_size for path in arrays.values())
    if size <= CHECK_LIMIT:
        for name, path in arrays.items():
            shutil.copyfile(path, stage / name)
    else:
        arrays = {}
        notes = (f"{size / 1e6:.0f} MB of example inputs and outputs stay here: the board cannot verify its engine",)
    # Their digests are in the key and their names are not: they lie on this machine.
    options = {name: value for name, value in engine.key.options if name != "threads"}  # of the CPU's engines
    elsewhere = [name for name in FILES if name in options and not (stage / options[name]).is_file()]
    if elsewhere:
        notes += (f"built with files of this machine ({', '.join(elsewhere)}), which a board does not get from here",)
    reasons = [note for note in engine.notes if note.split(": ", 1)[0] in options]
    request = BoardRequest(
        engine=engine.backend,
        model=model,
        precision=rest if optimized.precision == "int8" else optimized.precision,
        tolerance="int8" if _is_quantized(stage / MODEL) else optimized.precision,
        options={name: value for name, value in options.items() if name not in elsewhere},
        why=dict(note.split(": ", 1) for note in reasons),
        implicit=implicit,
        feeds=CHECK_FEEDS if arrays else "",
        expected=CHECK_EXPECTED if arrays else "",
    )
    write_request(stage, request)
    write_zipapp(stage / ZIPAPP)
    return notes


def _is_quantized(model: Path) -> bool:
    """Whether Q/DQ carry integers through the graph, also where the user's own file brought them."""
    import onnx_ir as ir

    return any(node.op_type == "QuantizeLinear" for node in ir.load(model).graph.all_nodes())
