"""What each engine on each target wants, from facts alone."""

import dataclasses

import pytest

from hwc import targets
from hwc.artifacts import Fact
from hwc.errors import TargetError
from hwc.precision.rules import rules_for


def cpu(isa, architecture="x86_64"):
    target = targets.load("cpu")
    facts = {**target.facts, "cpu.architecture": Fact(architecture, "name", "here")}
    facts["cpu.isa"] = Fact(isa, "names", "here")
    return dataclasses.replace(target, facts=facts)


@pytest.mark.parametrize(
    ("isa", "limit"),
    [(("avx2",), 128), (("avx2", "avx512"), 128), (("avx2", "avx512", "vnni"), None), (("amx", "avx512"), None),
     ("avx2, vnni", None), (None, 128)],
)  # fmt: skip
def test_pairs_are_limited_where_sums_saturate(isa, limit):
    assert rules_for(cpu(isa), "openvino").pair_limit == limit


def test_a_cpu_that_nobody_looked_at_gets_the_limit_that_is_right_everywhere():
    assert rules_for(targets.load("cpu"), "openvino").pair_limit == 128


def test_arm_has_no_such_instruction():
    assert rules_for(cpu(("neon",), "aarch64"), "openvino").pair_limit is None


def test_cpu_engines_take_uint8_and_add_integers():
    ours, theirs = rules_for(cpu(("avx2",)), "openvino"), rules_for(cpu(("avx2",)), "onnxruntime")
    assert ours.unsigned and ours.stored_int8 and ours.quantize_sum and ours.split_pool
    assert (ours.pair_flat, theirs.pair_flat) == (False, True)
    assert ours.shift_signed and theirs.shift_signed
    assert rules_for(cpu(("avx2",)), "reference").pair_limit is None


@pytest.mark.parametrize(("name", "stored"), [("agx-xavier-32gb", False), ("agx-orin-64gb", True), ("t4", True)])
def test_tensorrt_is_signed_and_old_parsers_get_float_weights(name, stored):
    rules = rules_for(targets.load(name), "tensorrt")
    assert (rules.unsigned, rules.stored_int8, rules.pair_limit) == (False, stored, None)
    assert not rules.quantize_sum and not rules.split_pool and not rules.shift_signed


@pytest.mark.parametrize(
    ("name", "engine", "said"),
    [("rtx-4090", "tensorrt_rtx", "no INT8 convolution"), ("jetson-nano", "tensorrt", "nothing in INT8"),
     ("t4", "abacus", "no INT8 rules")],
)  # fmt: skip
def test_what_has_no_int8_is_refused(name, engine, said):
    with pytest.raises(TargetError, match=said):
        rules_for(targets.load(name), engine)
