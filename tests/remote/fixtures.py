"""A loopback board, a bundle for an AGX Xavier whose program is a fake, and a deployment of one to the other."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hwc import targets
from hwc.artifacts import BuildKey, Bundle, Engine
from hwc.bundle import SCHEMA, hash_files, read_bundle, staged_folder, write_manifest
from hwc.remote.deploy_hosts import deploy_hosts
from hwc.remote.host_result import DeployOptions, HostResult
from hwc.remote.hosts import Host
from tests.remote.loopback import Board, loopback_board, missing_programs

MODEL_BYTES = 4 << 20
FAKE_DEVICE = Path(__file__).parent / "fake_device.py"
TABLE = "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=2 NAME=MODE_15W >\n< POWER_MODEL ID=3 NAME=MODE_30W_ALL >\n"


def write_bundle(folder: Path, *, seed: int = 1, table: str = "8502\n", name: str = "net") -> Path:
    """A bundle with a model of noise, some small files, and the fake program."""
    key = BuildKey("0" * 64, "agx-xavier", "tensorrt 8.5.2", "fp16")
    engine = Engine("tensorrt", "deferred", key, (), (), (), (), 0, None, None, 0.0, ())
    with staged_folder(folder) as stage:
        (stage / "model.onnx").write_bytes(random.Random(seed).randbytes(MODEL_BYTES))
        (stage / "tables").mkdir()
        (stage / "tables" / "calib cache.txt").write_text(table)
        shutil.copy(FAKE_DEVICE, stage / "hwc.pyz")
        xavier = targets.load("agx-xavier")
        bundle = Bundle(SCHEMA, name, xavier, "fp16", (), (), (), (), engine, hash_files(stage), {"hwc": "0"}, ())
        write_manifest(stage, bundle)
    return folder


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    """A loopback board in power mode MODE_15W; skipped, and said, where there is no sshd."""
    lacking = missing_programs()
    if lacking:
        pytest.skip(f"DEPLOYMENT IS NOT TESTED HERE: this machine has no {lacking}")
    with loopback_board(tmp_path / "board") as board:
        (board.root / "mode").write_text("2")
        for name in ("nvpmodel.conf", "nvpmodel.real"):
            (board.root / "etc" / name).write_text(TABLE)
        yield board


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Only read it."""
    return write_bundle(tmp_path_factory.mktemp("bundle") / "net")


DeployTo = Callable[..., HostResult]


@pytest.fixture
def deploy_to(board: Board, bundle: Path) -> DeployTo:
    """Deploys the bundle to the board; keywords are those of `DeployOptions`, and `folder`, `host`, `on_progress`."""

    def run(*, folder: Path = bundle, host: Host | None = None, on_progress=None, **options: object) -> HostResult:
        how = DeployOptions(**{"ssh_config": board.ssh_config, **options})
        watch = on_progress or (lambda host, step, fraction, text: None)
        (result,) = deploy_hosts(folder, read_bundle(folder), [host or Host("board")], how, watch)
        return result

    return run


def once(step: str, act: Callable[[], object], at: float = 0.5) -> Callable[[str, str, float, str], None]:
    """A watcher of progress that acts when that step has reached the fraction."""
    done: list[int] = []

    def watch(host: str, now: str, fraction: float, text: str) -> None:
        if now == step and fraction >= at and not done:
            done.append(1)
            act()

    return watch


def job(board: Board, name: str = "build") -> Path:
    """The folder of a job of the bundle on the board."""
    return board.home / "hwc" / f"net.job/{name}"


def let_go(board: Board) -> None:
    """Ends the waiting of the fake program, see `hold` there."""
    (board.root / "go").write_text("")


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it holds; a test that waits for half a minute fails."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
