"""The recipe of the board: verify, build or reuse, run, profile; and every way to say no."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from hwc import deploy
from hwc.artifacts_dla import DLA_PLAN, DlaPlan, write_dla_plan
from hwc.board_request import REQUEST
from hwc.bundle import MANIFEST
from hwc.deploy import Choice, build, judge, open_built, prepare, require_fit
from hwc.engine_store import EngineStore
from hwc.errors import EngineError, TargetError, UsageError
from hwc.fingerprint import find_changes
from hwc.profile.measure import MeasureOptions
from tests.fake_board import FakeBackend, fact, seal_bundle, write_bundle, xavier_facts, xavier_target


@pytest.fixture
def backend(monkeypatch) -> FakeBackend:
    fake = FakeBackend()
    monkeypatch.setattr("hwc.engines.base.load_backend", lambda name: fake)
    return fake


@pytest.fixture
def store(tmp_path) -> EngineStore:
    return EngineStore(tmp_path / "store")


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path / "bundle")


def build_here(bundle, store, said=None, choice=None, facts=None, **how):
    said = [] if said is None else said
    return build(prepare(bundle, facts or xavier_facts(), choice), store, say=said.append, **how)


def test_an_engine_is_built_run_and_then_taken_from_the_store(bundle, store, backend):
    said: list = []
    first = build_here(bundle, store, said)
    assert (first.reused, first.changes, first.stored.engine.state) == (False, (), "verified")
    assert "ran here; worst output 0.00e+00" in first.stored.engine.notes[-1]
    (request,) = backend.requests
    assert dict(request.options) == {"workspace_bytes": "1048576"} and request.precision == "fp16"
    assert request.key.runtime == "tensorrt 8.5.2.2" and request.key.power_mode == "MAXN"
    again = build_here(bundle, store, said)
    assert again.reused and again.stored.engine == first.stored.engine and len(backend.requests) == 1
    assert said == []


def test_the_bundle_is_never_written(bundle, store, backend):
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    build_here(bundle, store)
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before


def test_another_power_mode_is_explained_and_built(bundle, store, backend):
    said: list = []
    build_here(bundle, store)
    report = build_here(bundle, store, said, facts=xavier_facts(jetson__power_mode="MODE_15W", gpu__sm_count=4))
    assert not report.reused and len(backend.requests) == 2
    assert [change.field for change in report.changes] == ["sm_count", "power_mode"]
    assert said == ["no stored engine fits; the nearest differs in sm_count: 8 -> 4; power_mode: MAXN -> MODE_15W"]
    assert build_here(bundle, store).reused


def test_force_builds_again(bundle, store, backend):
    build_here(bundle, store)
    report = build_here(bundle, store, force=True)
    assert not report.reused and len(backend.requests) == 2
    assert (report.stored.folder / "engine.plan").read_text() == "plan 2 of model.onnx"


def test_a_damaged_engine_is_said_and_built_again(bundle, store, backend):
    said: list = []
    report = build_here(bundle, store)
    (report.stored.folder / "engine.plan").write_text("plan 7")
    report = build_here(bundle, store, said)
    assert not report.reused and "is damaged (engine.plan was changed): dropped" in said[0] and len(said) == 1
    assert report.remarks == tuple(said)
    assert len(backend.requests) == 2 and build_here(bundle, store).reused


@pytest.mark.parametrize("error", [EngineError("no tactic"), KeyboardInterrupt(), OSError(28, "No space left")])
def test_a_build_that_fails_leaves_nothing(bundle, store, backend, error):
    backend.failure = error
    with pytest.raises(EngineError if isinstance(error, OSError) else type(error)):
        build_here(bundle, store)
    assert [path.name for path in store.root.iterdir() if not path.name.endswith(".lock")] == []
    backend.failure = None
    assert not build_here(bundle, store).reused


def test_an_engine_with_other_outputs_is_refused_and_not_kept(bundle, store, backend):
    backend.factor = 2.5
    with pytest.raises(EngineError, match="other outputs than the model") as caught:
        build_here(bundle, store)
    assert caught.value.where == "output 'y'"
    assert [path.name for path in store.root.iterdir() if not path.name.endswith(".lock")] == []


def test_an_engine_that_cannot_run_here_is_built_and_never_called_verified(bundle, store, backend):
    backend.factor = None
    said: list = []
    report = build_here(bundle, store, said)
    assert report.stored.engine.state == "built" and said == ["built, not verified: this engine cannot run here"]
    assert report.stored.engine.notes[-1] == "never run here: this engine cannot run here"


def test_without_example_inputs_nothing_is_verified(tmp_path, store, backend):
    bundle = write_bundle(tmp_path / "bare", feeds="", expected="")
    said: list = []
    assert build_here(bundle, store, said).stored.engine.state == "built"
    assert said == ["built, not verified: the bundle carries no example inputs"]


def test_the_tolerance_is_that_of_the_precision_and_bites(bundle, store, backend):
    prepared = prepare(bundle, xavier_facts())
    engine = build_here(bundle, store).stored
    backend.factor = 2.02  # a hundredth off: within fp16's 3e-2, outside fp32's 2e-4
    assert judge(engine.engine, engine.folder, prepared, pytest.fail).state == "verified"
    strict = dataclasses.replace(prepared, request=dataclasses.replace(prepared.request, tolerance="fp32"))
    with pytest.raises(EngineError):
        judge(engine.engine, engine.folder, strict, pytest.fail)


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"jetson__soc": "tegra234"}, "jetson.soc"),
        ({"jetson__soc": None}, "jetson.soc"),
        ({"machine__architecture": "x86_64"}, "machine.architecture"),
        ({"software__tensorrt": None}, "software.tensorrt"),
        ({"software__tensorrt": "8.6.1"}, "software.tensorrt"),
        ({"software__tensorrt": "10.3.0"}, "software.tensorrt"),
    ],
)
def test_a_machine_that_is_not_the_target_is_refused_before_any_work(bundle, store, backend, changed, where):
    with pytest.raises(TargetError, match="not what the bundle was compiled for") as caught:
        build_here(bundle, store, facts=xavier_facts(**changed))
    assert caught.value.where == where and where in caught.value.got and caught.value.do
    assert backend.requests == [] and not store.root.exists()


@pytest.mark.parametrize(
    "changed", [{"software__tensorrt": "8.5.9"}, {"software__python": "3.9.2"}, {"software__l4t": "35.4.1"}]
)
def test_a_difference_in_a_patch_is_said_and_no_obstacle(bundle, store, backend, changed):
    said: list = []
    report = build_here(bundle, store, said, facts=xavier_facts(**changed))
    assert not report.reused and len(said) == 1 and "expected" in said[0] and report.remarks == tuple(said)


def test_differences_of_software_may_be_accepted_and_those_of_hardware_never(bundle, store, backend):
    newer = xavier_facts(software__tensorrt="8.6.1")
    assert "--accept-differences" in refusal(bundle, newer).do
    assert not build_here(bundle, store, facts=newer, accept_differences=True).reused
    for changed in ({"jetson__soc": "tegra234"}, {"software__tensorrt": None}):
        error = refusal(bundle, xavier_facts(**changed), accept_differences=True)
        assert "--accept-differences" not in error.do


def refusal(bundle, facts, **how) -> TargetError:
    with pytest.raises(TargetError) as caught:
        require_fit(prepare(bundle, facts), **how)
    return caught.value


def test_several_builds_are_asked_of_the_builder_and_are_no_part_of_the_fingerprint(bundle, store, backend):
    build_here(bundle, store, builds=3)
    assert backend.requests[0].options["builds"] == "3"
    assert build_here(bundle, store).reused


def test_the_second_dialect_and_more_options_are_engines_of_their_own(tmp_path, store, backend):
    implicit = {"model": "model.float.onnx", "calibration_cache": "calib.cache"}
    bundle = write_bundle(tmp_path / "both", implicit=implicit)
    build_here(bundle, store)
    report = build_here(bundle, store, choice=Choice("implicit", {"dla_core": "0"}))
    request = backend.requests[-1]
    assert request.model.name == "model.float.onnx" and request.options["calibration_cache"] == "calib.cache"
    assert {change.field for change in report.changes} == {"model", "options"}
    assert "calib.cache" not in str(report.changes), "a name is not what decides an engine"
    assert build_here(bundle, store, choice=Choice("implicit", {"dla_core": "0"})).reused


def test_a_dla_plan_for_another_target_or_graph_is_refused(tmp_path, store, backend):
    (tmp_path / "dla").mkdir()
    plan = DlaPlan(1, "test-xavier", "1.0", "8.5.2", "fp16", "all", 0, "0" * 64, (), 4, (), 0, 1.0, 1.0, 1.0)
    other = ({"target": "agx-orin"}, "another target"), ({"model_digest": "1"}, "another graph")
    for change, words in (({}, ""), *other):
        write_dla_plan(tmp_path / "dla", dataclasses.replace(plan, **change))
        folder = write_bundle(tmp_path / "dla", options={"dla_core": "0", "dla_plan": DLA_PLAN})
        if words:
            with pytest.raises(UsageError, match=words):
                prepare(folder, xavier_facts())
        else:
            build_here(folder, store)
            assert backend.requests[-1].options["dla_plan"] == DLA_PLAN


def test_a_dialect_that_is_not_there_is_refused(bundle):
    with pytest.raises(UsageError, match="no INT8 dialect"):
        prepare(bundle, xavier_facts(), Choice("implicit"))


def test_a_new_calibration_is_a_new_engine(tmp_path):
    implicit = {"model": "model.float.onnx", "calibration_cache": "calib.cache"}
    bundle = write_bundle(tmp_path / "both", implicit=implicit)
    before = prepare(bundle, xavier_facts(), Choice("implicit")).fingerprint
    (bundle / "calib.cache").write_text("TRT-8502-EntropyCalibration2\nx: 3c010205\n")
    seal_bundle(bundle)
    assert prepare(bundle, xavier_facts(), Choice("implicit")).fingerprint.key != before.key


def test_a_bundle_may_name_no_library_that_it_does_not_hold(tmp_path):
    bundle = write_bundle(tmp_path / "evil", options={"static_plugins": "/usr/lib/evil.so"})
    with pytest.raises(UsageError, match="asks for what this bundle does not have") as caught:
        prepare(bundle, xavier_facts())
    assert "/usr/lib/evil.so" in caught.value.got


def test_a_library_of_the_boards_user_counts_by_its_content(bundle, tmp_path):
    library = tmp_path / "own.so"
    library.write_bytes(b"one")
    choice = Choice("explicit", {"dynamic_plugins": str(library)})
    before = prepare(bundle, xavier_facts(), choice).fingerprint
    library.write_bytes(b"two")
    changes = find_changes(before, prepare(bundle, xavier_facts(), choice).fingerprint)
    assert [change.field for change in changes] == ["options", "plugins"]
    library.unlink()
    with pytest.raises(UsageError, match="a file of the build cannot be read"):
        prepare(bundle, xavier_facts(), choice)


def test_nothing_runs_that_was_not_built_and_the_difference_is_told(bundle, store, backend):
    with pytest.raises(UsageError, match="no engine was built") as caught:
        open_built(prepare(bundle, xavier_facts()), store, pytest.fail)
    assert "hwc.pyz build" in caught.value.do
    build_here(bundle, store)
    with pytest.raises(UsageError) as caught:
        open_built(prepare(bundle, xavier_facts(jetson__power_mode="MODE_10W")), store, pytest.fail)
    assert caught.value.got == "the nearest stored one differs in power_mode: MAXN -> MODE_10W"


def test_a_built_engine_runs_on_what_is_given_and_on_noise(bundle, store, backend):
    build_here(bundle, store)
    with open_built(prepare(bundle, xavier_facts()), store, pytest.fail) as session:
        x = np.ones((2, 3), np.float32)
        assert np.array_equal(deploy.run(session, {"x": x})["y"], 2 * x)
        assert deploy.run(session, {})["y"].shape == (2, 3)
        with pytest.raises(UsageError, match="wrong shape"):
            deploy.run(session, {"x": np.ones((2, 4), np.float32)})


def test_a_profile_keeps_its_samples_and_says_what_the_machine_was(bundle, store, backend):
    build_here(bundle, store)
    prepared = prepare(bundle, xavier_facts())
    options = MeasureOptions(warmup_s=0.0, max_warmup_s=0.05, duration_s=0.01)
    with open_built(prepared, store, pytest.fail) as session:
        taken = deploy.profile(prepared, session, {}, options)
    machine = dict(taken.profile.machine)
    assert taken.profile.latency_ns and taken.profile.engine == "net" and taken.power is None
    assert machine["power_mode"] == "MAXN" and machine["gpu"] == "Xavier" and machine["clocks_locked"] == "True"
    assert machine["engine"] == prepared.fingerprint.key[:12]


def test_a_tampered_bundle_is_refused(bundle):
    (bundle / "model.onnx").write_bytes(b"\x08\x09")
    with pytest.raises(UsageError, match="'model.onnx' was changed"):
        prepare(bundle, xavier_facts())


def test_a_request_for_files_that_the_manifest_does_not_list_is_refused(tmp_path):
    bundle = write_bundle(tmp_path / "odd", model="../elsewhere.onnx")
    with pytest.raises(UsageError, match="asks for what this bundle does not have"):
        prepare(bundle, xavier_facts())


def test_weights_outside_the_manifest_are_refused(bundle):
    # graph { initializer { external_data { location: "w" } } } in protobuf's wire format
    entry = b"\x0a\x08location\x12\x01w"
    tensor = b"\x6a" + bytes([len(entry)]) + entry
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    (bundle / "model.onnx").write_bytes(b"\x08\x08\x3a" + bytes([len(graph)]) + graph)
    seal_bundle(bundle)
    with pytest.raises(UsageError, match="the build needs 'w'"):
        prepare(bundle, xavier_facts())


def test_a_bundle_of_the_cpu_and_one_without_a_request_are_refused(tmp_path, bundle):
    seal_bundle(bundle, "openvino")
    with pytest.raises(TargetError, match="holds its engine already"):
        prepare(bundle, xavier_facts())
    (bundle / REQUEST).unlink()
    seal_bundle(bundle)
    with pytest.raises(UsageError, match=f"has no {REQUEST}"):
        prepare(bundle, xavier_facts())


def test_a_request_with_an_unknown_field_is_refused(bundle):
    data = json.loads((bundle / REQUEST).read_text())
    (bundle / REQUEST).write_text(json.dumps({**data, "of the future": 1}))
    (bundle / MANIFEST).unlink()
    seal_bundle(bundle)
    with pytest.raises(UsageError, match="unknown field"):
        prepare(bundle, xavier_facts())


def test_an_engine_ahead_of_time_needs_its_module_and_no_gpu(tmp_path, store, backend):
    target = dataclasses.replace(
        xavier_target("tensorrt_rtx"), family="geforce", facts={"gpu.compute_capability": fact("8.9")}
    )
    bundle = write_bundle(tmp_path / "rtx", engine="tensorrt_rtx", target=target)
    seal_bundle(bundle, "tensorrt_rtx", target)
    bare = {"software.tensorrt_rtx": fact("1.7.1"), "machine.architecture": fact("x86_64")}
    said: list = []
    assert build_here(bundle, store, said, facts=bare).stored.fingerprint.compute_capability == "8.9"
    assert said == ["gpu.compute_capability: expected 8.9, found not seen"]
    with pytest.raises(TargetError, match="not what the bundle") as caught:
        build_here(bundle, store, facts={"machine.architecture": fact("x86_64")})
    assert caught.value.where == "software.tensorrt_rtx"
