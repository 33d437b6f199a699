"""The TensorRT engines: real ahead-of-time builds with TensorRT for RTX, and TensorRT 8.5's API by a stand-in."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from hwc.artifacts import Fact, Target, TensorSpec
from hwc.engines import base, tensorrt, trtexec
from hwc.engines.inspect import kernels_by_source
from hwc.errors import EngineError, TargetError, UsageError
from tests.engines.contract import (
    BATCH,
    conv_graph,
    gather_graph,
    quantized_conv_graph,
    request,
    rtx_target,
    specs,
    unknown_operator_graph,
)

FAKE = Path(__file__).parent / "fake_modules"
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def ask(model, folder, **fields):
    return request(model, folder, **{"target": rtx_target(), **fields})


def board() -> Target:
    return Target("board", "a board", "jetson", "tensorrt", {})


@pytest.fixture
def rtx():
    return pytest.importorskip("tensorrt_rtx", reason="the extra 'rtx' is not installed")


@pytest.fixture
def fake(monkeypatch):
    """Makes the build child import the stand-in; called with the way it shall die."""

    def use(mode=""):
        monkeypatch.setenv("PYTHONPATH", str(FAKE))
        monkeypatch.setenv("HWC_FAKE_TENSORRT", mode)

    return use


def test_kernels_memory_and_log_are_read_back(rtx, tmp_path):
    seen = []
    asked = ask(conv_graph(), tmp_path, progress=lambda what, fraction: seen.append(fraction))
    engine = base.build("tensorrt_rtx", asked)
    assert kernels_by_source(engine)["stem/conv"].sources == ("stem/conv", "stem/relu")
    assert kernels_by_source(engine)["stem/pool"].kind == "maxpool"
    assert (engine.backend, engine.state, dict(engine.precision_built).keys()) == ("tensorrt_rtx", "built", {"fp32"})
    assert engine.activation_bytes > 0 and engine.weight_bytes > 0
    assert engine.size_bytes == (asked.out_dir / "engine.plan").stat().st_size
    on_disk = {path.name for path in asked.out_dir.iterdir()}
    assert on_disk == set(engine.files)
    assert "Layers:" in gzip.decompress((asked.out_dir / "engine.log.gz").read_bytes()).decode()
    assert "TF32 off" in engine.notes[0]
    assert seen == sorted(seen) and seen[-1] == 1.0


def test_the_command_builds_the_engine_again(rtx, tmp_path):
    asked = ask(conv_graph(), tmp_path)
    engine = base.build("tensorrt_rtx", asked)
    asked.model.unlink()
    plan = asked.out_dir / "engine.plan"
    plan.unlink()
    environment = {**os.environ, "PYTHONPATH": str(Path(tensorrt.__file__).parents[2])}
    subprocess.run([sys.executable, *engine.command[1:]], cwd=asked.out_dir, env=environment, check=True)
    assert plan.stat().st_size == engine.size_bytes


def test_a_dynamic_batch_becomes_a_profile(rtx, tmp_path):
    engine = base.build("tensorrt_rtx", ask(conv_graph(), tmp_path, batch=BATCH))
    log = gzip.decompress((tmp_path / "bundle" / "engine.log.gz").read_bytes()).decode()
    assert "MinShape: [1,8,8,8], OptShape: [2,8,8,8], MaxShape: [4,8,8,8]" in log
    assert "shape_call" in log and "shape_call" not in {kernel.kind for kernel in engine.kernels}


def test_two_inputs_one_of_them_int64(rtx, tmp_path):
    engine = base.build("tensorrt_rtx", ask(gather_graph(), tmp_path))
    assert [spec.dtype for spec in engine.inputs] == ["int64", "float32"]
    assert {"pick", "move", "square"} <= set(kernels_by_source(engine))


@pytest.mark.parametrize(
    ("name", "kernels"),
    [("resnet50", 71), ("inception_v1", 98), pytest.param("densenet121", 199, marks=pytest.mark.slow)],
)
def test_the_kernel_rule_gives_known_counts(name, kernels, rtx, tmp_path):
    # Plain exports for SM86 with TensorRT for RTX 1.7.1, counted before by other hands.
    if rtx.__version__ != "1.7.1.116":
        pytest.skip(f"the counts are those of 1.7.1.116, not {rtx.__version__}")
    model = onnx.load(str(LIGHT / f"light_{name}.onnx"))
    constants = {tensor.name for tensor in model.graph.initializer}
    asked = ask(model, tmp_path, target=rtx_target("SM86"))
    inputs = specs([value for value in model.graph.input if value.name not in constants], 1)
    engine = base.build("tensorrt_rtx", base.BuildRequest(**{**vars(asked), "inputs": inputs}))
    assert len(engine.kernels) == kernels


def test_half_precision_is_read_back(rtx, tmp_path):
    engine = base.build("tensorrt_rtx", ask(conv_graph(TensorProto.FLOAT16), tmp_path, precision="fp16"))
    assert kernels_by_source(engine)["stem/conv"].precision == "fp16"


@pytest.mark.parametrize(
    ("kind", "asked", "words", "where"),
    [
        (TensorProto.FLOAT, "fp16", "takes types from the graph alone", ""),
        (TensorProto.FLOAT16, "fp32", "did not build what was asked", "stem/conv"),
    ],
)
def test_another_precision_than_the_graphs_is_refused(kind, asked, words, where, rtx, tmp_path):
    with pytest.raises(TargetError, match=words) as caught:
        base.build("tensorrt_rtx", ask(conv_graph(kind), tmp_path, precision=asked))
    assert where in caught.value.where
    assert not (tmp_path / "bundle" / "engine.plan").exists()


def test_int8_convolution_is_refused_with_its_source(rtx, tmp_path):
    with pytest.raises(TargetError, match="INT8 convolution") as caught:
        base.build("tensorrt_rtx", ask(quantized_conv_graph(), tmp_path))
    assert "conv" in caught.value.where and caught.value.source.startswith("https://")
    # Asked for by name, it is built, and what was built is told.
    options = {"allow_int8_convolution": "yes"}
    engine = base.build("tensorrt_rtx", ask(quantized_conv_graph(), tmp_path, options=options))
    assert kernels_by_source(engine)["conv"].precision == "int8"


def test_an_unknown_operator_is_named(rtx, tmp_path):
    with pytest.raises(TargetError, match="NoSuchOperator") as caught:
        base.build("tensorrt_rtx", ask(unknown_operator_graph(), tmp_path))
    assert "stranger" in caught.value.where and "plugin" in caught.value.do


def test_a_compute_capability_that_the_module_lacks_is_refused(rtx, tmp_path):
    with pytest.raises(TargetError, match="SM90") as caught:
        base.build("tensorrt_rtx", ask(conv_graph(), tmp_path, target=rtx_target("SM90")))
    assert "SM89" in caught.value.expected


def test_borders_are_compared(rtx, tmp_path):
    asked = ask(conv_graph(), tmp_path)
    spec = asked.inputs[0]
    for wrong in (
        TensorSpec("image", spec.dtype, spec.shape),
        TensorSpec("x", "float16", spec.shape),
        TensorSpec("x", spec.dtype, (2, 8, 9, 8)),
    ):
        with pytest.raises(UsageError):
            base.build("tensorrt_rtx", base.BuildRequest(**{**vars(asked), "inputs": (wrong,)}))


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        (Target("board", "", "jetson", "tensorrt_rtx", {}), {}, "Jetson"),
        (rtx_target(), {"dla_core": "0"}, "DLA"),
        (rtx_target(**{"engine.tensorrt_rtx_supported": Fact(False, "yes/no", "the matrix")}), {}, "does not support"),
        (Target("cpu", "", "cpu", "openvino", {}), {}, "has no NVIDIA GPU"),
        (Target("rtx", "", "geforce", "tensorrt_rtx", {}), {}, "gpu.compute_capability"),
    ],
)
def test_targets_that_it_does_not_serve_are_refused(target, options, words, tmp_path):
    with pytest.raises(TargetError, match=words):
        base.build("tensorrt_rtx", ask(conv_graph(), tmp_path, target=target, options=options))
    assert not (tmp_path / "bundle").exists()


def test_the_backend_decides_and_not_the_targets_habit(rtx, tmp_path):
    # A data-centre GPU usually takes TensorRT; asked for by name, the ahead-of-time engine is built for it.
    facts = {"gpu.compute_capability": Fact("8.6", "version", "this test")}
    asked = ask(conv_graph(), tmp_path, target=Target("a10", "", "datacenter", "tensorrt", facts))
    assert base.build("tensorrt_rtx", asked).backend == "tensorrt_rtx"


def test_the_capability_follows_from_the_gpus_own(tmp_path):
    facts = {"gpu.compute_capability": Fact("8.9", "version", "this test")}
    asked = ask(conv_graph(), tmp_path, target=Target("rtx", "", "geforce", "tensorrt_rtx", facts))
    assert tensorrt._compute_capability(asked) == "SM89"


@pytest.mark.parametrize(
    "options", [{"faster": "yes"}, {"allow_tf32": "1"}, {"workspace_bytes": "1G"}, {"typing": "duck"}]
)
def test_wrong_options_are_refused(options, tmp_path):
    with pytest.raises(UsageError, match="option"):
        base.build("tensorrt_rtx", ask(conv_graph(), tmp_path, options=options))


def test_every_option_that_it_has_is_taken_for_real_and_the_timing_cache_kept(rtx, tmp_path):
    options = {
        "memory_pools": "workspace:64M,tactic_dram:1G,tactic_shared_memory:48K", "builder_optimization_level": "1",
        "max_aux_streams": "0", "avg_timing_iterations": "2", "hardware_compatibility": "ampere_plus",
        "tactic_sources": "-JIT_CONVOLUTIONS", "sparsity": "yes", "extra_profiles": "x:4x8x8x8", "typing": "strong",
    }  # fmt: skip
    how = {"batch": BATCH, "options": options, "cache": tmp_path / "cache"}
    first = base.build("tensorrt_rtx", ask(conv_graph(), tmp_path, **how))
    assert {"pool workspace 67108864 bytes", "pool tactic_shared_memory 49152 bytes", "builder_optimization_level 1",
            "tactic sources EDGE_MASK_CONVOLUTIONS", "hardware compatibility ampere_plus", "sparsity on",
            "2 optimization profiles, each with kernels of its own"} <= set(first.notes)  # fmt: skip
    assert any(note.startswith("timing cache: new, ") for note in first.notes)
    log = gzip.decompress((tmp_path / "bundle" / "engine.log.gz").read_bytes()).decode()
    assert "MinShape: [4,8,8,8], OptShape: [4,8,8,8], MaxShape: [4,8,8,8]" in log
    (kept,) = (tmp_path / "cache").rglob("*.timing")
    again = base.build("tensorrt_rtx", ask(conv_graph(), tmp_path, **how))
    assert f"timing cache: that of this build key, {kept.stem}" in again.notes
    assert any("bytes of timing cache read" in note for note in again.notes)
    assert {path.name for path in (tmp_path / "bundle").iterdir()} == set(again.files)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"typing": "weak"}, "no weakly typed networks"),
        ({"tactic_sources": "-CUDNN"}, "no tactic source CUDNN"),
        ({"memory_pools": "dla_sram:1M"}, "no DLA here"),
        ({"dynamic_ranges": "table.json"}, "no dynamic ranges"),
    ],
)
def test_what_tensorrt_for_rtx_lacks_is_refused_by_name(options, words, rtx, tmp_path):
    (tmp_path / "table.json").write_text("{}")
    with pytest.raises(TargetError, match=words) as caught:
        base.build("tensorrt_rtx", ask(conv_graph(), tmp_path, options=options))
    assert f"tensorrt_rtx {rtx.__version__}" in str(caught.value)


def test_several_real_builds_without_a_gpu_are_ranked_by_what_can_be_read(rtx, tmp_path):
    engine = base.build("tensorrt_rtx", ask(conv_graph(), tmp_path, options={"builds": "2"}))
    assert any("2 builds, number 1 kept, ranked by kernels, activations and plan size" in n for n in engine.notes)
    assert any("likely the best and no more" in note for note in engine.notes)
    assert {path.name for path in (tmp_path / "bundle").iterdir()} == set(engine.files)


def test_a_missing_module_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(trtexec, "find_trtexec", lambda: None)
    with pytest.raises(EngineError, match="'tensorrt' is not installed"):
        base.build("tensorrt", ask(conv_graph(), tmp_path, target=board()))


def test_a_session_is_refused(fake, tmp_path, monkeypatch):
    fake()
    asked = ask(conv_graph(), tmp_path, target=board(), precision="fp16")
    engine = base.build("tensorrt", asked)
    monkeypatch.setattr(tensorrt, "has_cuda_gpu", lambda: False)
    with pytest.raises(TargetError, match="cannot run here"):
        base.open_session(engine, asked.out_dir)
    monkeypatch.setattr(tensorrt, "has_cuda_gpu", lambda: True)
    with pytest.raises(EngineError, match="'tensorrt' is not installed"):
        base.open_session(engine, asked.out_dir)
    with pytest.raises(UsageError, match="owner of activations"):
        base.open_session(engine, asked.out_dir, activation_memory="mine")
    (asked.out_dir / "engine.plan").unlink()
    with pytest.raises(EngineError, match="missing"):
        base.open_session(engine, asked.out_dir)


def test_old_versions_take_flags_and_are_read_through_the_inspector(fake, tmp_path):
    fake()
    options = {"workspace_bytes": "1048576"}
    asked = ask(conv_graph(), tmp_path, batch=BATCH, target=board(), precision="fp16", options=options)
    engine = base.build("tensorrt", asked)
    plan = json.loads((asked.out_dir / "engine.plan").read_text())
    assert plan["flags"] == ["FP16"] and plan["network"] == 1 and plan["pools"] == {"WORKSPACE": 1048576}
    assert plan["profiles"] == [{"x": [[1, 8, 8, 8], [2, 8, 8, 8], [4, 8, 8, 8]]}]
    kernel = engine.kernels[0]
    assert (kernel.kind, kernel.precision, kernel.sources) == ("CaskConvolution", "fp16", ("stem/conv", "stem/relu"))
    assert engine.activation_bytes == 4096 and "engine.layers.json" in engine.files


def test_tf32_is_off_unless_asked(fake, tmp_path):
    fake()
    for options, flags in (({}, ["FP16"]), ({"allow_tf32": "yes"}, ["FP16", "TF32"])):
        base.build("tensorrt", ask(conv_graph(), tmp_path, target=board(), precision="fp16", options=options))
        assert json.loads((tmp_path / "bundle" / "engine.plan").read_text())["flags"] == flags


@pytest.mark.parametrize(
    ("precision", "options", "words"),
    [
        ("bf16", {}, "BF16"),
        ("fp16", {"typing": "strong"}, "strongly typed"),
        ("fp16", {"dla_core": "0"}, "DLA core 0"),
        ("fp16", {"builder_optimization_level": "3"}, "builder_optimization_level"),
    ],
)
def test_what_an_old_version_lacks_is_refused(precision, options, words, fake, tmp_path):
    fake()
    with pytest.raises(TargetError, match=words):
        base.build("tensorrt", ask(conv_graph(), tmp_path, target=board(), precision=precision, options=options))


def test_a_crash_of_the_builder_is_one_clear_error(fake, tmp_path):
    fake()
    asked = ask(conv_graph(), tmp_path, target=board(), precision="fp16")
    base.build("tensorrt", asked)
    before = (asked.out_dir / "engine.plan").read_bytes()
    fake("crash")
    with pytest.raises(EngineError, match="crashed") as caught:
        base.build("tensorrt", asked)
    assert caught.value.where == "signal 6" and "the last words" in caught.value.got
    assert "python3 -m hwc.engines.tensorrt_child engine.request.json" in caught.value.do
    # The engine before it is whole, and nothing half made lies beside it.
    assert (asked.out_dir / "engine.plan").read_bytes() == before
    assert not [path for path in asked.out_dir.iterdir() if path.name.startswith(".") or path.suffix == ".half"]


def test_a_failed_build_gives_the_builders_own_words(fake, tmp_path):
    fake("none")
    with pytest.raises(EngineError, match="no implementation for node stem/conv"):
        base.build("tensorrt", ask(conv_graph(), tmp_path, target=board(), precision="fp16"))


def test_the_child_ends_with_its_parent(fake, tmp_path):
    fake()
    asked = ask(conv_graph(), tmp_path, target=board(), precision="fp16")
    base.build("tensorrt", asked)
    (asked.out_dir / "engine.plan").unlink()
    fake("sleep")
    root = str(Path(tensorrt.__file__).parents[2])
    child = subprocess.Popen(
        [sys.executable, "-m", "hwc.engines.tensorrt_child", "engine.request.json", "--with-parent"],
        cwd=asked.out_dir,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([root, str(FAKE)])},
        stdin=subprocess.PIPE,
    )
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(timeout=30) == 3
    assert not (asked.out_dir / "engine.plan").exists()


def test_a_model_inside_the_bundle_is_not_copied(fake, tmp_path):
    fake()
    asked = ask(conv_graph(), tmp_path, target=board(), precision="fp16")
    inside = base.BuildRequest(**{**vars(asked), "out_dir": tmp_path})
    engine = base.build("tensorrt", inside)
    assert "graph.onnx" in engine.files
    assert json.loads((tmp_path / "engine.request.json").read_text())["model"] == "graph.onnx"


def test_weights_beside_the_model_are_found(rtx, tmp_path):
    asked = ask(conv_graph(), tmp_path)
    onnx.save(conv_graph(), str(asked.model), save_as_external_data=True, location="weights.bin", size_threshold=0)
    engine = base.build("tensorrt_rtx", asked)
    assert "weights.bin" in engine.files and engine.weight_bytes >= 8 * 8 * 9 * np.dtype(np.float32).itemsize
