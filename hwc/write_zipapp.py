"""Writes `hwc.pyz`: the device half of `hwc` as one file that a board's own Python runs.

    1. The files are the roots below and, in turn, every file of `hwc` that one of them imports, at the top or inside a
       function. Engines are loaded by name, so each of the board's is a root.
    2. An import of something that no board has (torch, onnx, click, ...) anywhere in them is refused: by then it would
       be too late to learn of it.
    3. The targets' TOML files become one data.json, since Python 3.8 has no reader of TOML.
    4. All is stored, not compressed, in one order and with one date: equal sources give equal bytes, on any machine.

`__main__.py` is written so that any Python can read it, because its first task is to say which Python is too old.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

from hwc import targets
from hwc.errors import InternalError

ZIPAPP = "hwc.pyz"
ROOTS = ("device_cli.py", "deploy.py", "engines/tensorrt*.py", "targets/ask_cuda.py")
# Host packages by their import names; numpy, tensorrt, tensorrt_rtx and pycuda are what a board may have.
FORBIDDEN = frozenset(
    {"click", "ml_dtypes", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "openvino", "PIL", "polygraphy", "rich",
     "tomli", "torch"}
)  # fmt: skip
_LATE = {("hwc.targets", "tomli")}  # read behind a check of Python's version, and never on a board
_SHEBANG = b"#!/usr/bin/env python3\n"
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold
_MAIN = '''\
"""Runs the device half of hwc: python3 hwc.pyz VERB."""
import sys

if sys.version_info < (3, 8):
    sys.stderr.write(
        "TargetError: hwc.pyz needs Python 3.8 or newer\\n"
        "  got:       Python %s\\n"
        "  do:        use JetPack 5 or newer, or install Python 3.8 with numpy and TensorRT's bindings for it\\n"
        % sys.version.split()[0]
    )
    sys.stdout.write("&&&& FAILED hwc\\n")
    sys.exit(3)

from hwc.device_cli import start

if __name__ == "__main__":
    sys.exit(start())
'''


def device_files(package: Path) -> dict[str, Path]:
    """Module name -> file of the device half of the `hwc` package in that folder.

    Raises:
        InternalError: a file imports what no board has; names the file and the import.
    """
    waiting = [path for pattern in ROOTS for path in sorted(package.glob(pattern))]
    found: dict[str, Path] = {}
    while waiting:
        path = waiting.pop()
        name = _module_name(path, package)
        if name in found:
            continue
        found[name] = path
        for imported in sorted(_imports(path)):
            top = imported.split(".")[0]
            if top in FORBIDDEN and (name, imported) not in _LATE:
                raise InternalError(
                    f"the device half imports {top}", where=str(path.relative_to(package)),
                    expected="the standard library, numpy and TensorRT", got=imported,
                    do="move what needs it to the host half",
                )  # fmt: skip
            if top == "hwc":
                waiting += _places(imported, package)
    return dict(sorted(found.items()))


@functools.cache
def zipapp_bytes() -> bytes:
    """The whole file."""
    package = Path(__file__).parent
    content = {
        f"{name.replace('.', '/')}{'/__init__' if path.name == '__init__.py' else ''}.py": path.read_bytes()
        for name, path in device_files(package).items()
    }
    packed = {name: targets.read_raw(name) for name in targets.names()}
    content[f"hwc/targets/{targets.PACKED}"] = json.dumps(packed, sort_keys=True, separators=(",", ":")).encode()
    content["__main__.py"] = _MAIN.encode()
    buffer = io.BytesIO()
    buffer.write(_SHEBANG)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(content.items()):
            info = zipfile.ZipInfo(name, _DATE)
            info.external_attr, info.create_system = 0o100644 << 16, 3
            archive.writestr(info, data)
    return buffer.getvalue()


def write_zipapp(path: Path) -> str:
    """Writes the file and makes it executable; its sha256.

    Raises:
        InternalError: the device half has grown an import that no board has.
    """
    data = zipapp_bytes()
    path.write_bytes(data)
    os.chmod(path, 0o755)
    return hashlib.sha256(data).hexdigest()


def _module_name(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path) -> set[str]:
    """Every dotted name that an import statement of the file may mean."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _places(name: str, package: Path) -> list[Path]:
    """The file of a module of `hwc` and the packages above it; nothing for a name inside a module."""
    parts = name.split(".")
    places = [package.joinpath(*parts[1:end], "__init__.py") for end in range(1, len(parts) + 1)]
    places.append(package.joinpath(*parts[1:]).with_suffix(".py"))
    return [place for place in places if place.is_file()]
