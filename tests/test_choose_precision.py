"""The choice of a precision: guard, rollback, ledger; what ships is what was judged, and nothing is decided twice."""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import onnx_ir as ir
import pytest

from hwc import choose_precision as choosing
from hwc.array_file import load_arrays
from hwc.artifacts import QuantTable
from hwc.build import Built
from hwc.calibrate.cache import read_cache
from hwc.capture import FEEDS, MODEL
from hwc.choose_precision import CACHE, FLOAT_MODEL, GuardOptions, choose_precision, write_quantization
from hwc.engines.base import no_progress
from hwc.errors import AccuracyError, TargetError, UsageError
from hwc.explain import LEDGER, read_ledger
from hwc.graph.save import save_model
from hwc.precision.simulate import Simulator
from hwc.quantize import IMPROVEMENTS, TABLE, open_samples
from hwc.serialize import from_json
from hwc.store import Store
from tests.e2e.int8_case import JUDGED, LIMIT, Case, make_case
from tests.e2e.labelled import write_samples
from tests.precision.slow_integers import quantize, run_implicit


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    return make_case(tmp_path_factory.mktemp("sound"))


@pytest.fixture(scope="module")
def fragile(tmp_path_factory, case) -> Case:
    """The tensor between 'wide' and 'narrow' needs more steps than one scale of INT8 has."""
    return make_case(tmp_path_factory.mktemp("fragile"), outlier=3000.0, store=case.store)


@pytest.fixture(scope="module")
def chosen(case):
    return choose_precision(case.request(), store=case.store, progress=no_progress)


@pytest.fixture(scope="module")
def mended(fragile):
    return choose_precision(fragile.request(), store=fragile.store, progress=no_progress)[0]


def choose(case: Case, *arguments, **options):
    return choose_precision(case.request(*arguments, **options), store=case.store, progress=no_progress)


def told(ledger) -> list[tuple[str, str]]:
    return [(attempt.name, attempt.outcome) for attempt in ledger.attempts]


def fragile_group(case: Case) -> str:
    """The group that reads the tensor with the outlier."""
    return next(group.id for group in case.full.groups if "narrow" in group.nodes)


# What ships.


def test_int8_that_keeps_the_accuracy_ships(case, chosen):
    found, was_kept = chosen
    assert not was_kept and told(found.ledger) == [("int8", "kept")]
    attempt = found.ledger.kept
    assert attempt.precision == "int8" == found.optimized.precision and attempt.high == ()
    assert (attempt.verdict.decision, attempt.verdict.judged) == ("passed", "verified")
    assert attempt.verdict.samples == JUDGED and attempt.verdict.metric == "top1"
    assert attempt.size_bytes > 0 and attempt.seconds > 0 and "top1 drops by" in attempt.reason
    assert dict(found.built.engine.precision_built)["int8"] >= 6
    assert found.ledger.notes[0].startswith("calibration: 100 samples") and len(found.ledger.notes) == 2


def test_the_same_request_decides_nothing_again(case, chosen, monkeypatch):
    monkeypatch.setattr(choosing, "_Ladder", None)
    again, was_kept = choose(case)
    assert was_kept and again.ledger == chosen[0].ledger and again.optimized.digest == chosen[0].optimized.digest


def test_another_guard_decides_anew(case, chosen):
    found, was_kept = choose(case, guard=GuardOptions(max_drop=100.0))
    assert not was_kept and found.ledger.kept.verdict.limit == 100.0


def test_a_fragile_layer_is_put_back_alone_and_named(fragile, mended):
    group = fragile_group(fragile)
    assert told(mended.ledger) == [("int8", "rolled back"), ("int8 with 1 fusion groups in fp32", "kept")]
    broken, kept = mended.ledger.attempts
    assert broken.verdict.decision == "failed" and broken.verdict.drop > 50 and "over the limit" in broken.reason
    assert kept.high == (group,) and kept.verdict.decision == "passed"
    assert f"{group} (Conv: narrow;" in kept.reason and "dB alone" in kept.reason and "(estimate)" in kept.reason
    precisions = dict(mended.built.engine.precision_built)
    assert precisions["int8"] >= 5 and precisions["fp32"] >= 1


def test_an_improvement_that_mends_the_layer_is_in_the_ledger_with_its_effect(fragile):
    others = tuple(name for name in IMPROVEMENTS if name != "equalize_layers")
    found, _ = choose(fragile, without=others, samples=20)
    (attempt,) = found.ledger.attempts
    assert (attempt.name, attempt.outcome, attempt.high) == ("int8", "kept", ())
    effects = attempt.effects
    assert effects["equalize_layers.sqnr_db.after"] > effects["equalize_layers.sqnr_db.before"] + 10


def test_what_ships_was_judged_on_samples_that_nothing_was_chosen_on(fragile, mended):
    request = fragile.request()
    calibration, validation = open_samples(request.calibration, request.full.inputs)
    assert mended.ledger.notes == (
        f"calibration: {calibration.describe()}", f"validation: {validation.describe()}",
    )  # fmt: skip
    assert "on 100 calibration samples" in mended.ledger.kept.reason


def test_few_samples_leave_it_undecided_and_say_so(case):
    found, _ = choose(case, guard=GuardOptions(max_drop=0.5))
    verdict = found.ledger.kept.verdict
    assert verdict.decision == "undecided" and "not enough images to tell 0.5 points apart" in verdict.note
    assert f"though {JUDGED} samples cannot show it at 95%" in found.ledger.kept.reason


# Wrong preprocessing.


@pytest.fixture(scope="module")
def misprepared(case):
    """Calibration samples at a fiftieth of the scale that the model is fed."""
    data = write_samples(case.folder, case.model, 60, gain=0.02, seed=2)
    own = GuardOptions(validation=str(case.data), max_drop=LIMIT)
    return {"guard": own, "data": str(data), "samples": 60}


def test_wrong_preprocessing_is_named_and_auto_rolls_back_to_floats(case, misprepared):
    found, _ = choose(case, "auto", **misprepared)
    assert told(found.ledger)[0] == ("int8", "rolled back") and found.ledger.kept.precision == case.floating.precision
    assert {outcome for _, outcome in told(found.ledger)[:-1]} == {"rolled back"}
    assert found.ledger.attempts[0].verdict.decision == "failed" and found.calibrated is None
    assert "nothing in INT8 may ship" in found.ledger.kept.reason
    note = next(note for note in found.ledger.notes if "other values in the calibration samples" in note)
    assert "'image'" in note and "preprocess both as the model's training did" in note
    assert any("no layer is at fault" in note or "no set of layers" in note for note in found.ledger.notes)


def test_wrong_preprocessing_stops_an_explicit_int8_with_its_ledger(case, misprepared):
    with pytest.raises(AccuracyError, match="no INT8 engine keeps the accuracy") as caught:
        choose(case, "int8", **misprepared)
    error = caught.value
    assert error.exit_code == 1 and error.ledger.kept is None and "check the preprocessing" in error.do
    assert {attempt.outcome for attempt in error.ledger.attempts} == {"rolled back"}
    with pytest.raises(AccuracyError) as again:  # decided once, refused each time
        choose(case, "int8", **misprepared)
    assert again.value.ledger == error.ledger


def test_samples_that_judge_themselves_are_refused(case):
    with pytest.raises(UsageError, match="both the calibration and the validation set"):
        choose(case, data=f"{case.data}@0:100", guard=GuardOptions(f"{case.data}@90:", max_drop=LIMIT))


@pytest.mark.parametrize("wrong", [{"drop_type": "percent"}, {"max_drop": -0.5}, {"max_drop": 101.0}])
def test_a_guard_that_means_nothing_is_refused(wrong):
    with pytest.raises(UsageError, match="drop of 0 to 100"):
        GuardOptions(**wrong)


# Which of the two is the faster.


@pytest.mark.parametrize(("wins", "kept"), [(True, "int8"), (False, "float")])
def test_auto_keeps_the_faster(case, chosen, monkeypatch, wins, kept):
    narrow = case.floating.precision  # BF16 where this CPU computes in it, else FP32
    kept = narrow if kept == "float" else kept
    monkeypatch.setattr(choosing, "measure_candidates", lambda a, b, feeds: (wins, f"because {wins}", (1.5, 2.5)))
    request = dataclasses.replace(case.request("auto"), engine_key=f"auto {wins}")
    found, _ = choose_precision(request, store=case.store, progress=no_progress)
    integer, floating = found.ledger.attempts
    assert (integer.name, floating.name, found.ledger.kept.name) == ("int8", narrow, kept)
    assert (integer.latency_ms, floating.latency_ms) == (1.5, 2.5)
    assert all(attempt.reason.endswith(f"because {wins}") for attempt in found.ledger.attempts)
    assert (found.calibrated is not None) == wins and found.optimized.precision == kept


def test_floats_that_lose_accuracy_do_not_ship_either(case, misprepared, tmp_path, monkeypatch):
    """A narrower float that fails the guard is rolled back to FP32, and FP32 is what is built."""
    folder = tmp_path / "narrow"
    folder.mkdir()
    model = ir.load(case.full.folder / MODEL)
    bias = model.graph.initializers["head.b"]
    bias.const_value = ir.tensor(-100.0 * np.arange(8, dtype=np.float32), name="head.b")
    save_model(model, folder / MODEL)
    wrong = dataclasses.replace(case.full, folder=folder, precision="bf16", digest="wrong")

    def build(optimized):
        if optimized.digest != "wrong":
            return case.request().build(optimized)
        engine = case.request().build(case.full).engine
        return Built(folder, dataclasses.replace(engine, backend="tensorrt"))

    request = dataclasses.replace(
        case.request("auto", **misprepared), floating=wrong, build=build, engine_key="wrong floats"
    )
    monkeypatch.setattr(choosing, "is_judgeable", lambda optimized, built: True)
    found, _ = choose_precision(request, store=case.store, progress=no_progress)
    assert told(found.ledger)[-2:] == [("bf16", "rolled back"), ("fp32", "kept")]
    assert found.optimized.precision == "fp32" and found.optimized.digest == case.full.digest
    assert found.built.engine.backend == "openvino"


# Interrupted work.


def test_an_interrupted_search_goes_on_where_it_was(fragile, mended, tmp_path, monkeypatch):
    from hwc.precision import search_high, sensitivity

    measured, tried = [], []
    real_noise, real_run = sensitivity.measure_noise, search_high._Trials.run
    monkeypatch.setattr(sensitivity, "measure_noise", lambda *a: measured.append(1) or real_noise(*a))

    def once(self, groups, stage):
        own = self._evaluate
        self._evaluate = lambda high: tried.append(sorted(high)) or own(high)
        try:
            return real_run(self, groups, stage)
        finally:
            self._evaluate = own

    monkeypatch.setattr(search_high._Trials, "run", once)

    def interrupt(at):
        def progress(what, fraction):
            if what.startswith(at):
                raise KeyboardInterrupt

        return progress

    own = Store(tmp_path / "cache")
    request = fragile.request()
    groups = len(fragile.full.groups)
    with pytest.raises(KeyboardInterrupt):
        choose_precision(request, store=own, progress=interrupt(f"sensitivity of {fragile.full.groups[3].id}"))
    first = len(measured)
    assert 0 < first < groups and not tried
    with pytest.raises(KeyboardInterrupt):
        choose_precision(request, store=own, progress=interrupt("doubling"))
    ranked = len(measured)
    assert len(tried) == 1  # with nothing put back; then the interruption
    found, _ = choose_precision(request, store=own, progress=no_progress)
    assert len(measured) == ranked <= groups and tried == [[], [fragile_group(fragile)]]
    assert found.ledger.kept.high == mended.ledger.kept.high
    assert found.ledger.kept.verdict == mended.ledger.kept.verdict
    assert not list((own.root / "partial" / "choose").iterdir())


# Targets whose engine does not run here.


@pytest.fixture(scope="module")
def xavier(tmp_path_factory) -> Case:
    return make_case(tmp_path_factory.mktemp("xavier"), target="agx-xavier")


@pytest.fixture(scope="module")
def on_board(xavier, tmp_path_factory):
    found, _ = choose(xavier)
    folder = tmp_path_factory.mktemp("bundle")
    write_quantization(found, xavier.target, folder)
    return found, folder


def test_an_engine_that_the_board_builds_is_judged_likely(xavier, on_board):
    found, folder = on_board
    assert found.built.engine.state == "deferred" and found.ledger.kept.verdict.judged == "likely"
    assert read_ledger(folder) == found.ledger == from_json(type(found.ledger), (folder / LEDGER).read_text())
    assert from_json(QuantTable, (folder / TABLE).read_text()) == found.calibrated.table


def test_auto_on_a_board_weighs_by_estimate(xavier):
    found, _ = choose(xavier, "auto")
    integer, floating = found.ledger.attempts
    assert (integer.name, floating.name) == ("int8", "fp16")
    assert integer.latency_ms is None is floating.latency_ms and "estimate: INT8" in integer.reason
    assert "chosen by the builder, layer by layer: not judged" in floating.reason


def test_both_dialects_are_in_the_folder_and_the_cache_reads_back_bit_for_bit(on_board):
    found, folder = on_board
    header, scales = read_cache((folder / CACHE).read_text())
    assert header == "TRT-8502-EntropyCalibration2"
    table = found.calibrated.table
    assert {name: np.float32(s.scale[0]) for name, s in table.tensors.items()} == scales
    assert all(scale.dtype == "int8" for scale in table.tensors.values())
    graph = ir.load(folder / FLOAT_MODEL)
    assert not [node for node in graph.graph if "Quantize" in node.op_type or "Dequantize" in node.op_type]


def test_both_dialects_give_the_same_integers(on_board):
    found, folder = on_board
    assert_same_integers(found, folder)


def test_a_cache_that_is_off_by_one_scale_gives_other_integers(on_board, tmp_path):
    found, folder = on_board
    (tmp_path / FLOAT_MODEL).write_bytes((folder / FLOAT_MODEL).read_bytes())
    lines = (folder / CACHE).read_text().splitlines()
    lines[1] = lines[1][:-8] + "3f800000"
    (tmp_path / CACHE).write_text("\n".join(lines) + "\n")
    with pytest.raises(AssertionError):
        assert_same_integers(found, tmp_path)


def assert_same_integers(found, folder):
    """The Q/DQ graph against the float graph with the scales of the cache, as TensorRT's implicit mode computes it."""
    _, scales = read_cache((folder / CACHE).read_text())
    feeds = load_arrays(found.optimized.folder / FEEDS)
    explicit = Simulator(ir.load(found.optimized.folder / MODEL)).integers(feeds)
    reads = {edge for point in found.calibrated.plan.points for edge in point.readers}
    named = {name: (scale, "int8") for name, scale in scales.items()}
    values = run_implicit(ir.load(folder / FLOAT_MODEL), named, reads, feeds)
    assert set(explicit) <= set(scales) and len(explicit) >= 6
    for tensor, got in explicit.items():
        np.testing.assert_array_equal(got, quantize(values[tensor], np.float32(scales[tensor]), "int8"), tensor)


def test_a_layer_put_back_has_its_own_weights_and_no_scale_in_the_other_dialect(tmp_path):
    case = make_case(tmp_path, target="agx-xavier", outlier=3000.0)
    found, _ = choose(case)
    assert found.ledger.kept.high == (fragile_group(case),)
    write_quantization(found, case.target, tmp_path)
    weights = {n.name: n.inputs[1].const_value.numpy() for n in ir.load(tmp_path / FLOAT_MODEL).graph
               if n.op_type == "Conv"}  # fmt: skip
    before = {n.name: n.inputs[1].const_value.numpy() for n in ir.load(case.full.folder / MODEL).graph
              if n.op_type == "Conv"}  # fmt: skip
    same = {str(name) for name in weights if np.array_equal(weights[name], before[name])}
    assert same == {"narrow"}
    _, scales = read_cache((tmp_path / CACHE).read_text())
    assert set(found.calibrated.table.tensors) - set(scales) == {"w1"}


def test_an_rtx_has_no_int8_convolution_so_fp16_ships_and_the_ledger_says_why(tmp_path):
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("the extra 'rtx' is not installed")
    case = make_case(tmp_path, target="rtx-4090")
    found, _ = choose(case, "auto")
    refused, kept = found.ledger.attempts
    assert (refused.outcome, refused.precision, refused.verdict) == ("refused", "int8", None)
    assert "no INT8 convolution" in refused.reason
    assert kept.precision == "fp16" == found.optimized.precision and kept.outcome == "kept"
    assert found.calibrated is None and found.built.engine.state in ("built", "verified")
    with pytest.raises(TargetError, match="no INT8 convolution"):
        choose(case, "int8")
