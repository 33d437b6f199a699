"""Reading an engine: which nodes became which kernel, and whether the precision is the one that was asked."""

from __future__ import annotations

import pytest

from hwc.artifacts import BuildKey, Engine, Kernel
from hwc.engines.inspect import (
    check_precision,
    count_precisions,
    format_table,
    is_heavy,
    kernels_by_source,
    require_precision,
    totals,
)
from hwc.errors import TargetError, UsageError

KERNELS = (
    Kernel("__myl_Move_0", "kgen", "fp32"),
    Kernel("stem", "correlation", "fp16", ("conv1", "relu1"), 12.5),
    Kernel("__myl_CorrMulAdd_2", "runtime_fusion", "fp16", ("conv2", "norm2", "relu2"), 7.25),
    Kernel("pool", "maxpool", "fp16", ("pool",)),
)


def engine_of(kernels):
    return Engine(
        backend="tensorrt_rtx",
        state="built",
        key=BuildKey("digest", "rtx", "test", "fp16"),
        files=(),
        inputs=(),
        outputs=(),
        kernels=kernels,
        size_bytes=0,
        activation_bytes=None,
        weight_bytes=None,
        build_seconds=0.0,
        command=(),
        precision_built=count_precisions(kernels),
    )


def test_nodes_map_to_their_kernels():
    found = kernels_by_source(engine_of(KERNELS))
    assert found["relu1"] is KERNELS[1] and found["norm2"] is KERNELS[2] and "Move" not in found
    split = (Kernel("a", "gemm", "fp32", ("node",)), Kernel("b", "kgen", "fp32", ("node",)))
    assert kernels_by_source(engine_of(split))["node"].name == "b"


def test_totals_and_table():
    engine = engine_of(KERNELS)
    assert totals(engine)["precision"] == {"fp16": 3, "fp32": 1}
    table = format_table(engine)
    assert "conv1 + relu1" in table and "12.5 us" in table and "(__myl_Move_0)" in table
    assert "4 kernels of tensorrt_rtx" in table and "precision: fp16 3, fp32 1" in table
    assert all(len(line) <= 100 for line in table.splitlines())


def test_a_long_row_says_how_many_nodes_it_leaves_out():
    many = Kernel("k", "kgen", "fp32", tuple(f"layer{index}/something" for index in range(20)))
    (row, *_) = format_table(engine_of((many,)), width=80).splitlines()
    shown = row.count("layer")
    assert len(row) <= 80 and row.endswith(f"+ {20 - shown} more")


def test_an_empty_engine_has_a_table():
    assert "0 kernels" in format_table(engine_of(()))


@pytest.mark.parametrize(
    ("name", "kind", "heavy"),
    [
        ("n", "Convolution", True),
        ("n", "Convert", False),
        ("n", "CaskGemmMatrixMultiply", True),
        ("n", "FullyConnected", True),
        ("__myl_CorrMulAddRelu_myl0_7", "runtime_fusion", True),
        ("convolve", "maxpool", False),
        ("__myl_ConcAddMul_0", "kgen", False),
    ],
)
def test_heavy_kernels(name, kind, heavy):
    assert is_heavy(Kernel(name, kind, "fp32")) is heavy


def conv(precision):
    return Kernel("c", "Convolution", precision, ("conv1",))


def test_precision_is_checked():
    assert check_precision("fp16", KERNELS, "x") == ()
    assert check_precision("fp32", (conv("fp32"), conv("int8")), "x") == ()
    assert "1 of 2" in check_precision("fp16", (conv("fp16"), conv("fp32")), "x")[0]
    assert "not checked" in check_precision("fp16", (KERNELS[3],), "x")[0]


@pytest.mark.parametrize(
    ("asked", "built"),
    [
        ("fp32", ["fp16"]),
        ("fp32", ["fp32", "bf16"]),
        ("fp16", ["fp32"]),
        ("fp16", ["bf16", "fp16"]),
        ("bf16", ["fp16"]),
    ],
)
def test_another_precision_is_seen_to_fail(asked, built):
    with pytest.raises(TargetError, match="conv1") as caught:
        check_precision(asked, [conv(name) for name in built], "openvino")
    assert asked in caught.value.expected


def test_precision_names():
    require_precision("bf16")
    with pytest.raises(UsageError, match="Q/DQ"):
        require_precision("int8")
