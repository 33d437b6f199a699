"""The calibration cache: header by version, bits kept, hostile text refused."""

import dataclasses
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwc.artifacts import Fact, QuantTable, Target, TensorScale
from hwc.calibrate.cache import read_cache, version_int, why_no_cache, write_cache
from hwc.errors import TargetError, UsageError
from hwc.targets import load

HEADER = "TRT-8502-EntropyCalibration2"


def target_with(version: str | None) -> Target:
    return Target("board", "A board", "jetson", "tensorrt", {"software.tensorrt": Fact(version, "", "a test")})


def table_of(scales: dict) -> QuantTable:
    kept = {name: s if isinstance(s, TensorScale) else TensorScale((s,)) for name, s in scales.items()}
    return QuantTable("model", "data", 1, "mse", kept)


def bits(value: float) -> str:
    return struct.pack("!f", value).hex()


def test_the_text_is_that_of_tensorrt():
    table = table_of({"images": 0.007874015718698502, "a (Unnamed Layer* 3) [Conv]": 1.0})
    expected = f"{HEADER}\nimages: 3c010204\na (Unnamed Layer* 3) [Conv]: 3f800000\n"
    assert write_cache(table, target_with("8.5.2")) == expected


@pytest.mark.parametrize(
    ("line", "amax"), [("prob: 3c010a14", 1.0002), ("images: 3c010204", 1.0), ("output0: 40b7daf4", 5.745 * 127)]
)
def test_values_found_in_real_caches(line, amax):
    name = line.split(":")[0]
    header, scales = read_cache(f"{HEADER}\n{line}\n")
    assert scales[name] * 127 == pytest.approx(amax, rel=1e-4)
    assert write_cache(table_of(scales), target_with("8.5.2")) == f"{header}\n{line}\n"


@pytest.mark.parametrize(
    ("version", "number"),
    [("7.0.0", 7000), ("8.5.2", 8502), ("8.5.2.2", 8502), ("8.6.0", 8600), ("8.6.2", 8602),
     ("10.3.0", 100300), ("10.16.0", 101600)],
)  # fmt: skip
def test_the_formula_of_the_version_changes_at_10(version, number):
    assert version_int(target_with(version)) == number


@pytest.mark.parametrize(
    ("name", "header"),
    [("agx-xavier-32gb", "TRT-8502-"), ("orin-nano-8gb", "TRT-100300-"), ("jetson-nano", "TRT-8201-")],
)
def test_the_header_of_real_targets(name, header):
    assert write_cache(table_of({"x": 1.0}), load(name), algorithm="MinMaxCalibration").startswith(
        header + "MinMaxCalibration\n"
    )


@pytest.mark.parametrize("version", [None, "10.13", "eight", "", "8.5.123", "11.4.1"])
def test_a_version_that_gives_no_header_is_refused(version):
    with pytest.raises(TargetError):
        write_cache(table_of({"x": 1.0}), target_with(version))


def test_the_reason_can_be_asked_for_beforehand():
    assert why_no_cache(load("agx-xavier-32gb")) == ""
    assert why_no_cache(load("rtx-4090")) == "rtx-4090: TensorRT 11 reads no calibration cache"
    assert "no fact 'software.tensorrt'" in why_no_cache(load("cpu"))


def test_a_target_without_tensorrt_is_refused():
    with pytest.raises(TargetError, match="software.tensorrt"):
        write_cache(table_of({"x": 1.0}), load("cpu"))


NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1).filter(
    lambda n: n == n.strip() and ": " not in n
)
SCALES = st.floats(min_value=2.0**-149, max_value=3.4028234663852886e38, width=32)


@given(st.dictionaries(NAMES, SCALES, max_size=8))
def test_every_scale_comes_back_bit_for_bit(scales):
    text = write_cache(table_of(scales), target_with("10.3.0"))
    header, read = read_cache(text)
    assert header == "TRT-100300-EntropyCalibration2"
    assert {n: bits(s) for n, s in read.items()} == {n: bits(s) for n, s in scales.items()}
    assert list(read) == list(scales)
    assert write_cache(table_of(read), target_with("10.3.0")) == text


def test_denormals_keep_their_leading_zeros():
    text = write_cache(table_of({"x": 2.0**-149, "y": 1e-30}), target_with("8.5.2"))
    assert text.splitlines()[1:] == ["x: 00000001", "y: 0da24260"]
    assert all(len(line.split(": ")[1]) == 8 for line in text.splitlines()[1:])


@pytest.mark.parametrize("name", ["", "a: b", " a", "a ", "a\nb", "a\rb", "a\x00", "a\u2028b"])
def test_a_name_that_would_break_a_reader_is_not_written(name):
    with pytest.raises(UsageError, match="name"):
        write_cache(table_of({name: 1.0}), target_with("8.5.2"))


def test_the_last_colon_counts_when_reading():
    assert read_cache(f"{HEADER}\na: b: 3f800000\nc:d: 3f800000\n")[1] == {"a: b": 1.0, "c:d": 1.0}


def test_windows_line_ends_are_read():
    assert read_cache(f"{HEADER}\r\nx: 3f800000\r\n") == (HEADER, {"x": 1.0})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no TensorRT calibration cache"),
        ("x: 3f800000\n", "no TensorRT calibration cache"),
        ("TRT-8502-Entropy\nx: 3f800000\n", "EntropyCalibration2"),
        ("TRT-85x2-EntropyCalibration2\n", "line 1"),
        ("TRT-8502-EntropyCalibration2 \n", "line 1"),
        (f"\ufeff{HEADER}\n", "line 1"),
        (f"{HEADER}\nx: 3f8000\n", "line 2"),
        (f"{HEADER}\nx: 3f80000\n", "line 2"),
        (f"{HEADER}\nx: 3f8000000\n", "line 2"),
        (f"{HEADER}\nx: 0x3f8000\n", "line 2"),
        (f"{HEADER}\nx: 3f80000g\n", "line 2"),
        (f"{HEADER}\nx: ３f800000\n", "line 2"),
        (f"{HEADER}\nx 3f800000\n", "line 2"),
        (f"{HEADER}\n: 3f800000\n", "line 2"),
        (f"{HEADER}\n\nx: 3f800000\n", "line 2"),
        (f"{HEADER}\nx: 3f800000\nx: 3f800000\n", "line 3"),
        (f"{HEADER}\nx: 7fc00000\n", "positive, finite"),
        (f"{HEADER}\nx: 7f800000\n", "positive, finite"),
        (f"{HEADER}\nx: bf800000\n", "positive, finite"),
        (f"{HEADER}\nx: 00000000\n", "positive, finite"),
        (f"{HEADER}\nx: 80000000\n", "positive, finite"),
    ],
)
def test_hostile_text_is_refused_with_its_line(text, said):
    with pytest.raises(UsageError) as caught:
        read_cache(text)
    assert said in str(caught.value)


@given(st.text())
def test_any_text_is_read_or_refused(text):
    try:
        header, scales = read_cache(text)
    except UsageError:
        return
    assert header.startswith("TRT-")
    assert all(0 < s < math.inf for s in scales.values())


def test_unsigned_scales_are_refused_unless_the_conversion_is_asked_for():
    table = table_of({"x": TensorScale((2.0 / 255,), None, "uint8")})
    with pytest.raises(UsageError, match="symmetric int8"):
        write_cache(table, target_with("8.5.2"))
    _, scales = read_cache(write_cache(table, target_with("8.5.2"), convert_unsigned=True))
    assert scales["x"] * 127 == pytest.approx(2.0, rel=1e-6)


def test_what_a_cache_cannot_hold_is_refused():
    board = target_with("8.5.2")
    for scale in (TensorScale((1.0, 2.0), 0), TensorScale((1e-60,)), TensorScale((1e60,))):
        with pytest.raises(UsageError):
            write_cache(table_of({"x": scale}), board)
    with pytest.raises(UsageError, match="algorithm"):
        write_cache(table_of({"x": 1.0}), board, algorithm="EntropyCalibration")


def test_weights_stay_out_of_the_cache():
    table = dataclasses.replace(table_of({"x": 1.0}), weights={"w": TensorScale((1.0, 2.0), 0)})
    assert list(read_cache(write_cache(table, target_with("8.5.2")))[1]) == ["x"]
