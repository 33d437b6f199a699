"""What is kept between builds: timing caches, the history behind a forecast, and the best of several builds."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from hwc.artifacts import BuildKey, Kernel
from hwc.engines import base
from hwc.engines.tensorrt_child import make_logger
from hwc.engines.tensorrt_forecast import Record, add_record, forecast, read_history
from hwc.engines.tensorrt_rank import MEASURED, SIZES, TACTICS, choose_best
from hwc.engines.tensorrt_read_back import ReadBack
from hwc.engines.tensorrt_timing import keep_timing, load_timing, timing_files
from hwc.errors import EngineError
from tests.engines.contract import BATCH, conv_graph, request
from tests.engines.fakes import build_in_process, load_fake
from tests.engines.test_tensorrt import board

KEY = BuildKey("digest", "board", "tensorrt 8.5.2", "fp16")


def ask(folder, **fields):
    return request(conv_graph(), folder, **{"target": board(), "precision": "fp16", "batch": BATCH, **fields})


# Timing caches.


def test_a_build_reads_its_own_cache_then_a_neighbours_then_none(tmp_path):
    first = timing_files(tmp_path, "", KEY, 1)
    assert first.read is None and "new" in first.note
    first.write.parent.mkdir(parents=True)
    first.write.write_bytes(b"1")
    again = timing_files(tmp_path, "", KEY, 1)
    assert again.read == again.write == first.write and first.write.stem in again.note
    other = timing_files(tmp_path, "", replace(KEY, model_digest="another"), 1)
    assert other.read == first.write and other.write != first.write and "starts from" in other.note
    for key in (replace(KEY, power_mode="15W"), replace(KEY, target="b"), replace(KEY, runtime="tensorrt 8.6.1")):
        assert timing_files(tmp_path, "", key, 1).read is None
    several = timing_files(tmp_path, "", KEY, 3)
    assert several.read is None and several.write == first.write and "3 builds may differ" in several.note
    assert timing_files(tmp_path, "none", KEY, 1).write is None and timing_files(None, "", KEY, 1).write is None
    given = timing_files(tmp_path, str(tmp_path / "own"), KEY, 1)
    assert given.read is None and given.write == tmp_path / "own"


def test_a_cache_of_another_version_is_not_used_and_that_is_said(monkeypatch, tmp_path):
    trt = load_fake(monkeypatch, "8.5.2.2")
    config = trt.Builder(make_logger(trt, io.StringIO())).create_builder_config()
    path = tmp_path / "t"
    path.write_bytes(b"FAKE-TIMING 8.6.1")
    cache, said = load_timing(trt, config, path)
    assert "refused the kept cache" in said and cache.serialize() == b"FAKE-TIMING 8.5.2.2"
    path.write_bytes(b"FAKE-TIMING 8.5.2.2")
    assert load_timing(trt, config, path)[1] == "19 bytes of timing cache read"
    with pytest.raises(EngineError, match="cannot read the timing cache"):
        load_timing(trt, config, tmp_path / "gone")


def test_a_cache_that_cannot_be_kept_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "measured").write_bytes(b"x")
    with pytest.raises(EngineError, match="cannot keep the timing cache"):
        keep_timing(tmp_path / "measured", tmp_path / "file" / "a.timing")


def test_two_builds_share_what_was_measured(monkeypatch, tmp_path):
    load_fake(monkeypatch, "8.6.1.6")
    build_in_process(monkeypatch)
    for index, note in enumerate(("timing cache: new", "timing cache: that of this build key")):
        engine = base.build("tensorrt", ask(tmp_path, cache=tmp_path / "cache"))
        assert any(text.startswith(note) for text in engine.notes), engine.notes
        plan = json.loads((tmp_path / "bundle" / "engine.plan").read_text())
        assert plan["timing"] == ("", "FAKE-TIMING 8.6.1.6")[index]
    assert {path.name for path in (tmp_path / "bundle").iterdir()} == set(engine.files)
    assert not list(tmp_path.rglob("*.half"))


def test_the_command_of_a_bundle_names_no_folder_of_this_machine(monkeypatch, tmp_path):
    load_fake(monkeypatch, "8.6.1.6")
    build_in_process(monkeypatch)
    options = {"timing_cache": str(tmp_path / "own"), "builds": "1", "driver": "python", "refit": "yes"}
    base.build("tensorrt", ask(tmp_path, options=options))
    text = (tmp_path / "bundle" / "engine.request.json").read_text()
    assert str(tmp_path) not in text and json.loads(text)["options"] == {"refit": "yes"}
    assert (tmp_path / "own").read_text() == "FAKE-TIMING 8.6.1.6"


# The forecast.


def test_a_forecast_is_called_an_estimate_and_says_from_what():
    rtx, trt = forecast("tensorrt_rtx", 1825, 80_000), forecast("tensorrt", 1825, 80_000)
    # Seen with TensorRT for RTX: light ResNet-50, 1825 layers, 6.4 s and 0.31 GB.
    assert rtx.low < 6.4 < rtx.high and rtx.peak_bytes == pytest.approx(0.38e9, rel=0.01)
    assert "a guess" in trt.how and trt.seconds > rtx.seconds and trt.high / trt.low == pytest.approx(100)
    assert str(rtx).startswith("estimate: about ")
    assert forecast("tensorrt", 10, 0, level=5).seconds == pytest.approx(4 * forecast("tensorrt", 10, 0).seconds)


def test_a_forecast_learns_from_builds_here(tmp_path):
    path = tmp_path / "a" / "builds.jsonl"
    assert read_history(path) == () and read_history(None) == ()
    for seconds in (60.0, 50.0, 80.0):
        add_record(path, Record(100, 1_000_000, seconds, 1 << 30))
    with path.open("a") as file:
        file.write('{"layers": 3, "seco')  # a killed build
    history = read_history(path)
    assert len(history) == 3
    learned = forecast("tensorrt", 100, 1_000_000, history=history)
    assert (learned.low, learned.seconds, learned.high) == pytest.approx((50.0, 60.0, 80.0))
    assert "scaled by 3 builds seen here" in learned.how
    add_record(Path("/proc/nothing/builds.jsonl"), history[0])  # nowhere to write: nothing is lost but the record


def test_a_build_tells_its_forecast_first_and_keeps_what_it_took(monkeypatch, tmp_path):
    load_fake(monkeypatch, "8.5.2.2")
    build_in_process(monkeypatch)
    engine = base.build("tensorrt", ask(tmp_path, cache=tmp_path / "cache"))
    (note,) = [text for text in engine.notes if text.startswith("forecast estimate: about ")]
    assert "; took " in note
    (path,) = (tmp_path / "cache").rglob("builds.jsonl")
    assert read_history(path)[0].layers == 3


# The best of several.


def built(kernels=3, activations=100, size=1000, latency=None, tactics=(0.0, 0)) -> ReadBack:
    each = tuple(Kernel(f"k{i}", "conv", "fp16") for i in range(kernels))
    return ReadBack(Path("."), each, (), size, activations, None, tactics, latency)


@pytest.mark.parametrize(
    ("builds", "best", "rule", "spread"),
    [
        ([built(latency=2.0), built(latency=1.0, kernels=9), built(latency=1.5)], 1, MEASURED, "100.0%"),
        ([built(tactics=(3.0, 4)), built(tactics=(2.4, 4))], 1, TACTICS, "25.0%"),
        # One that could not be measured, or another number of timed layers: the rule is the next one.
        ([built(latency=2.0), built(size=900)], 1, SIZES, "none"),
        ([built(tactics=(3.0, 4)), built(tactics=(1.0, 2))], 0, SIZES, "none"),
        ([built(), built()], 0, SIZES, "none"),
        ([built(kernels=4), built(kernels=5, activations=1)], 0, SIZES, "25.0%"),
    ],
)
def test_the_best_is_chosen_by_the_first_rule_that_judges_all(builds, best, rule, spread):
    index, notes = choose_best(builds)
    assert index == best and rule in notes[0] and f"number {best + 1} kept" in notes[0]
    assert notes[0].endswith(f"spread {spread}") or rule == SIZES
    assert (len(notes) == 2) == (rule == SIZES)


def test_builds_are_ranked_by_the_builders_own_times(monkeypatch, tmp_path):
    load_fake(monkeypatch, "8.5.2.2")
    build_in_process(monkeypatch)
    times = tmp_path / "times"
    times.write_text("0.5\n0.4\n0.45")
    monkeypatch.setenv("HWC_FAKE_TACTICS", str(times))
    seen = []
    asked = ask(tmp_path, options={"builds": "3"}, progress=lambda what, fraction: seen.append((what, fraction)))
    engine = base.build("tensorrt", asked)
    (note,) = [text for text in engine.notes if "builds, number" in text]
    assert "number 2 kept, ranked by the builder's own tactic times (2 layers): 1 ms; 0.8 ms; 0.9 ms" in note
    assert note.endswith("spread 25.0%")
    assert {path.name for path in (tmp_path / "bundle").iterdir()} == set(engine.files)
    assert seen[-1] == ("done", 1.0)
