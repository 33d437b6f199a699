"""The published table of errors follows from the shipped constants and rows, and a row that was damaged is noticed."""

from __future__ import annotations

import csv
import hashlib
import json

import numpy as np
import pytest

from benchmarks.estimate_report import format_estimate
from benchmarks.fit_board_power import read_power_rows
from benchmarks.fit_dla import dla_works, predict_dla, read_dla_rows
from benchmarks.fit_roofline import EXCLUDED, ROWS, cross_intervals, fit, leave_out, quantiles, read_rows, state_problem
from benchmarks.networks import NETWORKS
from benchmarks.run_estimate import OUT, errors_of, evaluate, find_outliers
from hwc.cost.fitted import FILE, load_fitted
from hwc.cost.price_kernels import inference_seconds


@pytest.fixture(scope="module")
def results():
    return json.loads(OUT.read_text())


@pytest.fixture(scope="module")
def rows():
    return read_rows()


@pytest.fixture(scope="module")
def problem(rows):
    return state_problem(rows)


def arrays(results):
    return (np.array([r[k] for r in results["rows"]]) for k in ("published_ms", "predicted_ms"))


def test_what_was_promised_holds(results):
    published, predicted = arrays(results)
    assert np.median(np.abs(predicted / published - 1)) <= 0.20
    inside = [r["low_ms"] <= r["published_ms"] <= r["high_ms"] for r in results["rows"]]
    assert 0.75 <= np.mean(inside) <= 0.87
    assert inside == [r["is_inside"] for r in results["rows"]]


def test_the_summary_follows_from_the_rows(results):
    published, predicted = arrays(results)
    assert errors_of(published, predicted) == pytest.approx(results["summary"]["pair"], abs=2e-4)
    pairs = [f"{'fcn_resnet18' if 'fcn' in r['network'] else r['network']}|{r['target']}" for r in results["rows"]]
    assert len(set(pairs)) == results["summary"]["pairs"]
    factors = cross_intervals(published, predicted, pairs)
    assert [r["low_ms"] for r in results["rows"]] == pytest.approx(predicted * factors[:, 0], rel=1e-3)
    assert list(quantiles(np.log(published / predicted))) == pytest.approx(load_fitted().intervals["board"], abs=2e-4)


def test_the_shipped_constants_give_the_stored_fit(results, problem):
    fits = inference_seconds(problem.joined(), load_fitted().latency, problem.clients) * 1e3
    assert [r["fitted_ms"] for r in results["rows"]] == pytest.approx(fits, rel=1e-4)
    changed = {**load_fitted().latency, "cycles": load_fitted().latency["cycles"] * 1.02}
    other = inference_seconds(problem.joined(), changed, problem.clients) * 1e3
    assert [r["fitted_ms"] for r in results["rows"]] != pytest.approx(other, rel=1e-4)


def test_one_left_out_pair_comes_out_as_stored(results, rows, problem):
    """One fold of the sixty-seven, in full: no row of ResNet-50 on the Xavier NX is seen."""
    out = [i for i, row in enumerate(rows) if row.pair == "resnet50|xavier-nx-8gb"]
    constants = fit(problem.of([i for i in range(len(rows)) if i not in out]))
    part = problem.of(out)
    predicted = inference_seconds(part.joined(), constants, part.clients) * 1e3
    assert [results["rows"][i]["predicted_ms"] for i in out] == pytest.approx(predicted, rel=1e-3)


def test_the_dla_constants_give_the_stored_fit(results):
    rows = read_dla_rows()
    seconds = predict_dla(rows, dla_works(rows), load_fitted().dla) * 1e3
    assert [r["fitted_ms"] for r in results["dla"]["rows"]] == pytest.approx(seconds, rel=1e-4)


def test_the_text_is_that_of_the_numbers(results):
    assert OUT.with_suffix(".md").read_text() == format_estimate(results)


def test_the_rows_are_those_that_were_fitted():
    stored = json.loads(FILE.read_text())["latency"]
    assert hashlib.sha256(ROWS.read_bytes()).hexdigest() == stored["rows_sha256"]
    assert stored["rows"] == len(read_rows())


def test_rows_are_whole(rows):
    assert all(row.network in NETWORKS and row.source and row.precision in ("fp32", "fp16", "int8") for row in rows)
    assert len({row.line for row in rows}) == len(rows)
    with EXCLUDED.open() as lines:
        excluded = list(csv.DictReader(lines))
    assert all(row["reason"] and row["source"] for row in excluded)
    assert not {int(row["line"]) for row in excluded} & {row.line for row in rows}
    assert len(excluded) + len(rows) == 371
    assert len({row.scope for row in read_power_rows()}) == 3


def test_a_corrupted_row_is_noticed(tmp_path, rows, problem):
    """Ten times the latency in one line: another digest, and the row stands out among those that were left out."""
    text = ROWS.read_text()
    damaged = tmp_path / "latency.csv"
    damaged.write_text(text.replace(",29.8,", ",298,", 1))
    assert hashlib.sha256(damaged.read_bytes()).hexdigest() != json.loads(FILE.read_text())["latency"]["rows_sha256"]
    changed = [i for i, (a, b) in enumerate(zip(rows, read_rows(damaged))) if a != b]
    assert len(changed) == 1
    seconds = np.array([row.latency_ms / 1e3 for row in read_rows(damaged)])
    fits = inference_seconds(problem.joined(), load_fitted().latency, problem.clients)
    assert changed[0] in find_outliers(seconds, fits) and changed[0] not in find_outliers(problem.seconds, fits)


@pytest.mark.parametrize("figure", ["", "0", "-1", "nan", "inf", "fast"])
def test_a_figure_that_is_no_time_is_refused(figure, tmp_path):
    damaged = tmp_path / "latency.csv"
    damaged.write_text(ROWS.read_text().replace(",29.8,", f",{figure},", 1))
    with pytest.raises(ValueError, match="line 419"):
        read_rows(damaged)


def test_quantiles_leave_a_tenth_on_either_side():
    low, high = quantiles(np.log(np.arange(1, 100)))
    assert (low, high) == pytest.approx((10, 90))


def test_left_out_rows_do_not_move_their_own_prediction(rows, problem):
    """With one figure of the pair ten times as large, what is predicted for the pair stays as it was."""
    keep = [i for i, row in enumerate(rows) if row.target in ("tx2", "jetson-nano")]
    part = problem.of(keep)
    labels = ["out" if rows[i].pair == "inception_v1|tx2" else "in" for i in keep]
    out = [k for k, label in enumerate(labels) if label == "out"]
    before = leave_out(part, labels)[out]
    part.seconds[out[0]] *= 10
    assert leave_out(part, labels)[out] == pytest.approx(before)


@pytest.mark.slow
def test_a_refit_gives_what_is_shipped(results):
    again, constants = evaluate()
    assert constants["latency"]["constants"] == pytest.approx(load_fitted().latency, rel=1e-3)
    stored = [r["predicted_ms"] for r in results["rows"]]
    assert [r["predicted_ms"] for r in again["rows"]] == pytest.approx(stored, rel=1e-2)
