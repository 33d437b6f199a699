"""The tiling report: a small case end to end, the words of its table, and the networks' known sizes."""

from __future__ import annotations

import json

import pytest

from benchmarks import run_tiling
from benchmarks.networks.segment import mobilenet_v2, unet3d
from benchmarks.run_tiling import Case, Row, format_text
from hwc import targets
from hwc.cost.count_flops import count_flops
from hwc.reduce.live_bytes import peak_bytes
from hwc.reduce.lower_peak import lower_peak
from tests.reduce.nets import PRICE

MACHINE = {"processor": "a processor"}


def row(**changed) -> Row:
    plain = {"network": "net", "share": 0.5, "peak_before": 100 << 20, "peak_after": 40 << 20, "flops_before": 1000,
             "flops_after": 1100, "estimated_ratio": 1.1, "nodes": 9, "steps": ("x is made in 2x2 tiles",),
             "plan_seconds": 1.0}  # fmt: skip
    return Row(**{**plain, **changed})


def test_a_row_says_what_was_kept_of_the_promise():
    measured = row(resident_before=120 << 20, resident_after=66 << 20, seconds_before=0.5, seconds_after=0.6)
    text = format_text([measured], MACHINE)
    assert "| 60.0% | +10.0% |" in text and "120.0 to 66.0 | 0.90 | 1.20x of 0.500 s" in text
    assert "not run" in format_text([row()], MACHINE)
    assert "refused" in format_text([row(refusal="at least 70 MiB")], MACHINE)


def test_mobilenet_is_as_large_as_its_paper_says():
    model = mobilenet_v2((3, 224, 224))
    assert sum(count_flops(node) for node in model.graph) / 2e6 == pytest.approx(300, rel=0.05)  # 300 M multiply-adds
    assert peak_bytes(model) == 4 * 112 * 112 * (96 + 96 // 4)  # expanded, and its depthwise result


def test_mobilenet_fits_a_quarter():
    model = mobilenet_v2((3, 224, 224))
    assert peak_bytes(lower_peak(model, peak_bytes(model) // 4, PRICE)[0].model) * 4 <= peak_bytes(model)


@pytest.mark.slow
def test_the_unet_falls_by_more_than_the_published_case():
    model = unet3d((1, 128, 144, 144))
    before = peak_bytes(model)
    lowered = lower_peak(model, int(before * 0.43), PRICE)[0]
    assert before > 4.0e9 and lowered.peak_bytes == peak_bytes(lowered.model) <= 0.43 * before
    flops = [sum(count_flops(node) for node in graph.graph) for graph in (model, lowered.model)]
    assert flops[1] < 1.1 * flops[0]


def test_a_small_case_end_to_end(monkeypatch, tmp_path):
    case = Case("tiny", lambda: run_tiling._filled(unet3d((1, 16, 16, 16), width=4, levels=2)), (0.5, 0.0))
    monkeypatch.setattr(run_tiling, "CASES", (case,))
    monkeypatch.setattr(run_tiling, "resolve_target", lambda name, store: targets.load("rtx-4090"))  # no probe
    monkeypatch.chdir(tmp_path)
    assert run_tiling.main(["--out", str(tmp_path / "tiling.json"), "--runs", "1"]) == 0
    rows = json.loads((tmp_path / "tiling.json").read_text())["rows"]
    assert rows[0]["resident_before"] is not None and rows[0]["peak_after"] * 2 <= rows[0]["peak_before"]
    assert rows[1]["refusal"].startswith("at least")
