"""Writes a model so that every reader takes it: one file, or a file with its weights beside it above 1.5 GB.

protobuf refuses a message of 2 GiB, so large weights go into `<name>.data`, 4 KiB aligned for memory mapping.
"""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

_ONE_FILE_BYTES = 1_500_000_000


def save_model(model: ir.Model, path: Path) -> None:
    """Writes the model; weights go to `path.name + ".data"` beside it if all together exceed 1.5 GB."""
    weights = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    ir.save(model, path, external_data=f"{path.name}.data" if weights > _ONE_FILE_BYTES else None)
