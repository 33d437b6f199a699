"""Finds out what MODEL names, and loads it without unpickling anything.

    net.onnx                      an ONNX file
    file.py:callable              a Python file; package.module:callable likewise
    net.pt2                       an exported program (`torch.export.save`)
    net.pt, .pth, .torchscript    a TorchScript archive (`torch.jit.save`)

The callable is an nn.Module, an nn.Module class, or a function without arguments that returns a module or the path of
an ONNX file. Real inputs come from `<callable>_inputs` or `example_inputs` beside it: a value, or a function without
arguments.

Limits: a Python file is code and is run; so is a TorchScript archive's, inside torch's own interpreter. A checkpoint
(weights without a network) and a pickled module are refused with advice. Exported programs are read with torch.load
held to weights only, and refused if they carry pickled objects; their symbolic expressions are still parsed by sympy,
so take .pt2 files from people you trust. Source: torch 2.13, torch/export/pt2_archive/_package.py.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import traceback
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from hwc.errors import HwcError, UsageError

_TORCH_SUFFIXES = (".pt", ".pth", ".torchscript", ".ts", ".jit", ".ckpt", ".bin")
_FORMS = "net.onnx, file.py:callable, package.module:callable, net.pt2 or a TorchScript file"


@dataclass(frozen=True)
class ModelSource:
    """What MODEL names. `kind` is "onnx", "python", "torchscript" or "exported_program".

    `path` is None for `package.module:callable`, whose module name is then in `module`.
    """

    kind: str
    path: Path | None
    module: str = ""
    attribute: str = ""

    def __str__(self) -> str:
        return f"{self.path or self.module}:{self.attribute}" if self.attribute else str(self.path)


@dataclass(frozen=True)
class LoadedSource:
    """What came out: either `onnx`, the path of an ONNX file, or `module`, something that torch can call.

    `example_inputs` is what the user's file said: a tensor, a tuple, a list or a dict by argument name; else None.
    """

    source: ModelSource
    onnx: Path | None = None
    module: Any = None
    example_inputs: Any = None


def parse_source(text: str) -> ModelSource:
    """Sorts MODEL by its spelling and, for archives, by what lies inside; nothing of it is run.

    Raises:
        UsageError: not one of the forms, no such file, or a file that holds no network.
    """
    path = Path(text)
    if not path.exists() and ":" in text:
        left, attribute = text.rsplit(":", 1)
        if not all(part.isidentifier() for part in attribute.split(".")):
            raise UsageError(f"'{attribute}' is not the name of a callable", where=text, expected=_FORMS)
        if left.endswith(".py"):
            return ModelSource("python", _existing(Path(left)), "", attribute)
        if all(part.isidentifier() for part in left.split(".")):
            return ModelSource("python", None, left, attribute)
        raise UsageError(f"cannot tell what '{text}' is", expected=_FORMS)
    _existing(path)
    suffix = path.suffix.lower()
    if suffix == ".py":
        raise UsageError(f"{path.name} needs the name of a callable", expected=f"{text}:build_model", got=text)
    if suffix == ".onnx":
        return ModelSource("onnx", path)
    if suffix == ".pt2" or suffix in _TORCH_SUFFIXES:
        return ModelSource(_sort_archive(path), path)
    raise UsageError(f"cannot tell what '{path.name}' is from its suffix", expected=_FORMS)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise UsageError(f"there is no file '{path}'", do="check the path; a Python model is written file.py:callable")
    if path.is_dir():
        raise UsageError(f"'{path}' is a folder", expected=_FORMS)
    return path


def _sort_archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] or name for name in archive.namelist()]
    except zipfile.BadZipFile:
        names = []  # Checkpoints before torch 1.6 are bare pickles.
    if "archive_format" in names or any(name.startswith("models/") and name.endswith(".json") for name in names):
        return "exported_program"
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return "torchscript"
    if path.suffix.lower() == ".pt2":
        raise UsageError(f"{path.name} is not an exported program", do="save it with torch.export.save")
    _refuse_checkpoint(path)
    raise AssertionError("unreachable")


def _refuse_checkpoint(path: Path) -> None:
    """Says what the file is: weights without a network, or a pickle that would run code."""
    import torch

    advice = "write a function that builds the network and loads these weights, and give file.py:function"
    try:
        content = torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds here, from unpickling to the file system
        if "nsupported" in str(error) or "weights_only" in str(error).lower():
            raise UsageError(
                f"{path.name} is a pickled Python object, which could run any code when read",
                do=f"{advice}; or save it with torch.export.save",
            ) from None
        raise UsageError(
            f"{path.name} is not a file of torch", got=_first_line(error), do="it may be truncated; save it again"
        ) from None
    kind = f"{len(content)} entries" if isinstance(content, dict) else type(content).__name__
    raise UsageError(f"{path.name} holds weights ({kind}) but no network", do=advice)


def load_source(source: ModelSource) -> LoadedSource:
    """Loads the model; a Python file is run, once.

    Raises:
        UsageError: the file or the user's code failed, or what it gave is no model.
    """
    if source.kind == "onnx":
        return LoadedSource(source, onnx=source.path)
    if source.kind == "torchscript":
        import torch

        try:
            return LoadedSource(source, module=torch.jit.load(str(source.path), map_location="cpu").eval())
        except Exception as error:  # torch raises RuntimeError subclasses of its own, ValueError and OSError
            raise UsageError(f"cannot read {source.path}", got=_first_line(error), do="save it again") from None
    if source.kind == "exported_program":
        assert source.path is not None
        return LoadedSource(source, module=_load_exported(source.path))
    return _load_python(source)


def _load_python(source: ModelSource) -> LoadedSource:
    with _beside(source.path):
        space = _run_module(source)
        target: Any = space
        for part in source.attribute.split("."):
            if not hasattr(target, part):
                public = [name for name, value in vars(space).items() if callable(value) and name[0] != "_"]
                raise UsageError(
                    f"{source.path or source.module} has no '{source.attribute}'", expected=", ".join(public[:12])
                )
            target = getattr(target, part)
        made = _make(source, target)
        places = ((target, "example_inputs"), (space, f"{source.attribute}_inputs"), (space, "example_inputs"))
        name, examples = next(((n, getattr(p, n)) for p, n in places if hasattr(p, n)), ("", None))
        if callable(examples):
            examples = _call(source, examples, name)
    if isinstance(made, (str, os.PathLike)):
        return LoadedSource(source, onnx=_existing(Path(made)), example_inputs=examples)
    return LoadedSource(source, module=made, example_inputs=examples)


def _make(source: ModelSource, target: Any) -> Any:
    import torch

    made = target
    if not isinstance(made, (torch.nn.Module, torch.export.ExportedProgram, str, os.PathLike)):
        if not callable(made):
            raise UsageError(f"'{source}' cannot be called", expected="a function or an nn.Module", got=repr(made)[:80])
        made = _call(source, made, source.attribute)
    if not isinstance(made, (torch.nn.Module, torch.export.ExportedProgram, str, os.PathLike)):
        raise UsageError(
            f"'{source}' did not give a model",
            expected="an nn.Module, or the path of an ONNX file",
            got=type(made).__name__,
        )
    return made


def _run_module(source: ModelSource) -> ModuleType:
    if source.path is None:
        try:
            return importlib.import_module(source.module)
        except Exception as error:  # the user's module may raise anything while it is imported
            raise _blame(source, error, f"cannot import '{source.module}'") from None
    spec = importlib.util.spec_from_file_location(f"hwc_model_{source.path.stem}", source.path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickling look a class's module up by name.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # as above
        raise _blame(source, error, f"{source.path.name} failed while it was read") from None
    return module


def _call(source: ModelSource, function: Any, name: str) -> Any:
    try:
        return function()
    except HwcError:
        raise
    except Exception as error:  # the user's function may raise anything
        raise _blame(source, error, f"{name}() failed") from None


def _blame(source: ModelSource, error: BaseException, what: str) -> UsageError:
    """The user's own line, not our frames."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    own = [frame for frame in frames if source.path is not None and Path(frame.filename) == source.path.absolute()]
    frame = (own or frames)[-1] if frames else None
    where = f"{frame.filename}:{frame.lineno}" if frame is not None else str(source)
    return UsageError(what, where=where, got=_first_line(error), do="run that file by itself to see the whole error")


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:300]}" if text else type(error).__name__


@contextmanager
def _beside(path: Path | None) -> Iterator[None]:
    """The file's own folder first on the import path, or, inside a package, the folder that holds the whole package."""
    place = path.absolute().parent if path is not None else Path.cwd()
    while path is not None and (place / "__init__.py").is_file() and place != place.parent:
        place = place.parent
    folder = str(place)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _load_exported(path: Path) -> Any:
    import torch

    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith("_constants_config.json"):
                try:
                    entries = json.loads(archive.read(name))["config"].values()
                    bad = [e["path_name"] for e in entries if not str(e["path_name"]).startswith("tensor_")]
                except (ValueError, KeyError, TypeError, AttributeError):
                    raise UsageError(f"{path.name} is not a whole exported program", where=name) from None
                if bad:
                    raise UsageError(
                        f"{path.name} carries a pickled object, which could run any code when read",
                        where=bad[0],
                        do="give the network as file.py:callable",
                    )
    force, key = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD"), "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    # torch.export.load asks for full unpickling in places; this is torch's own switch to forbid it.
    os.environ[key] = "1"
    try:
        return torch.export.load(str(path))
    except Exception as error:  # torch raises assertion, type, key and runtime errors for a broken archive
        raise UsageError(
            f"cannot read {path.name}", got=_first_line(error), do="save it again with this version of torch"
        ) from None
    finally:
        if force is None:
            del os.environ[key]
        else:
            os.environ[key] = force
