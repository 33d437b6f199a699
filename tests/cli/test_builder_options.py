"""The builder's flags become engine options; trtexec's spellings mean the same."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hwc.artifacts import BuildKey
from hwc.cli import builder_options
from hwc.cli.command import Command
from hwc.engines.tensorrt_options import key_parts, read_options
from hwc.errors import UsageError
from tests.e2e.fixtures import assert_refused, document
from tests.e2e.tiny_models import write_onnx


@click.command("show", cls=Command)
@click.argument("model")
@builder_options.builder
def show(model: str, builder_options: dict[str, str]) -> None:
    """Prints the options, one a line."""
    for name, value in sorted(builder_options.items()):
        click.echo(f"{name}={value}")


def options_of(*flags: str) -> dict[str, str]:
    result = CliRunner().invoke(show, ["net.onnx", *flags])
    assert result.exit_code == 0, result.output
    return dict(line.split("=", 1) for line in result.output.splitlines() if not line.startswith("&&&&"))


@pytest.mark.parametrize(
    ("trtexec", "ours", "options"),
    [
        ("--memPoolSize=workspace:512,dlaSRAM:1", "--mem-pool-size=workspace:512,dlaSRAM:1",
         {"memory_pools": "workspace:512,dlaSRAM:1"}),
        ("--workspace=64", "--workspace=64", {"workspace_bytes": str(64 << 20)}),
        ("--builderOptimizationLevel=4", "--builder-optimization-level=4", {"builder_optimization_level": "4"}),
        ("--useDLACore=1", "--use-dla-core=1", {"dla_core": "1"}),
        ("--versionCompatible", "--version-compatible", {"version_compatible": "yes"}),
        ("--hardwareCompatibilityLevel=ampere+", "--hardware-compatibility=ampere+",
         {"hardware_compatibility": "ampere_plus"}),
        ("--hardwareCompatibilityLevel=sameComputeCapability", "--hardware-compatibility=same_compute_capability",
         {"hardware_compatibility": "same_compute_capability"}),
        ("--refit", "--refit", {"refit": "yes"}),
        ("--stripWeights", "--strip-weights", {"strip_plan": "yes"}),
        ("--sparsity=enable", "--sparsity=enable", {"sparsity": "yes"}),
        ("--tacticSources=-CUDNN,+CUBLAS", "--tactic-sources=-CUDNN,+CUBLAS", {"tactic_sources": "-CUDNN,+CUBLAS"}),
        ("--maxAuxStreams=0", "--max-aux-streams=0", {"max_aux_streams": "0"}),
        ("--avgTiming=4", "--avg-timing=4", {"avg_timing_iterations": "4"}),
        ("--stronglyTyped", "--strongly-typed", {"typing": "strong"}),
        ("--excludeLeanRuntime", "--exclude-lean-runtime", {"exclude_lean_runtime": "yes"}),
        ("--timingCacheFile=none", "--timing-cache=none", {"timing_cache": "none"}),
        ("--noTF32", "--no-tf32", {}),
        ("--skipInference", "--build-only", {}),
        ("--explicitBatch", "--explicit-batch", {}),
    ],
)  # fmt: skip
def test_trtexecs_spelling_means_the_same(trtexec, ours, options):
    assert options_of(trtexec) == options_of(ours) == options
    read_options(options)


def test_files_become_absolute_and_several_are_joined(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.so", "b.so", "c.cache"):
        (tmp_path / name).write_text("x")
    got = options_of("--plugins=a.so", "--staticPlugins=b.so", "--calib=c.cache", "--timingCacheFile=new.cache",
                     "--setPluginsToSerialize=a.so")  # fmt: skip
    assert got == {
        "static_plugins": f"{tmp_path}/a.so,{tmp_path}/b.so", "calibration_cache": f"{tmp_path}/c.cache",
        "timing_cache": f"{tmp_path}/new.cache", "dynamic_plugins": f"{tmp_path}/a.so",
    }  # fmt: skip
    options, plugins = key_parts(got, Path())
    assert str(tmp_path) not in str(BuildKey("m", "t", "r", "p", options, plugins=plugins)) and len(plugins) == 3
    (tmp_path / "a.so").write_text("y")
    assert key_parts(got, Path()) != (options, plugins)
    (tmp_path / "a.so").unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        key_parts(got, Path())


def test_int8_by_scales_beside_the_graph_takes_the_fp32_graph():
    assert builder_options.precision_with("int8", {"calibration_cache": "x"}) == "fp32"
    assert builder_options.precision_with("int8", {"dynamic_ranges": "x"}) == "fp32"
    assert builder_options.precision_with("int8", {}) == "int8"
    assert builder_options.precision_with("auto", {"calibration_cache": "x"}) == "auto"


@pytest.mark.parametrize(
    ("flag", "words"), [("--hardware-compatibility=volta", "no such level"), ("--calib=gone", "does not exist")]
)
def test_a_wrong_value_is_a_usage_error(flag, words):
    result = CliRunner().invoke(show, ["net.onnx", flag])
    assert result.exit_code == 2 and words in result.output


def test_another_engine_names_the_option_that_it_lacks(hwc, tmp_path):
    model = write_onnx(tmp_path)
    assert_refused(hwc("compile", model, "-o", tmp_path / "out", "--refit"), 2, "no such option", "refit")
    assert not (tmp_path / "out").exists()


def test_a_board_gets_the_options_in_its_key_and_no_files_of_this_machine(hwc, tmp_path):
    model = write_onnx(tmp_path)
    flags = ("--target", "agx-xavier", "--memPoolSize=workspace:512,dlaSRAM:512K", "--useDLACore=0", "--fp16")
    shown = document(hwc("compile", model, "-o", tmp_path / "out", *flags, "--format", "json"))
    assert dict(shown["bundle"]["engine"]["key"]["options"]) == {
        "dla_core": "0", "dla_plan": "dla_plan.json",
        # What the user gave stays; the DLA's other pools get the target's facts, and the workspace no second limit.
        "memory_pools": "workspace:512,dlaSRAM:512K,dla_local_dram:1073741824B,dla_global_dram:536870912B",
    }  # fmt: skip
    (tmp_path / "p.so").write_text("x")
    flags = ("--target", "agx-xavier", f"--plugins={tmp_path / 'p.so'}")
    assert_refused(hwc("compile", model, "-o", tmp_path / "two", *flags), 3, "cannot read files of this machine")
