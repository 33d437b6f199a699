"""The recipe: one request becomes one bundle, and a request that cannot be met is refused before any work."""

import pytest

from hwc import targets
from hwc.bundle import read_bundle, verify_bundle
from hwc.compile import CompileRequest, compile_model, resolve_target
from hwc.errors import UsageError
from hwc.store import Store
from tests.e2e.tiny_models import write_onnx


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def seen(monkeypatch):
    """Files read by a test before must not stop this one's captures from being kept."""
    monkeypatch.setattr("hwc.store._UNSEEN_READERS", ())


def test_a_bundle_says_all_that_decided_it(store, tmp_path, seen):
    command = ("hwc", "compile", "net.onnx")
    request = CompileRequest(str(write_onnx(tmp_path)), "cpu", tmp_path / "out", command=command)
    bundle, reused = compile_model(request, store=store)
    assert reused == ()
    assert read_bundle(tmp_path / "out") == bundle
    verify_bundle(tmp_path / "out", bundle)
    assert bundle.command == command and bundle.precision_asked == "auto"
    assert bundle.source["kind"] == "onnx" and bundle.versions["hwc"] and bundle.versions["openvino"]
    assert bundle.target.facts["cpu.isa"].is_known  # of this machine, filled in by the probe
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755


def test_progress_only_grows_and_ends_at_one(store, tmp_path, seen):
    told = []
    request = CompileRequest(str(write_onnx(tmp_path)), "cpu", tmp_path / "out", compare_plain=True)
    bundle, _ = compile_model(request, store=store, progress=lambda what, fraction: told.append(fraction))
    assert told[0] == 0.0 and told[-1] == 1.0 and told == sorted(told)
    assert bundle.plain is not None and bundle.plain.kernels


def test_a_plain_engine_is_not_built_for_what_the_board_builds(store, tmp_path, seen):
    request = CompileRequest(str(write_onnx(tmp_path)), "agx-xavier", tmp_path / "out", compare_plain=True)
    assert compile_model(request, store=store)[0].plain is None


@pytest.mark.parametrize(("precision", "words"), [("int8", "needs samples"), ("fp8", "no precision is called")])
def test_a_precision_is_refused_when_it_is_asked_for(tmp_path, precision, words):
    with pytest.raises(UsageError, match=words):
        CompileRequest("net.onnx", "cpu", tmp_path, precision=precision)


def test_only_the_cpu_is_probed_and_it_is_probed_once(store, monkeypatch):
    assert resolve_target("rtx-4090", store) == targets.load("rtx-4090")
    first = resolve_target("cpu", store)
    real = __import__("hwc.compile", fromlist=["probe_cpu"]).probe_cpu

    def no_measuring(*, is_measured):
        assert not is_measured
        return real(is_measured=False)

    monkeypatch.setattr("hwc.compile.probe_cpu", no_measuring)
    assert resolve_target("cpu", store) == first
