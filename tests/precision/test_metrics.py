"""Scores on cases whose answer is known, and every way in which a metric can be wrong."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwc.errors import UsageError
from hwc.precision.metrics import agreement, load_metric, outputs_sqnr_db, sqnr_db


def score(name, got, label=None, base=None):
    as_outputs = lambda x: x if isinstance(x, dict) else {"y": np.asarray(x, np.float32)}  # noqa: E731
    got = as_outputs(got)
    return load_metric(name).score(got, label, as_outputs(base) if base is not None else got, "photo7")


def test_top1_and_top5():
    row = [[0.1, 0.9, 0.3, 0.2, 0.4, 0.5, 0.6]]
    assert [score("top1", row, label) for label in range(7)] == [0, 1, 0, 0, 0, 0, 0]
    assert [score("top5", row, label) for label in range(7)] == [0, 1, 1, 0, 1, 1, 1]
    assert score("top1", [0.1, 0.9], 1) == 1.0
    assert score("top1", np.reshape(row, (1, 7, 1, 1)), 1) == 1.0


def test_ties_and_nan_win_nothing():
    assert sum(score("top1", [[0.5] * 4], label) for label in range(4)) == 1
    assert score("top1", [[np.nan, 1.0]], 0) == score("top1", [[np.nan, 1.0]], 1) == 0
    assert score("agreement", [[np.nan, 1.0]], base=[[0.0, 1.0]]) == 0


def test_a_batch_scores_the_mean_of_its_elements():
    assert score("top1", [[0, 1], [0, 1]], (1, 0)) == 0.5
    with pytest.raises(UsageError, match="one answer per label"):
        score("top1", [[0, 1], [0, 1]], 1)


def test_agreement_is_the_share_of_positions():
    base = np.zeros((1, 3, 2, 2), np.float32)
    base[0, 1] = 1.0
    got = base.copy()
    got[0, 2, 0, 0] = 2.0
    assert score("agreement", got, base=base) == 0.75
    assert score("agreement:y@3", np.moveaxis(got, 1, 3), base=np.moveaxis(base, 1, 3)) == 0.75
    assert agreement({"y": base}, {"y": base}) == 1.0


def test_cosine_and_sqnr():
    assert score("cosine", [1.0, 0.0], base=[1.0, 1.0]) == pytest.approx(math.sqrt(0.5))
    assert score("cosine", [-1.0, 0.0], base=[1.0, 0.0]) == 0.0
    assert score("cosine", [0.0], base=[0.0]) == 1.0 and score("cosine", [1.0], base=[0.0]) == 0.0
    assert score("cosine", [np.nan], base=[1.0]) == 0.0
    assert score("sqnr", [0.9, 0.0], base=[1.0, 0.0]) == pytest.approx(0.99)  # 20 dB
    assert score("sqnr", [5.0], base=[1.0]) == 0.0 and score("sqnr", [1.0], base=[0.0]) == 0.0
    assert score("sqnr", [np.nan], base=[1.0]) == 0.0 and score("sqnr", [0.0], base=[0.0]) == 1.0
    two = {"a": np.ones(2, np.float32), "b": np.ones(2, np.float32), "n": np.arange(3)}
    assert score("cosine", {**two, "b": -two["b"]}, base=two) == pytest.approx(0.5)
    assert score("cosine:a", {**two, "b": -two["b"]}, base=two) == pytest.approx(1.0)


@given(st.floats(0.001, 0.9), st.integers(0, 99))
def test_the_sqnr_score_is_what_the_decibels_say(noise, seed):
    signal = np.random.default_rng(seed).normal(size=50)
    got = signal * (1 + noise)
    decibels = sqnr_db(signal, got)
    assert decibels == pytest.approx(-20 * math.log10(noise), abs=1e-6)
    each = load_metric("sqnr").score({"y": got}, None, {"y": signal}, "s")
    assert each == pytest.approx(1 - 10 ** (-decibels / 10), abs=1e-9)


def test_sqnr_at_its_ends():
    zero, one = np.zeros(3), np.ones(3)
    assert sqnr_db(one, one) == math.inf and sqnr_db(zero, zero) == math.inf
    assert sqnr_db(zero, one) == -math.inf and sqnr_db(one, np.full(3, np.nan)) == -math.inf
    masked = np.array([-np.inf, 1.0])
    assert sqnr_db(masked, masked) == math.inf
    assert sqnr_db(masked, np.array([-np.inf, 0.9])) == pytest.approx(20.0)
    assert sqnr_db(masked, np.array([np.inf, 1.0])) == -math.inf
    with pytest.raises(UsageError, match="shape"):
        sqnr_db(zero, np.zeros((1, 3)))
    assert outputs_sqnr_db({"n": np.arange(3)}, {"n": np.arange(3)}) is None
    assert outputs_sqnr_db({"a": one, "b": one}, {"a": one, "b": zero}) == pytest.approx(70.0)  # 140 and 0


@pytest.mark.parametrize(
    ("name", "got", "label", "match"),
    [
        ("top1", [[0, 1]], None, "needs a label"),
        ("top1", [[0, 1]], 2, "no class of the model"),
        ("top1", [[0, 1]], -1, "no class of the model"),
        ("top1", [[0.5]], 0, "no classes along axis"),
        ("agreement", np.float32(1), None, "no classes"),
        ("top1", {"a": np.ones((1, 2)), "b": np.ones((1, 2))}, 0, "several outputs"),
        ("top1:z", [[0, 1]], 0, "no output is called 'z'"),
        ("cosine", {"n": np.arange(3)}, None, "no output holds floats"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_the_samples_name(name, got, label, match):
    with pytest.raises(UsageError, match=match) as caught:
        score(name, got, label)
    assert "photo7" in caught.value.where


@pytest.mark.parametrize("name", ["top2", "", "accuracy", "top1:y@x", "nothing.py:fn", "folder.py/x"])
def test_unknown_names_are_refused(name):
    with pytest.raises(UsageError):
        load_metric(name)


USER = """
import math
calls = []
def good(outputs, label, baseline_outputs): return float(outputs["y"][0] == label)
def none(outputs, label, baseline_outputs): return None
def nan(outputs, label, baseline_outputs): return math.nan
def large(outputs, label, baseline_outputs): return 1.5
def broken(outputs, label, baseline_outputs): return outputs["z"]
def editing(outputs, label, baseline_outputs):
    outputs.clear()
    return 1.0
_hidden = 1
"""


def test_the_users_own_function(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(USER)
    assert score(f"{path}:good", [3.0], 3) == 1.0 and score(f"{path}:good", [3.0], "text") == 0.0
    for name, match in (("none", "failed"), ("nan", "outside"), ("large", "outside"), ("broken", "KeyError")):
        with pytest.raises(UsageError, match=match) as caught:
            score(f"{path}:{name}", [3.0], 3)
        assert "photo7" in caught.value.where
    outputs = {"y": np.ones(1, np.float32)}
    load_metric(f"{path}:editing").score(outputs, None, outputs, "s")
    assert list(outputs) == ["y"]
    with pytest.raises(UsageError, match="no function 'missing'"):
        load_metric(f"{path}:missing")
    path.write_text("raise RuntimeError('no')")
    with pytest.raises(UsageError, match="RuntimeError: no"):
        load_metric(f"{path}:good")
