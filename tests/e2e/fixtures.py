"""The command line in this process, and bundles that are compiled once and then only read."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hwc.cli import main
from hwc.quantize import IMPROVEMENTS
from tests.e2e.labelled import write_classifier, write_samples
from tests.e2e.tiny_models import write_onnx

Hwc = Callable[..., Result]
# INT8 without its improvements: they take their time, and are tested where they live. One of them mends what is broken.
PLAIN = "--improve=" + ",".join(f"-{name}" for name in IMPROVEMENTS)


def invoke(cache: Path, *args: object) -> Result:
    return CliRunner(env={"HWC_CACHE_DIR": str(cache)}).invoke(main, [str(arg) for arg in args])


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One step cache for all tests, so that each model is captured once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def hwc(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Hwc:
    """Runs a command line; its result has `exit_code`, `stdout` and `stderr`."""
    # Other tests may have loaded readers that hide what they read, and then no capture is ever reused.
    for name in ("safetensors", "h5py", "pyarrow"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return lambda *args: invoke(cache, *args)


@pytest.fixture(scope="session")
def cpu_bundle(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Conv and Relu, built for the CPU. Only read it."""
    folder = tmp_path_factory.mktemp("cpu")
    result = invoke(cache, "compile", write_onnx(folder), "--precision", "fp32", "-o", folder / "out")
    assert result.exit_code == 0, result.stderr
    return folder / "out"


@pytest.fixture(scope="session")
def board_bundle(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for a board: its engine is deferred. Only read it."""
    folder = tmp_path_factory.mktemp("board")
    result = invoke(cache, "compile", write_onnx(folder), "-t", "agx-xavier", "-o", folder / "out")
    assert result.exit_code == 0, result.stderr
    return folder / "out"


@dataclass(frozen=True)
class Classifier:
    """A network and 160 labelled samples for it, of which the `flags` calibrate on 60. Only read it."""

    model: Path
    data: Path

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--calibration-data", str(self.data), "--calibration-samples", "60", PLAIN, "--max-drop", "4")


def _classifier(folder: Path, outlier: float) -> Classifier:
    model = write_classifier(folder, outlier=outlier)
    return Classifier(model, write_samples(folder, model, 160))


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """One that INT8 does no harm."""
    return _classifier(tmp_path_factory.mktemp("sound"), 1.0)


@pytest.fixture(scope="session")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """One whose layer 'narrow' INT8 breaks."""
    return _classifier(tmp_path_factory.mktemp("fragile"), 3000.0)


@pytest.fixture(scope="session")
def int8_bundle(cache: Path, fragile: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fragile one in INT8 for the CPU, with one group put back. Only read it."""
    out = tmp_path_factory.mktemp("int8") / "out"
    result = invoke(cache, "compile", fragile.model, "--precision", "int8", *fragile.flags, "-o", out)
    assert result.exit_code == 0, result.output
    return out


def document(result: Result) -> object:
    """What `--format json` printed: all of stdout, with the verdict on stderr."""
    assert "&&&&" not in result.stdout
    return json.loads(result.stdout)


def assert_refused(result: Result, code: int, *words: str) -> None:
    """One message that holds all the words, the right exit code, FAILED as the last line, no traceback."""
    assert result.exit_code == code, result.output
    kind = {1: "AccuracyError", 2: "UsageError", 3: "TargetError", 4: "EngineError", 70: "InternalError"}[code]
    assert result.stderr.startswith(f"{kind}: ")
    assert sum(line[:1].isalpha() for line in result.stderr.splitlines()) == 1, result.stderr
    assert [word for word in words if word not in result.stderr] == [], result.stderr
    assert "Traceback" not in result.output
    assert result.stdout.splitlines()[-1].startswith("&&&& FAILED hwc.")


def names_in(folder: Path) -> list[str]:
    """Everything below the folder, hidden files too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
