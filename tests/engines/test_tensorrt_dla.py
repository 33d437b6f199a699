"""A DLA plan on a board's TensorRT: what is moved, what is refused and said, and that nothing is moved in silence."""

from __future__ import annotations

import dataclasses

import pytest

from hwc import targets
from hwc.artifacts_dla import DlaLoadable, DlaPlan, write_dla_plan
from hwc.engines.tensorrt_dla import require_dla
from hwc.errors import TargetError, UsageError
from tests.dla.judged import with_facts
from tests.engines import test_tensorrt_api as walk
from tests.engines.contract import conv_graph
from tests.engines.fakes import load_fake

WITH_FALLBACK = {"dla_core": "1", "gpu_fallback": "yes", "dla_plan": "dla_plan.json"}


def plan_of(*layers: str) -> DlaPlan:
    return dataclasses.replace(walk.DLA, loadables=(DlaLoadable("dla0", layers, (), ()),))


@pytest.fixture
def build(monkeypatch, tmp_path):
    """Builds Conv and Relu by that plan on a stand-in with two DLA cores; what it wrote and the notes."""

    def run(plan: DlaPlan, options=WITH_FALLBACK, *, refuses: str = "", version: str = "8.5.2.2"):
        monkeypatch.setenv("HWC_FAKE_DLA_REFUSES", refuses)
        trt = load_fake(monkeypatch, version, dla_cores=2)
        monkeypatch.setattr(walk, "write_dla_plan", lambda folder, _: write_dla_plan(folder, plan))
        found, result = walk.build_with_fake(trt, tmp_path, options, model=conv_graph())
        return found, result["notes"]

    return run


@pytest.mark.parametrize("version", ["8.5.2.2", "10.3.0.26"])
def test_only_the_plans_layers_are_moved(build, version):
    found, notes = build(plan_of("stem/conv"), version=version)
    assert found["device"] == "GPU" and found["devices"] == {"stem/conv": "DLA"} and "GPU_FALLBACK" in found["flags"]
    assert found["numbers"]["DLA_core"] == 1 and not found["strong"]
    assert "DLA core 1: 1 of 1 planned layers, 2 of the network's layers on the GPU" in notes


def test_what_tensorrt_refuses_stays_on_the_gpu_and_is_counted(build):
    found, notes = build(plan_of("stem/conv", "stem/relu", "merged"), refuses="stem/relu")
    assert found["devices"] == {"stem/conv": "DLA"}
    assert "DLA core 1: 1 of 3 planned layers, 2 of the network's layers on the GPU" in notes
    assert "TensorRT refused 1 planned layers for the DLA: 'stem/relu'" in notes
    assert "1 planned layers are none of TensorRT's, which merged or renamed them: 'merged'" in notes


def test_without_a_fallback_the_network_is_on_the_dla_or_is_refused_before_the_build(build):
    options = {name: value for name, value in WITH_FALLBACK.items() if name != "gpu_fallback"}
    found, notes = build(plan_of("stem/conv", "stem/relu"), options)
    assert "DLA core 1: all 3 layers of the network or none; the plan has 2" in notes
    assert found["device"] == "DLA" and found["devices"] == {} and "GPU_FALLBACK" not in found["flags"]
    with pytest.raises(TargetError, match="refuses 1 of 2 planned layers") as caught:
        build(plan_of("stem/conv", "stem/relu"), options, refuses="stem/relu")
    assert "'stem/relu'" in caught.value.where and "--gpu-fallback" in caught.value.do


def test_a_plan_of_another_graph_is_refused(build):
    with pytest.raises(UsageError, match="no layer of the DLA plan") as caught:
        build(plan_of("a", "b", "c", "d"))
    assert caught.value.expected == "'a', 'b', 'c' and 1 more"


def test_a_tensorrt_without_dla_is_refused_with_the_fact_and_its_source():
    orin, xavier = targets.load("agx-orin"), targets.load("agx-xavier")
    for version in ("10.3.0", "10.7.0.23", "11.4.1"):
        require_dla(orin, f"tensorrt {version}")
    require_dla(xavier, "tensorrt 8.5.2.2")
    for version in ("10.8.0", "10.16.1", "11.0.0.5", "11.3.1"):
        with pytest.raises(TargetError, match=f"TensorRT {version} does not drive the DLA of agx-orin") as caught:
            require_dla(orin, f"tensorrt {version}")
        assert "docs.nvidia.com" in caught.value.source and "10.8-10.16 no" in caught.value.expected
    with pytest.raises(TargetError, match="no source says"):
        require_dla(xavier, "tensorrt 10.3.0")
    require_dla(orin, "tensorrt unknown")  # the builder asks the machine itself
    with pytest.raises(TargetError, match="does not drive"):
        require_dla(with_facts("agx-orin", dla__count=0), "tensorrt 10.3.0")
