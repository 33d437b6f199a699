"""Samples from the user's own code: `file.py:generator`, a function without arguments that yields them.

Each thing it yields is a dict input name -> array, or an array where the model has one input; or a pair of either and
a label (a class index). It is called anew for every pass and must yield the same samples each time: the passes are
compared by digest, because calibration that resumes, or a scale that is chosen in a second pass, would be wrong.

Limit: the file is code and is run, with its own folder first on the import path. What it prints goes to stderr.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hwc.artifacts import TensorSpec
from hwc.errors import HwcError, UsageError


class Generator:
    """The samples of one function, in the order in which it yields them.

    Raises:
        UsageError: the file cannot be read or run, or has no such function.
    """

    def __init__(self, path: Path, function: str, inputs: Sequence[TensorSpec]) -> None:
        self.path, self.function, self.inputs = path, function, tuple(inputs)
        self._call = self._load()

    def name(self, index: int) -> str:
        return f"{self.path.name}:{self.function}[{index}]"

    def items(self) -> Iterator[tuple[dict[str, np.ndarray], int | None]]:
        """One pass: feeds and label of each sample.

        Raises:
            UsageError: the code failed, or yielded something else; names the sample.
        """
        with self._own_folder():
            stream = self._guard(lambda: iter(self._call()), "before its first sample")
        index = 0
        while True:
            with self._own_folder():
                made = self._guard(lambda: next(stream, _END), f"at sample {index}")
            if made is _END:
                return
            yield self._read(made, index)
            index += 1

    def _read(self, made: Any, index: int) -> tuple[dict[str, np.ndarray], int | None]:
        feeds, label = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
        names = [spec.name for spec in self.inputs]
        if not isinstance(feeds, Mapping) and len(names) == 1:
            feeds = {names[0]: feeds}
        is_label = label is None or (isinstance(label, (int, np.integer)) and not isinstance(label, bool))
        if not isinstance(feeds, Mapping) or set(feeds) != set(names) or not is_label:
            raise UsageError(
                "the generator yielded something else than a sample", where=self.name(index),
                expected="a dict with " + ", ".join(names) + "; or (that, class index)", got=_shown(made),
            )  # fmt: skip
        arrays = {name: self._guard(partial(np.asarray, feeds[name]), f"at sample {index}") for name in names}
        odd = [name for name, array in arrays.items() if array.dtype.kind not in "fiub"]
        if odd:
            raise UsageError(
                f"the generator yielded no numbers for '{odd[0]}'", where=self.name(index), expected="an array",
                got=_shown(feeds[odd[0]]),
            )  # fmt: skip
        return arrays, None if label is None else int(label)

    def _load(self) -> Callable[[], Any]:
        spec = importlib.util.spec_from_file_location(f"hwc_data_{self.path.stem}", self.path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up by name
        loader = spec.loader
        with self._own_folder():
            self._guard(lambda: loader.exec_module(module), "while it was read")
        function = getattr(module, self.function, None)
        if not callable(function):
            public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
            raise UsageError(
                f"{self.path.name} has no function '{self.function}'", expected=", ".join(public[:12]) or "a function"
            )
        return function

    def _guard(self, action: Callable[[], Any], when: str) -> Any:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                return action()
        except HwcError:
            raise
        except Exception as error:  # the user's code may raise anything
            frames = traceback.extract_tb(error.__traceback__)
            own = [frame for frame in frames if Path(frame.filename) == self.path.absolute()] or list(frames)
            text = str(error).strip().splitlines()
            raise UsageError(
                f"{self.path.name}:{self.function} failed {when}",
                where=f"{own[-1].filename}:{own[-1].lineno}",
                got=f"{type(error).__name__}: {text[0][:300]}" if text else type(error).__name__,
                do="run that file by itself to see the whole error",
            ) from None

    @contextlib.contextmanager
    def _own_folder(self) -> Iterator[None]:
        folder = str(self.path.absolute().parent)
        sys.path.insert(0, folder)
        try:
            yield
        finally:
            sys.path.remove(folder)


_END = object()


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a dict with " + ", ".join(str(name) for name in value)
    if isinstance(value, np.ndarray):
        return f"an array {value.dtype} {value.shape}"
    if isinstance(value, tuple):
        return "(" + ", ".join(_shown(item) for item in value) + ")"
    return repr(value)[:80]
