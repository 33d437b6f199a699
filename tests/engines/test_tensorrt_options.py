"""Options become one typed value or one clear refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwc.engines.tensorrt_options import POOLS, read_options
from hwc.errors import UsageError


@pytest.mark.parametrize(
    ("text", "pools"),
    [
        ("workspace:512", {"workspace": 512 << 20}),
        ("workspace:0.5M,tacticSharedMem:48K", {"workspace": 1 << 19, "tactic_shared_memory": 48 << 10}),
        ("dlaSRAM:1,dlaLocalDRAM:1GiB,dla_global_dram:512MB", {"dla_sram": 1 << 20, "dla_local_dram": 1 << 30,
                                                               "dla_global_dram": 512 << 20}),
        ("tactic_dram:4096B", {"tactic_dram": 4096}),
        ("", {}),
    ],
)  # fmt: skip
def test_pools_are_read_as_trtexec_reads_them(text, pools):
    assert dict(read_options({"memory_pools": text}).pools) == pools


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"memory_pools": "heap:1"}, "cannot be read"),
        ({"memory_pools": "workspace:-1"}, "cannot be read"),
        ({"memory_pools": "workspace:1iB"}, "cannot be read"),
        ({"memory_pools": "workspace:1,workspace:2"}, "given twice"),
        ({"memory_pools": "workspace:1", "workspace_bytes": "7"}, "given twice"),
        ({"memory_pools": "dla_sram:3M"}, "power of two"),
        ({"memory_pools": "dla_sram:2K"}, "power of two"),
        ({"tactic_sources": "CUDNN"}, "tactic source"),
        ({"extra_profiles": "x:2x3/1x3/4x3"}, "profile cannot be read"),
        ({"extra_profiles": "x:2x3/1x3"}, "profile cannot be read"),
        ({"extra_profiles": "x:1x3,x:2x3"}, "profile cannot be read"),
        ({"extra_profiles": "x"}, "profile cannot be read"),
        ({"calibration_cache": "a", "dynamic_ranges": "b"}, "not from both"),
        ({"calibration_cache": "a,b"}, "one file"),
        ({"gpu_fallback": "yes"}, "dla_core=0"),
        ({"builds": "0"}, "no such option"),
        ({"builds": "101"}, "no such option"),
        ({"builder_optimization_level": "6"}, "no such option"),
        ({"refit": "true"}, "no such option"),
        ({"hardware_compatibility": "ampere+"}, "no such option"),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(UsageError, match=words):
        read_options(options)


def test_everything_at_once():
    options = read_options({
        "typing": "weak", "memory_pools": "workspace:1", "workspace_bytes": str(1 << 20), "builds": "3",
        "tactic_sources": "-CUDNN,+CUBLAS", "extra_profiles": "x:1x8/2x8/4x8,y:3;x:8x8,y:3", "refit": "yes",
        "static_plugins": "a.so,b.so", "calibration_cache": "c", "dla_core": "1", "gpu_fallback": "no",
    })  # fmt: skip
    assert options.number("builds", 1) == 3 and options.number("max_aux_streams") == -1
    assert options.tactic_sources == (("CUDNN", False), ("CUBLAS", True))
    assert options.extra_profiles == (
        {"x": ((1, 8), (2, 8), (4, 8)), "y": ((3,), (3,), (3,))}, {"x": ((8, 8),) * 3, "y": ((3,),) * 3},
    )  # fmt: skip
    assert options.flags == ("refit",) and options.has_calibration
    assert options.named("static_plugins") == ("a.so", "b.so") and options.named("dynamic_plugins") == ()


@given(st.dictionaries(st.sampled_from(sorted(POOLS)), st.integers(12, 40), min_size=1))
def test_a_power_of_two_in_bytes_is_kept_to_the_byte(sizes):
    text = ",".join(f"{name}:{1 << power}B" for name, power in sizes.items())
    assert dict(read_options({"memory_pools": text}).pools) == {name: 1 << power for name, power in sizes.items()}


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_and_nothing_else(text):
    for name in ("memory_pools", "tactic_sources", "extra_profiles", "typing", "builds"):
        try:
            read_options({name: text})
        except UsageError:
            continue
