"""The way of a compile to a DLA: refusals before any work, the plan in the bundle, equal scales, limits of pools."""

from __future__ import annotations

import dataclasses

import pytest

from hwc import targets
from hwc.artifacts import BuildKey, Engine
from hwc.artifacts_dla import read_dla_plan
from hwc.errors import TargetError, UsageError
from hwc.graph.save import save_model
from hwc.optimize import Optimized
from hwc.place_on_dla import DlaChoice, DlaPlacement, read_choice
from tests.dla.judged import ORIN, XAVIER, model, scales, with_facts

NET = model("c = Conv<pads=[1,1,1,1]>(x, w) r = Relu(c) y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)",
            "float[1,64,56,56] x", "float[1,64,28,28] y", arrays={"w": (64, 64, 3, 3)})  # fmt: skip
TAIL = model("r = Relu(x) y = Gather<axis=1>(r, i)", "float[1,4,8,8] x, int64[2] i", "float[1,2,8,8] y")
KEY = BuildKey("0" * 64, "agx-xavier-32gb", "tensorrt 8.5.2", "fp16", (("dla_core", "0"), ("threads", "2")))
ENGINE = Engine("tensorrt", "deferred", KEY, (), (), (), (), 0, None, None, 0.0, ())


def choice(options=None, objective="", target=XAVIER, backend="tensorrt", precision="fp16"):
    hardware = targets.load(target) if isinstance(target, str) else target
    return read_choice({"dla_core": "0"} if options is None else options, objective, hardware, backend, precision)


def placement(objective: str = "all", *, has_fallback: bool = True, target=XAVIER, precision="fp16") -> DlaPlacement:
    return DlaPlacement(DlaChoice(0, has_fallback, objective), targets.load(target), precision)


def place(stage, net=NET, placed=None, *, precision="fp16", engine=ENGINE, implicit=None):
    stage.mkdir(exist_ok=True)
    save_model(net, stage / "model.onnx")
    optimized = Optimized(stage, precision, (), (), "0" * 64, (), (), ("fp16 was passed over",))
    return (placed or placement()).place(stage, optimized, engine, implicit or {})


def test_what_was_asked_is_read_and_the_objective_follows_the_fallback():
    assert choice() == DlaChoice(0, False, "all")
    both = {"dla_core": "1", "gpu_fallback": "yes"}
    assert choice(both) == DlaChoice(1, True, "offload") and choice(both, "latency").objective == "latency"
    assert choice({}) is None and choice(backend="tensorrt_rtx") is None


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"options": {}, "objective": "latency"}, UsageError, "plans for a board's DLA"),
        ({"objective": "latency"}, UsageError, "nothing to choose"),
        ({"precision": "fp32"}, UsageError, "FP16 or INT8"),
        ({"options": {"dla_core": "2"}}, UsageError, "no DLA core 2"),
        ({"target": "orin-nano"}, TargetError, "has no DLA"),
        ({"target": "agx-thor"}, TargetError, "has no DLA"),
        ({"target": with_facts(ORIN, software__tensorrt="10.8.0")}, TargetError, "TensorRT 10.8.0 does not drive"),
        ({"target": with_facts(ORIN, software__tensorrt="11.3.1")}, TargetError, "TensorRT 11.3.1 does not drive"),
        ({"target": with_facts(ORIN, software__tensorrt="11.4.1")}, TargetError, "strongly typed networks"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_any_work(asked, error, words):
    with pytest.raises(error, match=words) as caught:
        choice(**asked)
    assert error is UsageError or caught.value.source


def test_the_plan_goes_into_the_bundle_and_its_options_into_the_key(tmp_path):
    placed = placement()
    engine, model_file, left = place(tmp_path / "stage", placed=placed)
    plan = read_dla_plan(tmp_path / "stage")
    assert plan is not None and plan.dla_layers == tuple(str(node.name) for node in NET.graph)
    assert engine.key.model_digest == plan.model_digest and (model_file, left) == ("model.onnx", {})
    assert dict(engine.key.options) == {
        "dla_core": "0", "threads": "2", "dla_plan": "dla_plan.json",
        "memory_pools": "dla_sram:1048576B,dla_local_dram:1073741824B,dla_global_dram:536870912B",
    }  # fmt: skip
    assert any(note.startswith("memory_pools: ") and "docs.nvidia.com" in note for note in engine.notes)
    assert placed.notes[0].startswith("DLA core 0: 3 of 3 layers in 1 loadables, 2 transitions, likely (objective all)")
    assert "estimate" in placed.notes[0]


def test_pools_of_the_user_stay(tmp_path):
    own = "dlaSRAM:512K,dla_local_dram:64M,dla_global_dram:64M"
    key = dataclasses.replace(KEY, options=(("dla_core", "0"), ("memory_pools", own)))
    engine, _, _ = place(tmp_path / "stage", engine=dataclasses.replace(ENGINE, key=key))
    assert dict(engine.key.options)["memory_pools"] == own
    assert not any(note.startswith("memory_pools: ") for note in engine.notes)


@pytest.mark.parametrize(
    ("net", "placed", "words", "do"),
    [
        (TAIL, placement(has_fallback=False), "not every layer may run .*: 1 of 2", "--gpu-fallback"),
        (model("y = Gather<axis=1>(x, i)", "float[1,4,8,8] x, int64[2] i", "float[1,2,8,8] y"), placement(),
         "no layer may run", "hwc inspect"),
        (NET, placement("latency"), "puts no layer on the DLA", "--dla-objective offload"),
        (model("y = Relu(x)", "float[N,4,8,8] x", "float[N,4,8,8] y"), placement(), "no layer may run", "hwc inspect"),
    ],
)  # fmt: skip
def test_a_plan_that_is_not_worth_a_build_is_refused(tmp_path, net, placed, words, do):
    with pytest.raises(TargetError, match=words) as caught:
        place(tmp_path / "stage", net, placed)
    assert do in caught.value.do and read_dla_plan(tmp_path / "stage") is None


def test_a_precision_that_the_dla_lacks_is_refused_after_the_fact_too(tmp_path):
    with pytest.raises(TargetError, match="fp32 is what keeps the accuracy") as caught:
        place(tmp_path / "stage", precision="fp32")
    assert "fp16 was passed over" in caught.value.got
    with pytest.raises(TargetError, match="by a calibration cache"):
        place(tmp_path / "stage", precision="int8")


def test_scales_are_made_equal_where_the_plan_needs_it_and_nowhere_else(tmp_path):
    net = model("r = Relu(x) p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r) y = Gather<axis=1>(p, i)",
                "float[1,4,8,8] x, int64[2] i", "float[1,2,4,4] y")  # fmt: skip
    placed = placement(precision="int8")
    tied = placed.tie(net, scales(x=0.1, r=0.2, p=0.5))
    assert {name: scale.scale[0] for name, scale in tied.tensors.items()} == {"x": 0.1, "r": 0.5, "p": 0.5}
    assert placed.notes == ["DLA: 1 INT8 scales grew to those of their neighbours, 'r' 2.5 times; the accuracy was "
                            "judged before that"]  # fmt: skip
    implicit = {"model": "model.float.onnx", "calibration_cache": "calib.cache"}
    engine, model_file, left = place(tmp_path / "stage", net, placed, precision="int8", implicit=implicit)
    assert (model_file, left) == ("model.float.onnx", {})
    assert dict(engine.key.options)["calibration_cache"] == "calib.cache"
    plan = read_dla_plan(tmp_path / "stage")
    assert plan is not None and plan.precision == "int8" and len(plan.dla_layers) == 2
    # A pool whose output nothing measured has no scale to share, so it stays on the GPU.
    placed = placement(precision="int8")
    assert placed.tie(net, scales(x=0.1, r=0.2)).tensors["r"].scale == (0.2,) and placed.notes == []
