"""Writes a model so that every reader takes it: one file, or a file with its weights beside it above 1.5 GB.

protobuf refuses a message of 2 GiB, so large weights go into `<name>.data`, 4 KiB aligned for memory mapping.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import onnx_ir as ir

from hwc.errors import UsageError

_ONE_FILE_BYTES = 1_500_000_000


def save_model(model: ir.Model, path: Path) -> None:
    """Writes the model; weights go to `path.name + ".data"` beside it if all together exceed 1.5 GB."""
    weights = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    ir.save(model, path, external_data=f"{path.name}.data" if weights > _ONE_FILE_BYTES else None)


def copy_model_file(source: Path, output: Path) -> None:
    """Copies an ONNX file to another name, with its weights beside it where they lie in another file.

    Raises:
        UsageError: `output` cannot be written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if not source.with_name(f"{source.name}.data").exists():
            partial = output.with_name(f".{output.name}.tmp")
            shutil.copyfile(source, partial)
            os.replace(partial, output)
            return
        # The weights' file name is written in the model, so the model is written again under its new name.
        save_model(ir.load(source), output)
    except OSError as error:
        raise UsageError("cannot write the ONNX file", where=str(output), got=str(error)) from None
