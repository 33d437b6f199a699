"""Where TensorRT's Python module is missing, trtexec builds: one request, the command line of that version, a plan."""

from __future__ import annotations

import json
import subprocess

import pytest
from onnx import TensorProto

from hwc.engines import base, trtexec
from hwc.engines.tensorrt_options import read_options
from hwc.errors import EngineError, TargetError
from tests.engines.contract import BATCH, conv_graph, quantized_conv_graph, request
from tests.engines.fakes import VERSIONS, make_trtexec
from tests.engines.test_tensorrt import board
from tests.engines.test_tensorrt_api import API, CACHE, TABLE, parts

FLAGS = TABLE["trtexec"]


def has(flag: str, version: str) -> bool:
    first, removed = FLAGS[flag]
    return parts(first) <= parts(version) and (not removed or parts(version) < parts(removed))


def ask(folder, model=None, **fields):
    fields = {"target": board(), "batch": BATCH, "precision": "fp16", **fields}
    return request(model or conv_graph(TensorProto.FLOAT16), folder, **fields)


def given(asked) -> dict[str, str]:
    return json.loads((asked.out_dir / "engine.plan").read_text())["given"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_command_is_that_of_the_version(version, monkeypatch, tmp_path):
    make_trtexec(tmp_path, version, monkeypatch)
    options = {"workspace_bytes": str(64 << 20), "avg_timing_iterations": "4", "refit": "yes"}
    engine = base.build("tensorrt", ask(tmp_path, options=options))
    flags = given(ask(tmp_path))
    assert flags["onnx"] == "graph.onnx" and flags["minShapes"] == "x:1x8x8x8" and flags["maxShapes"] == "x:4x8x8x8"
    assert ("workspace" in flags, "memPoolSize" in flags) == (not has("memPoolSize", version),
                                                              has("memPoolSize", version))  # fmt: skip
    assert flags.get("memPoolSize", "workspace:64") == "workspace:64" and flags.get("workspace", "64") == "64"
    assert "noTF32" in flags and "refit" in flags and flags["avgTiming"] == "4"
    assert ("fp16" in flags) == (not has("stronglyTyped", version))
    assert ("stronglyTyped" in flags) == (has("fp16", version) and has("stronglyTyped", version))
    assert ("skipInference" in flags) == has("skipInference", version) != ("buildOnly" in flags)
    # What was built is read back, and the command repeats it in the bundle folder.
    assert engine.kernels[0].precision == "fp16" and engine.kernels[0].sources == ("stem/conv", "stem/relu")
    assert engine.notes[0].startswith("trtexec ") and any("built by trtexec: " in note for note in engine.notes)
    assert {"engine.plan", "engine.layers.json", "engine.log.gz", "graph.onnx"} <= set(engine.files)
    assert {path.name for path in asked_folder(tmp_path)} == set(engine.files)
    tool = tmp_path / "trtexec"
    subprocess.run([str(tool), *engine.command[1:]], cwd=tmp_path / "bundle", check=True, stdout=subprocess.DEVNULL)


def asked_folder(tmp_path):
    return (tmp_path / "bundle").iterdir()


@pytest.mark.parametrize("version", VERSIONS)
def test_every_option_becomes_a_flag_or_is_refused_by_name(version, monkeypatch, tmp_path):
    make_trtexec(tmp_path, version, monkeypatch)
    flags = trtexec.read_flags(tmp_path / "trtexec")
    for options, needs in (
        ({"builder_optimization_level": "5"}, "builderOptimizationLevel"),
        ({"max_aux_streams": "0"}, "maxAuxStreams"),
        ({"version_compatible": "yes"}, "versionCompatible"),
        ({"exclude_lean_runtime": "yes"}, "excludeLeanRuntime"),
        ({"strip_plan": "yes"}, "stripWeights"),
        ({"sparsity": "yes"}, "sparsity"),
        ({"hardware_compatibility": "ampere_plus"}, "hardwareCompatibilityLevel"),
        ({"tactic_sources": "-CUDNN"}, "tacticSources"),
        ({"dla_core": "1", "gpu_fallback": "yes"}, "useDLACore"),
        ({"memory_pools": "dla_sram:1M,workspace:0.5M"}, "memPoolSize"),
        ({"dynamic_plugins": "plugin.so"}, "dynamicPlugins"),
        ({"static_plugins": "plugin.so"}, "plugins"),
    ):
        asked = ask(tmp_path, options=options)
        content = {"model": "graph.onnx", "inputs": [], "options": options}
        asked.out_dir.mkdir(exist_ok=True)
        (asked.out_dir / "graph.onnx").write_bytes(asked.model.read_bytes())
        how = (flags, asked, read_options(options), content)
        if has(needs, version):
            arguments = trtexec.trtexec_arguments(*how, is_timed=True)
            assert any(argument.startswith(f"--{needs}") or "Plugins" in argument for argument in arguments)
        else:
            with pytest.raises(TargetError, match=f"--{needs}"):
                trtexec.trtexec_arguments(*how, is_timed=True)


@pytest.mark.parametrize(
    "options",
    [{"extra_profiles": "x:4x8x8x8"}, {"dynamic_ranges": "graph.onnx"}, {"memory_pools": "tactic_dram:1G"},
     {"dla_core": "0", "dla_plan": "graph.onnx"}],
)
def test_what_trtexec_cannot_do_is_refused(options, monkeypatch, tmp_path):
    make_trtexec(tmp_path, "10.3.0", monkeypatch)
    with pytest.raises(TargetError, match="trtexec"):
        base.build("tensorrt", ask(tmp_path, options=options))
    assert not (tmp_path / "bundle" / "engine.plan").exists()


def test_types_come_from_flags_or_from_the_graph(monkeypatch, tmp_path):
    for version, model, flag in (
        ("8.5.2", conv_graph(), "fp16"),
        ("10.3.0", conv_graph(), "fp16"),
        ("10.3.0", conv_graph(TensorProto.FLOAT16), "stronglyTyped"),
    ):
        make_trtexec(tmp_path, version, monkeypatch)
        base.build("tensorrt", ask(tmp_path, model))
        assert {"fp16", "stronglyTyped", "int8"} & set(given(ask(tmp_path))) == {flag}
    make_trtexec(tmp_path, "11.1.0", monkeypatch)
    with pytest.raises(TargetError, match="types from the graph alone") as caught:
        base.build("tensorrt", ask(tmp_path, conv_graph()))
    assert "without fp16" in caught.value.got
    base.build("tensorrt", ask(tmp_path))
    assert not {"fp16", "stronglyTyped", "int8"} & set(given(ask(tmp_path)))


def test_int8_by_q_dq_and_by_a_cache(monkeypatch, tmp_path):
    make_trtexec(tmp_path, "8.5.2", monkeypatch)
    base.build("tensorrt", ask(tmp_path, quantized_conv_graph(), precision="fp32", batch=1))
    assert "int8" in given(ask(tmp_path)) and "calib" not in given(ask(tmp_path))
    (tmp_path / "calib.cache").write_text(CACHE.format("8502"))
    options = {"calibration_cache": "calib.cache"}
    engine = base.build("tensorrt", ask(tmp_path, conv_graph(), precision="fp32", options=options))
    assert given(ask(tmp_path))["calib"] == "calib.cache" and "calib.cache" in engine.files
    # trtexec would calibrate on random numbers and say nothing.
    (tmp_path / "calib.cache").write_text(CACHE.format("8601"))
    with pytest.raises(TargetError, match="for another TensorRT"):
        base.build("tensorrt", ask(tmp_path / "b", conv_graph(), precision="fp32",
                                   options={"calibration_cache": str(tmp_path / "calib.cache")}))  # fmt: skip
    assert not (tmp_path / "b" / "bundle" / "engine.plan").exists()


def test_the_timing_cache_is_kept_and_read(monkeypatch, tmp_path):
    make_trtexec(tmp_path, "8.5.2", monkeypatch)
    kept = tmp_path / "cache"
    for word in ("", " again"):
        base.build("tensorrt", ask(tmp_path, cache=kept))
        (file,) = kept.rglob("*.timing")
        assert file.read_text() == f"FAKE-TIMING 8.5.2{word}"


def test_of_several_builds_the_fastest_is_kept(monkeypatch, tmp_path):
    make_trtexec(tmp_path, "8.5.2", monkeypatch)
    times = tmp_path / "times"
    times.write_text("1.50\n1.20\n1.35")
    monkeypatch.setenv("HWC_FAKE_TACTICS", str(times))
    engine = base.build("tensorrt", ask(tmp_path, options={"builds": "3"}))
    (note,) = [note for note in engine.notes if "builds, number" in note]
    assert note == ("3 builds, number 2 kept, ranked by measured latency: 1.5 ms; 1.2 ms; 1.35 ms; spread 25.0%")
    assert {path.name for path in asked_folder(tmp_path)} == set(engine.files)


@pytest.mark.parametrize(
    ("mode", "words", "where"), [("crash", "trtexec crashed", "signal 6"), ("none", "did not build", "exit code 1")]
)
def test_a_failure_is_one_clear_error(mode, words, where, monkeypatch, tmp_path):
    make_trtexec(tmp_path, "8.5.2", monkeypatch)
    base.build("tensorrt", ask(tmp_path))
    before = (tmp_path / "bundle" / "engine.plan").read_bytes()
    monkeypatch.setenv("HWC_FAKE_TENSORRT", mode)
    with pytest.raises(EngineError, match=words) as caught:
        base.build("tensorrt", ask(tmp_path))
    assert caught.value.where in (where, "exit code 134") and "trtexec --onnx=graph.onnx" in caught.value.do
    if mode == "none":
        assert "Engine could not be created" in caught.value.got
    assert (tmp_path / "bundle" / "engine.plan").read_bytes() == before


def test_an_old_trtexec_refuses_a_newer_ones_flag(monkeypatch, tmp_path):
    # The stand-in bites: a flag that its version lacks ends it in trtexec's own words.
    tool = make_trtexec(tmp_path, "8.5.2", monkeypatch)
    done = subprocess.run([str(tool), "--onnx=a", "--skipInference"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Unknown option: --skipInference" in done.stdout and "&&&& FAILED" in done.stdout
    assert "skipInference" in FLAGS and "BuilderFlag.FP16" in API


def test_a_program_that_is_no_trtexec_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("HWC_TRTEXEC", "/bin/echo")
    with pytest.raises(EngineError, match="lists no flags"):
        base.build("tensorrt", ask(tmp_path))


def test_who_builds(monkeypatch, tmp_path):
    monkeypatch.delenv("HWC_TRTEXEC", raising=False)
    monkeypatch.setattr(trtexec, "_JETPACK", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert trtexec.choose_driver("tensorrt", "auto") is None
    with pytest.raises(EngineError, match="no trtexec here"):
        trtexec.choose_driver("tensorrt", "trtexec")
    tool = make_trtexec(tmp_path, "8.5.2", monkeypatch)
    assert trtexec.choose_driver("tensorrt", "auto") == tool
    assert trtexec.choose_driver("tensorrt", "python") is None and trtexec.choose_driver("tensorrt_rtx", "auto") is None
    monkeypatch.setattr(trtexec, "has_module", lambda name: True)
    assert trtexec.choose_driver("tensorrt", "auto") is None
    assert trtexec.choose_driver("tensorrt", "trtexec") == tool
