"""What hwc asks of TensorRT in each version, against the recorded facts: every option on every strict stand-in."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest
from onnx import TensorProto

try:
    import tomllib as toml_reader
except ImportError:  # Python 3.10
    import tomli as toml_reader

from hwc.artifacts import QuantTable, TensorScale
from hwc.artifacts_dla import DlaLoadable, DlaPlan, write_dla_plan
from hwc.engines import tensorrt_builder as steps
from hwc.engines.tensorrt_child import build_plan, make_logger
from hwc.engines.tensorrt_options import NUMBERS, TEXTS, WORDS, YES_NO, read_options
from hwc.engines.tensorrt_place import place_request
from hwc.errors import TargetError
from hwc.serialize import to_json
from tests.engines.contract import BATCH, conv_graph, quantized_conv_graph, request
from tests.engines.fakes import MODULES, VERSIONS, load_fake
from tests.engines.test_tensorrt import board

TABLE = toml_reader.loads((Path(__file__).parent / "tensorrt_api.toml").read_text())
API = TABLE["api"]
STEM = (DlaLoadable("dla0", ("stem/conv",), (), ()),)
DLA = DlaPlan(1, "board", "2.0", "8.5.2", "fp16", "offload", 0, "0" * 64, STEM, 4, (), 2, 1.0, 1.0, 1.0)
CACHE = "TRT-{}-EntropyCalibration2\nx: 3c010204\nr: 3c010204\n"


def parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3])


def has(name: str, version: str) -> bool:
    first, removed = API[name]
    return parts(first) <= parts(version) and (not removed or parts(version) < parts(removed))


# Facts and table.


def test_every_fact_has_a_source_and_agrees_with_the_names_it_is_about():
    assert len(TABLE["fact"]) == 35
    for fact in TABLE["fact"]:
        assert fact["sources"] and all(source.startswith("https://") for source in fact["sources"])
        for name in fact["names"]:
            first, removed = API[name]
            told = re.findall(r"\d+\.\d+", fact["first"])
            # "9.x" is as much as the fact says of BF16; "8.2+" and "<=8.2" both mean the oldest tag.
            assert first in told or "9.x" in fact["first"] or (first == "8.2" and told == ["8.x"]) or "8.x" in fact[
                "first"
            ], (name, first, fact["first"])
            assert removed == fact["removed"], (name, removed, fact["removed"])


def test_every_name_that_the_source_asks_for_is_in_the_table():
    # Names in capitals behind an enum of the module, and attributes asked for by `hasattr` or `require`.
    members = {name.split(".")[-1] for name in API} | {"ComputeCapability", "num_compute_capabilities"}
    for path in Path(steps.__file__).parent.glob("tensorrt*.py"):
        text = path.read_text()
        asked = set(re.findall(r"(?:hasattr|require)\((?:\w+, )?[\w.]+, \"(\w+)\"", text))
        asked |= set(re.findall(r"trt\.[A-Z]\w+\.([A-Z][A-Z_0-9]+)\b", text))
        assert asked - members - {"DETAILED"} <= set(), (path.name, asked - members)


# The stand-ins.


@pytest.mark.parametrize("version", VERSIONS)
def test_a_stand_in_has_what_the_table_gives_it_and_nothing_else(version, monkeypatch):
    trt = load_fake(monkeypatch, version)
    for name in API:
        owner, _, member = name.partition(".")
        there = hasattr(trt, owner) and (not member or hasattr(getattr(trt, owner), member))
        # What a fact names and hwc does not use is in no stand-in; everything else is there exactly when it should be.
        assert there == has(name, version) or (not there and not _is_modelled(name)), name


def _is_modelled(name: str) -> bool:
    """Whether the stand-in's source defines it."""
    owner, _, member = name.partition(".")
    text = "".join(path.read_text() for path in MODULES.glob("*.py"))
    body = re.search(rf"^class {owner}\b.*?(?=^\S|\Z)", text, re.M | re.S)
    if body is None:
        return f'"{owner}"' in text or f"def {owner}(" in text
    return not member or re.search(rf"^    (?:def )?{member}\b", body[0], re.M) is not None


def test_a_stand_in_refuses_what_its_version_lacks_and_wrong_types(monkeypatch):
    trt = load_fake(monkeypatch, "8.5.2.2")
    config = trt.Builder(make_logger(trt, io.StringIO())).create_builder_config()
    with pytest.raises(AttributeError):
        config.builder_optimization_level = 3
    with pytest.raises(AttributeError):
        config.max_workspace = 1  # a slip of the pen
    with pytest.raises(AttributeError):
        trt.BuilderFlag.BF16  # noqa: B018
    with pytest.raises(AttributeError):
        trt.IProgressMonitor  # noqa: B018
    for wrong in (lambda: config.set_flag("FP16"), lambda: config.set_memory_pool_limit(trt.MemoryPoolType(0), 1.5),
                  lambda: trt.Builder("logger"), lambda: setattr(config, "DLA_core", True)):  # fmt: skip
        with pytest.raises(TypeError):
            wrong()
    config.max_workspace_size = 1 << 20
    with pytest.raises(AttributeError):
        load_fake(monkeypatch, "10.3.0.26").IBuilderConfig().max_workspace_size = 1


def test_a_stand_in_may_not_invent(monkeypatch):
    load_fake(monkeypatch, "8.5.2.2")
    strict = sys.modules["fake_strict"]
    made = type("Invented", (), {"__module__": "tensorrt"})
    with pytest.raises(AssertionError, match="invents Invented"):
        strict.cut({"Invented": made}, "8.5.2.2", strict.read_table())


def test_a_stand_in_builds_nothing_where_the_parser_is_gone(monkeypatch, tmp_path):
    trt = load_fake(monkeypatch, "8.5.2.2")
    log = io.StringIO()
    logger = make_logger(trt, log)
    builder = trt.Builder(logger)
    asked = request(conv_graph(), tmp_path)
    parsed = steps.make_network(trt, builder, logger, asked.model, read_options({}), "fp32")
    network = parsed.network
    del parsed
    assert builder.build_serialized_network(network, builder.create_builder_config()) is None
    assert "owns the weights" in log.getvalue()


# All options over all versions.

FILES = {"calibration_cache": "calib.cache", "dynamic_ranges": "table.json", "static_plugins": "plugin.so",
         "dynamic_plugins": "plugin.so"}  # fmt: skip
# (options, names that must all be there; a tuple inside means any of them)
WALK = [
    ({}, ()),
    ({"typing": "strong"}, ("NetworkDefinitionCreationFlag.STRONGLY_TYPED",)),
    ({"typing": "weak"}, ("BuilderFlag.FP16",)),
    ({"workspace_bytes": "1048576"}, (("IBuilderConfig.set_memory_pool_limit", "IBuilderConfig.max_workspace_size"),)),
    ({"memory_pools": "workspace:64M"}, (("IBuilderConfig.set_memory_pool_limit",
                                          "IBuilderConfig.max_workspace_size"),)),
    ({"memory_pools": "tactic_dram:1G"}, ("MemoryPoolType.TACTIC_DRAM",)),
    ({"memory_pools": "tactic_shared_memory:64K"}, ("MemoryPoolType.TACTIC_SHARED_MEMORY",)),
    ({"memory_pools": "dla_sram:1M,dla_local_dram:1G,dla_global_dram:512M", "dla_core": "1"},
     ("MemoryPoolType.DLA_MANAGED_SRAM", "BuilderFlag.FP16")),
    ({"dla_core": "0", "gpu_fallback": "yes"}, ("BuilderFlag.FP16",)),
    ({"dla_core": "0", "gpu_fallback": "yes", "dla_plan": "dla_plan.json"}, ("BuilderFlag.FP16",)),
    ({"builder_optimization_level": "5"}, ("IBuilderConfig.builder_optimization_level",)),
    ({"max_aux_streams": "0"}, ("IBuilderConfig.max_aux_streams",)),
    ({"avg_timing_iterations": "8"}, ()),
    ({"hardware_compatibility": "none"}, ("HardwareCompatibilityLevel.NONE",)),
    ({"hardware_compatibility": "ampere_plus"}, ("HardwareCompatibilityLevel.AMPERE_PLUS",)),
    ({"hardware_compatibility": "same_compute_capability"}, ("HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY",)),
    ({"version_compatible": "yes"}, ("BuilderFlag.VERSION_COMPATIBLE",)),
    ({"exclude_lean_runtime": "yes"}, ("BuilderFlag.EXCLUDE_LEAN_RUNTIME",)),
    ({"refit": "yes"}, ()),
    ({"strip_plan": "yes"}, ("BuilderFlag.STRIP_PLAN",)),
    ({"sparsity": "yes"}, ()),
    ({"allow_tf32": "yes"}, ()),
    ({"allow_int8_convolution": "yes"}, ()),
    ({"tactic_sources": "-CUDNN"}, ("TacticSource.CUDNN",)),
    ({"tactic_sources": "-JIT_CONVOLUTIONS,+EDGE_MASK_CONVOLUTIONS"}, ("TacticSource.JIT_CONVOLUTIONS",)),
    ({"extra_profiles": "x:4x8x8x8"}, ()),
    ({"calibration_cache": "calib.cache"}, ("IInt8EntropyCalibrator2", "IBuilderConfig.int8_calibrator")),
    ({"dynamic_ranges": "table.json"}, ("ITensor.set_dynamic_range",)),
    ({"static_plugins": "plugin.so"}, (("IPluginRegistry.load_library", "8.6 loads by ctypes"),)),
    ({"dynamic_plugins": "plugin.so"}, ("IBuilderConfig.plugins_to_serialize",)),
    ({"timing_cache": "none", "builds": "1", "driver": "python"}, ()),
]


def test_the_walk_names_every_option():
    assert {name for options, _ in WALK for name in options} == {*WORDS, *YES_NO, *NUMBERS, *TEXTS}


def build_with_fake(trt, folder: Path, options, *, model=None, precision="fp16", batch=BATCH):
    """The plan of one build in this process, as JSON, and what the child answers."""
    version = steps_version(trt)
    folder.mkdir(exist_ok=True)
    (folder / "calib.cache").write_text(CACHE.format(version))
    table = QuantTable("m", "d", 1, "max", {"x": TensorScale((0.5,)), "r": TensorScale((0.25,), dtype="uint8")})
    (folder / "table.json").write_text(to_json(table))
    (folder / "plugin.so").write_bytes(b"no ELF")
    write_dla_plan(folder, DLA)
    asked = request(model or conv_graph(), folder, batch=batch, target=board(), precision=precision, options=options)
    place_request("tensorrt", asked, read_options(options), "")
    content = json.loads((asked.out_dir / "engine.request.json").read_text())
    log = io.StringIO()
    result = build_plan(content, asked.out_dir, asked.out_dir, log)
    return json.loads((asked.out_dir / "engine.plan").read_text()), result


def steps_version(trt) -> str:
    from hwc.engines.tensorrt_int8 import version_int

    return version_int(trt.__version__)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_option_is_set_or_refused_by_name(version, monkeypatch, tmp_path):
    trt = load_fake(monkeypatch, version, dla_cores=2)
    for index, (options, needs) in enumerate(WALK):
        names = [(need,) if isinstance(need, str) else need for need in needs]
        is_there = all(any(name not in API or has(name, version) for name in choice) for choice in names)
        if options.get("static_plugins") and not hasattr(trt.IPluginRegistry, "load_library"):
            monkeypatch.setattr("hwc.engines.tensorrt_configure.ctypes.CDLL", lambda path, mode: None)
        # Types can come from flags or from the graph, wherever this version takes them from.
        precision, model = ("fp16", conv_graph(TensorProto.FLOAT16))
        if "calibration_cache" in options or "dynamic_ranges" in options or options.get("typing") == "weak":
            precision, model = "fp32", conv_graph()
        if "dla_core" in options and not has("BuilderFlag.FP16", version):
            is_there = True  # 11.4.1 has a DLA in strongly typed networks
        place = tmp_path / str(index)
        if is_there:
            plan, result = build_with_fake(trt, place, options, model=model, precision=precision)
            assert plan["version"] == version and result["version"] == version, options
        else:
            with pytest.raises(TargetError) as caught:
                build_with_fake(trt, place, options, model=model, precision=precision)
            assert f"tensorrt {version}" in str(caught.value), options
            assert not (place / "bundle" / "engine.plan").exists()


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_set_is_in_the_plan(version, monkeypatch, tmp_path):
    trt = load_fake(monkeypatch, version, dla_cores=2)
    options = {"workspace_bytes": "1048576", "avg_timing_iterations": "8", "refit": "yes",
               "extra_profiles": "x:1x8x8x8/3x8x8x8/4x8x8x8"}  # fmt: skip
    if has("BuilderFlag.VERSION_COMPATIBLE", version):
        options.update(builder_optimization_level="4", max_aux_streams="1", hardware_compatibility="ampere_plus",
                       version_compatible="yes", tactic_sources="-JIT_CONVOLUTIONS")  # fmt: skip
    plan, result = build_with_fake(trt, tmp_path, options, model=conv_graph(TensorProto.FLOAT16))
    assert plan["pools"] in ({"WORKSPACE": 1048576}, {"old": 1048576})
    assert "REFIT" in plan["flags"] and plan["numbers"]["avg_timing_iterations"] == 8
    assert [profile["x"][1] for profile in plan["profiles"]] == [[2, 8, 8, 8], [3, 8, 8, 8]]
    assert "2 optimization profiles, each with kernels of its own" in result["notes"]
    if "version_compatible" in options:
        assert plan["numbers"]["builder_optimization_level"] == 4 and plan["level"] == "AMPERE_PLUS"
        assert "VERSION_COMPATIBLE" in plan["flags"]
        assert not plan["sources"] & (1 << int(trt.TacticSource.JIT_CONVOLUTIONS))
    has_strong = has("NetworkDefinitionCreationFlag.STRONGLY_TYPED", version)
    assert plan["strong"] is has_strong and result["is_strongly_typed"] is has_strong
    assert ("FP16" in plan["flags"]) is not has_strong and "TF32" not in plan["flags"]


# --fp16, --int8 and --best mean the same everywhere.


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_fp16_becomes_fp16_or_is_refused_and_never_fp32(version, kind, monkeypatch, tmp_path):
    trt = load_fake(monkeypatch, version)
    if kind == TensorProto.FLOAT and not has("BuilderFlag.FP16", version):
        with pytest.raises(TargetError, match="takes types from the graph alone"):
            build_with_fake(trt, tmp_path, {}, model=conv_graph(kind))
        return
    plan, result = build_with_fake(trt, tmp_path, {}, model=conv_graph(kind))
    assert all("FP16" in str(layer) or "Half" in str(layer) for layer in plan["layers"] if "Conv" in layer["LayerType"])
    if kind == TensorProto.FLOAT and has("NetworkDefinitionCreationFlag.STRONGLY_TYPED", version):
        assert not plan["strong"] and any("asked for by a flag" in note for note in result["notes"])


@pytest.mark.parametrize("version", VERSIONS)
def test_q_dq_is_int8_on_every_version(version, monkeypatch, tmp_path):
    trt = load_fake(monkeypatch, version)
    plan, _ = build_with_fake(trt, tmp_path, {}, model=quantized_conv_graph(), precision="fp32", batch=1)
    assert [layer for layer in plan["layers"] if layer["LayerType"] == "CaskConvolution" and "Int8" in str(layer)]
    assert ("INT8" in plan["flags"]) is not plan["strong"]


def test_scales_beside_the_graph_are_given_and_counted(monkeypatch, tmp_path):
    trt = load_fake(monkeypatch, "10.3.0.26")
    plan, result = build_with_fake(trt, tmp_path / "a", {"dynamic_ranges": "table.json"}, precision="fp32")
    assert plan["ranges"] == {"x": [-63.5, 63.5], "r": [-63.75, 63.75]} and not plan["strong"]
    assert "INT8" in plan["flags"] and "INT8 scales from dynamic ranges: 2 of its 2 names are among the network's 4 " \
        "tensors" in result["notes"]  # fmt: skip
    plan, _ = build_with_fake(trt, tmp_path / "b", {"calibration_cache": "calib.cache"}, precision="fp32")
    assert plan["calibrated"] and not plan["ranges"]


def test_a_cache_of_another_version_is_refused_before_the_build(monkeypatch, tmp_path):
    trt = load_fake(monkeypatch, "8.6.1.6")
    monkeypatch.setattr(sys.modules[__name__], "steps_version", lambda trt: "8502")
    with pytest.raises(TargetError, match="for another TensorRT") as caught:
        build_with_fake(trt, tmp_path, {"calibration_cache": "calib.cache"}, precision="fp32")
    assert "TRT-8601-EntropyCalibration2" in caught.value.expected


def test_a_calibrator_that_is_asked_for_data_fails_the_build(monkeypatch, tmp_path):
    from hwc.engines import tensorrt_int8
    from hwc.errors import EngineError

    trt = load_fake(monkeypatch, "8.6.1.6")
    calibrator = tensorrt_int8.make_calibrator(trt, b"TRT-1-x")
    tensorrt_int8.Scales("", calibrator).check()
    assert calibrator.get_batch(["x"]) is None and calibrator.read_calibration_cache() == b"TRT-1-x"
    with pytest.raises(EngineError, match="did not take the calibration cache"):
        tensorrt_int8.Scales("", calibrator).check()
