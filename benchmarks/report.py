"""What both benchmarks share: names to entries, errors to words, the machine, the files, the progress bar, tables."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.models import Entry, find_entry
from hwc.engines.base import Progress
from hwc.errors import HwcError
from hwc.profile.measure import machine_state, read_load
from hwc.serialize import from_json
from hwc.store import installed_versions

PACKAGES = ("numpy", "onnx", "onnxruntime", "onnxscript", "openvino", "tensorrt-rtx-cu12", "torch")
Machine = dict[str, str]
T = TypeVar("T")


def choose_entries(names: str, default: Sequence[Entry], parser: argparse.ArgumentParser) -> list[Entry]:
    """The entries of comma-separated names, `default` if there are none; an unknown name ends the program."""
    try:
        return [find_entry(name) for name in names.split(",")] if names else list(default)
    except KeyError as error:
        parser.error(f"no model is called {error}; there are {', '.join(entry.name for entry in default)}")


def put_in_words(error: Exception) -> str:
    """The error in one line: what failed and what the runtime said."""
    if isinstance(error, HwcError):
        text = f"{error.what}: {error.got}" if error.got else error.what
    else:
        text = f"{type(error).__name__}: {error}"
    # Results are published: paths of the machine that made them say nothing.
    for folder in (Path(__file__).resolve().parents[1], Path(tempfile.gettempdir())):
        text = text.replace(f"{folder}/", "")
    return re.sub(r"\s+", " ", text).strip()


def describe_machine(command: str) -> Machine:
    """Processor, date, load, versions and command: what a reader needs to repeat or to doubt a figure."""
    import hwc

    versions = {name: version for name, version in installed_versions() if name in PACKAGES}
    listed = ", ".join(f"{name} {version}" for name, version in {"hwc": hwc.__version__, **versions}.items())
    return {**machine_state(), "load": read_load(), "versions": listed, "command": command}


def write_results(out: Path, rows: Sequence[Any], machine: Machine, format_text: Callable[..., str]) -> None:
    """`out` as JSON (one row per line) and the text beside it as .md, each whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(dataclasses.asdict(row), separators=(",", ":")) for row in rows)
    _write_whole(out, f'{{"machine":{json.dumps(machine)},\n"rows":[\n{lines}\n]}}\n')
    _write_whole(out.with_suffix(".md"), format_text(rows, machine))


def read_rows(kind: type[T], path: Path) -> tuple[T, ...]:
    """The rows that `write_results` wrote."""
    return tuple(from_json(kind, json.dumps(row)) for row in json.loads(path.read_text(encoding="utf-8"))["rows"])


def _write_whole(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.tmp")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def format_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table; '|' and line breaks inside a cell would end it early, so they are replaced."""
    lines = [head, ["---"] * len(head), *rows]
    cells = [[str(cell).replace("|", "/").replace("\n", " ") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def shorten(text: str, width: int = 160) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


@contextlib.contextmanager
def show_progress(console: Any, title: str, count: int) -> Iterator[Callable[[str], Any]]:
    """A bar over `count` steps; each step is a context manager that gives a Progress for its inside."""
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=count)
        done = 0

        @contextlib.contextmanager
        def step(label: str) -> Iterator[Progress]:
            nonlocal done
            yield lambda what, fraction: bar.update(
                task, completed=done + min(fraction, 1.0), description=f"{label}: {what}"
            )
            done += 1
            bar.update(task, completed=done)

        yield step
