"""The streaming pass: what it sees, what it keeps, how it goes on after an interruption."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
import tracemalloc

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from hwc.calibrate import statistics as module
from hwc.calibrate.statistics import collect_statistics
from hwc.calibrate.statistics_file import read_statistics, write_statistics
from hwc.calibrate.tensor_statistics import Accumulator
from hwc.errors import EngineError, UsageError
from hwc.graph.shapes import infer_shapes

NET = """
<ir_version: 8, opset_import: ["": 17]>
net (float[N,2,3] x, float[N,2,3] z) => (float[N,2,3] y, float[N,2,3] w)
<float[1] two = {2.0}>
{
    [first] a = Relu(x)
    [second] b = Neg(a)
    [third] c = Mul(b, two)
    [last] y = Add(c, a)
    [other] w = Sqrt(z)
}
"""
TENSORS = ["x", "a", "b", "c", "y"]


def net(text: str = NET) -> ir.Model:
    model = ir.from_proto(onnx.parser.parse_model(text))
    infer_shapes(model)
    return model


def feeds(count: int = 7, seed: int = 1) -> list:
    rng = np.random.default_rng(seed)
    shape = (1, 2, 3)
    return [
        {"x": rng.normal(0, 1 + i % 3, shape).astype(np.float32), "z": np.ones(shape, np.float32)} for i in range(count)
    ]


def contents(found: dict) -> dict:
    """All of the statistics as comparable values, bit for bit."""
    def plain(value):
        return value.tobytes() if isinstance(value, np.ndarray) else value

    return {
        name: [plain(v) for k, v in sorted(vars(item).items()) if k != "histogram"]
        + [plain(v) for _, v in sorted(vars(item.histogram).items())]
        for name, item in found.items()
    }


def test_inputs_intermediates_and_outputs_are_seen():
    data = feeds()
    found = collect_statistics(net(), TENSORS, data)
    x = np.concatenate([feed["x"] for feed in data])
    a = np.maximum(x, 0)
    for name, values in {"x": x, "a": a, "b": -a, "c": -2 * a, "y": -a}.items():
        assert (found[name].min, found[name].max) == (values.min(), values.max())
        assert (found[name].samples, found[name].count) == (7, values.size)
        assert found[name].channel_amax == pytest.approx(np.abs(values).max(axis=(0, 2)))
    assert list(found) == TENSORS


def test_what_no_tensor_needs_is_not_run():
    data = [{**feed, "z": np.full((1, 2, 3), -1, np.float32)} for feed in feeds()]  # Sqrt(-1) is NaN
    assert collect_statistics(net(), ["a"], data)["a"].samples == 7
    with pytest.raises(UsageError, match="'w' is not finite in sample 0"):
        collect_statistics(net(), ["w"], data)


def test_the_model_is_left_as_it_was():
    model = net()
    collect_statistics(model, ["a"], feeds(1))
    assert [value.name for value in model.graph.outputs] == ["y", "w"]
    assert len(list(model.graph)) == 5


@pytest.mark.parametrize("budget", [1, 60, 10**9])
def test_chunks_give_the_same_statistics(budget):
    fixed = net(NET.replace("[N,2,3]", "[1,2,3]"))
    runs = module._split(fixed, TENSORS, budget)
    assert len(runs) == {1: 4, 60: 2, 10**9: 1}[budget]  # 24 bytes each; x is an input and is not fetched
    found = collect_statistics(fixed, TENSORS, feeds(), budget_bytes=budget)
    assert contents(found) == contents(collect_statistics(fixed, TENSORS, feeds()))


def test_an_open_shape_gets_a_chunk_of_its_own():
    assert len(module._split(net(), TENSORS, 10**9)) == 4


def test_a_chunk_runs_only_what_it_needs():
    fixed = net(NET.replace("[N,2,3]", "[1,2,3]"))
    runs = module._split(fixed, ["a", "b"], 1)
    assert [[node.op_type for node in run.graph] for run in runs] == [["Relu"], ["Relu", "Neg"]]


def test_channels_are_the_callers_choice():
    assert collect_statistics(net(), ["a"], feeds(), channels=())["a"].channel_sum is None
    found = collect_statistics(net(), ["a", "b"], feeds(), channels=["a"])
    assert (found["a"].channel_sum.size, found["b"].channel_sum) == (2, None)
    model = net()
    found = collect_statistics(model, ["a", "b"], feeds(), channels={"a": -1, "b": 2})
    assert [found[name].channel_axis for name in "ab"] == [2, 2]
    assert found["a"].channel_sum.size == 3
    with pytest.raises(UsageError, match="no axis 3"):
        collect_statistics(model, ["a"], feeds(), channels={"a": 3})


@pytest.mark.parametrize(
    ("tensors", "said"), [(["nobody"], "'nobody' is no computed value"), (["two"], "'two'"), (["a", "a"], "twice")]
)
def test_a_wrong_list_of_tensors_is_refused(tensors, said):
    with pytest.raises(UsageError, match=said):
        collect_statistics(net(), tensors, feeds())


def test_no_data_and_incomplete_data_are_refused():
    with pytest.raises(UsageError, match="no calibration data"):
        collect_statistics(net(), ["a"], [])
    with pytest.raises(UsageError, match="sample 0 lacks an input"):
        collect_statistics(net(), ["x"], [{"z": np.ones((1, 2, 3), np.float32)}])
    with pytest.raises(EngineError):
        collect_statistics(net(), ["a"], [{"z": np.ones((1, 2, 3), np.float32)}])


def test_a_bad_sample_is_named():
    data = feeds()
    data[4]["x"][0, 1, 2] = np.nan
    with pytest.raises(UsageError, match="'x' is not finite in sample 4"):
        collect_statistics(net(), TENSORS, data)


def test_progress_ends_at_one_and_never_goes_back():
    seen: list = []
    collect_statistics(net(), ["a"], feeds(4), progress=lambda what, fraction: seen.append((what, fraction)))
    assert seen[-1] == ("calibrating: sample 4 of 4", 1.0)
    assert [fraction for _, fraction in seen] == sorted(fraction for _, fraction in seen)
    seen.clear()
    collect_statistics(net(), ["a"], iter(feeds(2)), progress=lambda what, fraction: seen.append((what, fraction)))
    assert seen[-1] == ("calibrating: sample 2", 0.0)
    tell = seen.append
    collect_statistics(net(), ["a"], iter(feeds(2)), total=4, progress=lambda what, fraction: tell((what, fraction)))
    assert seen[-1] == ("calibrating: sample 2 of 4", 0.5)


def test_memory_does_not_grow_with_samples():
    def peak(count: int) -> int:
        stream = (feed for _ in range(count) for feed in feeds(1))
        tracemalloc.start()
        collect_statistics(net(), TENSORS, stream)
        peaked = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peaked

    peak(2)  # imports
    short, long = peak(5), peak(200)
    assert long < short + 100_000, (short, long)


# Interruption


class Stop(KeyboardInterrupt):
    pass


def interrupted(data: list, after: int):
    for index, feed in enumerate(data):
        if index == after:
            raise Stop
        yield feed


def collect(data, path, **options):
    options = {"every": 2, "data_digest": "d", **options}
    return collect_statistics(net(), TENSORS, data, checkpoint=path, **options)


def seen_samples(monkeypatch) -> list:
    """The samples that are really run from now on."""
    run: list = []
    add = module._add_sample

    def spy(states, runs, feed, sample):
        run.append(sample)
        add(states, runs, feed, sample)

    monkeypatch.setattr(module, "_add_sample", spy)
    return run


@pytest.mark.parametrize(("stop", "resumed"), [(1, 0), (2, 2), (5, 4), (6, 6)])
def test_an_interrupted_pass_goes_on_to_the_same_bits(tmp_path, monkeypatch, stop, resumed):
    path, data = tmp_path / "statistics.npz", feeds()
    with pytest.raises(Stop):
        collect(interrupted(data, stop), path)
    run = seen_samples(monkeypatch)
    assert contents(collect(data, path)) == contents(collect_statistics(net(), TENSORS, data))
    assert run[0] == resumed
    assert run[: 7 - resumed] == list(range(resumed, 7))


def test_an_interruption_inside_a_sample_loses_nothing(tmp_path, monkeypatch):
    path, data = tmp_path / "statistics.npz", feeds()
    add = Accumulator.add

    def breaks(self, array, sample):
        if self.name == "c" and sample == 5:
            raise Stop
        add(self, array, sample)

    with monkeypatch.context() as patch:
        patch.setattr(Accumulator, "add", breaks)
        with pytest.raises(Stop):
            collect(data, path)
    assert contents(collect(data, path)) == contents(collect_statistics(net(), TENSORS, data))


def test_a_finished_pass_runs_nothing_again(tmp_path, monkeypatch):
    path, data = tmp_path / "statistics.npz", feeds()
    first = collect(data, path)
    run = seen_samples(monkeypatch)
    assert contents(collect(data, path)) == contents(first)
    assert run == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["statistics.npz"]


def test_a_killed_process_goes_on(tmp_path):
    script = textwrap.dedent("""
        import os, signal, sys
        from tests.calibrate.test_statistics import collect, feeds
        from pathlib import Path
        def dying(data):
            for index, feed in enumerate(data):
                if index == 5:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield feed
        collect(dying(feeds()), Path(sys.argv[1]))
    """)
    path = tmp_path / "statistics.npz"
    ended = subprocess.run([sys.executable, "-c", script, str(path)], check=False, cwd=os.getcwd())
    assert ended.returncode == -signal.SIGKILL
    assert read_statistics(path)["a"].samples == 4
    assert contents(collect(feeds(), path)) == contents(collect_statistics(net(), TENSORS, feeds()))


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


def empty(path):
    path.write_bytes(b"")


def pickled(path):
    np.savez(path, header=np.array([{"a": 1}], object))


def counts_changed(path):
    with np.load(path) as file:
        arrays = dict(file)
    arrays["counts"][1, 3] += 1
    np.savez(path, **arrays)


@pytest.mark.parametrize("damage", [cut, flip, empty, pickled, counts_changed])
def test_a_damaged_checkpoint_is_not_used_and_said(tmp_path, monkeypatch, caplog, damage):
    path, data = tmp_path / "statistics.npz", feeds()
    with pytest.raises(Stop):
        collect(interrupted(data, 5), path)
    damage(path)
    run = seen_samples(monkeypatch)
    with caplog.at_level(logging.WARNING):
        found = collect(data, path)
    assert run[0] == 0
    assert "is not used: calibration statistics cannot be read" in caplog.text
    assert contents(found) == contents(collect_statistics(net(), TENSORS, data))


def test_a_checkpoint_of_something_else_is_not_used_and_said(tmp_path, monkeypatch, caplog):
    path, data = tmp_path / "statistics.npz", feeds()
    run = seen_samples(monkeypatch)
    other = net(NET.replace("2.0", "3.0"))
    attempts = [
        lambda: collect(data, path, data_digest="e"),
        lambda: collect(data, path, channels=["a"]),
        lambda: collect_statistics(net(), ["a", "x"], data, checkpoint=path, data_digest="d"),
        lambda: collect_statistics(other, TENSORS, data, checkpoint=path, data_digest="d"),
    ]
    for attempt in attempts:
        collect(data, path)
        run.clear()
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            attempt()
        assert run == list(range(7))
        assert "statistics of another graph, tensors or data" in caplog.text


def test_a_checkpoint_needs_a_digest_and_as_much_data_as_before(tmp_path):
    path = tmp_path / "statistics.npz"
    with pytest.raises(UsageError, match="digest"):
        collect(feeds(), path, data_digest="")
    with pytest.raises(UsageError, match="samples"):
        collect(feeds(), path, every=0)
    collect(feeds(), path)
    with pytest.raises(UsageError, match="more samples than the data"):
        collect(feeds(3), path)


def test_statistics_survive_a_file(tmp_path):
    path = tmp_path / "deep" / "s.npz"
    found = collect_statistics(net(), TENSORS, feeds(), channels=["a"])
    write_statistics(path, found, "key")
    assert contents(read_statistics(path, "key")) == contents(found)
    with pytest.raises(UsageError, match="another graph"):
        read_statistics(path, "other")
    with pytest.raises(UsageError, match="cannot be read"):
        read_statistics(tmp_path / "none.npz")


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="cannot write"):
        write_statistics(tmp_path / "file" / "s.npz", collect_statistics(net(), ["a"], feeds(1)))
