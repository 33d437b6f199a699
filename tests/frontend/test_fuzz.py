"""Broken files, hundreds of them: each gives a legal graph or an HwcError; nothing else, no crash, no flood of memory.

The seeds are fixed, so a failure names a case that can be had again: `case(index)` gives its bytes.
"""

from __future__ import annotations

import random
import resource
import time
from pathlib import Path

import pytest

from hwc.errors import HwcError, InternalError
from hwc.frontend.onnx_file import load_onnx
from hwc.graph.verify import verify_model
from tests.frontend import mutate, small_models

CASES = 640
BLOCK = 80
SECONDS = 20.0  # for one file of at most 200 kB, on a busy machine
MEMORY_KB = 700_000  # that one block may add; the models have less than 100 kB of weights


def originals() -> list[bytes]:
    crafted = [make().SerializeToString() for make in small_models.ALL.values()]
    return crafted + [(small_models.LIGHT / f"light_{name}.onnx").read_bytes() for name in ("zfnet512", "bvlc_alexnet")]


def case(index: int, files: list[bytes]) -> bytes:
    """The bytes of one broken file; depends on nothing but the index."""
    rng = random.Random(index)
    content = files[index % len(files)]
    kind = index // len(files) % 8
    if kind < 2:
        return mutate.mutate_bytes(content, rng)
    if kind == 2:
        return mutate.corrupt_text(content, rng)
    return mutate.mutate_message(content, rng)


def load(content: bytes, path: Path) -> str:
    """What became of it: "loaded" or the class of the error."""
    path.write_bytes(content)
    try:
        verify_model(load_onnx(path).model, "loaded")
    except InternalError:
        raise
    except HwcError as error:
        assert "\n" not in error.got and len(str(error)) < 4000
        return type(error).__name__
    return "loaded"


@pytest.mark.parametrize("start", range(0, CASES, BLOCK))
def test_broken_files(start: int, tmp_path: Path) -> None:
    files = originals()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes: dict[str, int] = {}
    for index in range(start, start + BLOCK):
        begin = time.perf_counter()
        try:
            outcome = load(case(index, files), tmp_path / "model.onnx")
        except Exception as error:
            raise AssertionError(f"case {index}: {type(error).__name__}: {error}") from error
        assert time.perf_counter() - begin < SECONDS, f"case {index} took too long"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < MEMORY_KB
    # Both kinds must occur, or the mutations test nothing.
    assert set(outcomes) == {"loaded", "UsageError"}, outcomes
