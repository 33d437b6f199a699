"""Every noun survives its file, what is not a noun is refused, and percentiles are what they are called."""

import dataclasses
import functools
import json
import typing
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwc import artifacts
from hwc.artifacts import DynamicDim, Fact, PowerMode, Profile, Target, TensorScale, TensorSpec
from hwc.errors import TargetError, UsageError
from hwc.serialize import from_json, to_json

NOUNS = [kind for kind in vars(artifacts).values() if dataclasses.is_dataclass(kind)]
PLAIN = {
    int: st.integers(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(max_size=4),
    bool: st.booleans(),
    type(None): st.none(),
}


@functools.cache
def values_of(kind: object) -> st.SearchStrategy:
    """Any value of a field type that the nouns use."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is DynamicDim:
        sizes = st.lists(st.integers(1, 1 << 40), min_size=3, max_size=3).map(sorted)
        return sizes.map(lambda three: DynamicDim(*three))
    if dataclasses.is_dataclass(kind):
        fields = {name: values_of(hint) for name, hint in typing.get_type_hints(kind).items()}
        if kind is TensorScale:
            fields["scale"] = st.floats(1e-30, 1e30).map(lambda scale: (scale,))
            fields["axis"] = st.none()
            fields["dtype"] = st.sampled_from(["int8", "uint8"])
        if kind is Profile:
            fields["latency_ns"] = st.lists(st.integers(0), min_size=1, max_size=3).map(tuple)
            fields["batch"] = st.integers(1)
        return st.builds(kind, **fields)
    if origin is typing.Union:
        return st.one_of(*map(values_of, args))
    if origin is tuple:
        if args[-1] is Ellipsis:
            return st.lists(values_of(args[0]), max_size=2).map(tuple)
        return st.tuples(*map(values_of, args))
    if origin is not None and issubclass(origin, Mapping):
        return st.dictionaries(st.text(max_size=4), values_of(args[1]), max_size=2)
    return PLAIN[kind]


@functools.cache
def an_example(kind: type) -> object:
    """One plain value of the noun, every field filled."""
    found = []

    @settings(max_examples=1, database=None, deadline=None, derandomize=True)
    @given(values_of(kind))
    def keep(value):
        found.append(value)

    keep()
    return found[-1]


@pytest.mark.parametrize("kind", NOUNS, ids=lambda kind: kind.__name__)
@settings(max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_noun_written_and_read_back_is_equal_and_writes_the_same_text(kind, data):
    value = data.draw(values_of(kind))
    text = to_json(value)
    back = from_json(kind, text)
    assert back == value
    assert to_json(back) == text


@pytest.mark.parametrize("kind", NOUNS, ids=lambda kind: kind.__name__)
def test_nouns_are_frozen(kind):
    value = an_example(kind)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(kind)[0].name, None)


@pytest.mark.parametrize("kind", NOUNS, ids=lambda kind: kind.__name__)
def test_an_unknown_field_is_refused_by_name(kind):
    data = {**json.loads(to_json(an_example(kind))), "surprise": 1}
    with pytest.raises(UsageError, match="unknown field 'surprise'"):
        from_json(kind, json.dumps(data))


@pytest.mark.parametrize("kind", NOUNS, ids=lambda kind: kind.__name__)
def test_each_missing_field_is_refused_by_name(kind):
    data = json.loads(to_json(an_example(kind)))
    for field in dataclasses.fields(kind):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            rest = {name: value for name, value in data.items() if name != field.name}
            with pytest.raises(UsageError, match="a field is missing") as caught:
                from_json(kind, json.dumps(rest))
            assert f"'{field.name}'" in caught.value.got


@pytest.mark.parametrize("kind", NOUNS, ids=lambda kind: kind.__name__)
def test_each_field_of_a_wrong_type_is_refused_with_its_place(kind):
    data = json.loads(to_json(an_example(kind)))
    hints = typing.get_type_hints(kind)
    for name in data:
        origin = typing.get_origin(hints[name])
        is_table = origin is not None and isinstance(origin, type) and issubclass(origin, Mapping)
        wrong = [[]] if is_table else {"?": {}}
        with pytest.raises(UsageError, match=f"{kind.__name__}.{name}"):
            from_json(kind, json.dumps({**data, name: wrong}))


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[]", "3", '"x"', "[" * 100_000, '{"value": 1' + "0" * 5000 + "}"],
    ids=["nothing", "cut off", "null", "list", "number", "string", "deep", "digits"],
)  # fmt: skip
def test_text_that_is_no_noun_is_refused_in_one_error(text):
    with pytest.raises(UsageError):
        from_json(Fact, text)


def test_numbers_are_not_mistaken_for_truth_values_nor_text():
    good = {"value": 1, "unit": "", "source": "s"}
    assert from_json(Fact, json.dumps(good)).value == 1
    assert from_json(Fact, json.dumps({**good, "value": True})).value is True
    assert isinstance(from_json(Fact, json.dumps({**good, "value": 1.0})).value, float)
    for field, wrong in (("unit", 1), ("source", True), ("note", None)):
        with pytest.raises(UsageError, match="wrong type"):
            from_json(Fact, json.dumps({**good, field: wrong}))
    spec = {"name": "x", "dtype": "float32", "shape": [True]}
    with pytest.raises(UsageError, match="wrong type"):
        from_json(TensorSpec, json.dumps(spec))


def test_a_number_beyond_every_float_is_refused():
    mode = json.loads(to_json(PowerMode("0", "MAXN", 1.0, 1, 1.0, 1.0, 1.0, "", "a made-up table")))
    with pytest.raises(UsageError, match="wrong type"):
        from_json(PowerMode, json.dumps({**mode, "watts": 10**400}))


def test_a_file_name_that_is_not_utf8_survives():
    spec = TensorSpec("caf\udce9.onnx", "float32", (1,))
    text = to_json(spec)
    text.encode("utf-8")
    assert from_json(TensorSpec, text) == spec
    assert "é" in to_json(TensorSpec("é", "float32", ()))


def test_equal_values_give_equal_text_whatever_the_order_of_their_tables():
    facts = {"b": Fact(1, "", "s"), "a": Fact(2, "", "s")}
    one = Target("t", "T", "cpu", "openvino", facts)
    other = Target("t", "T", "cpu", "openvino", dict(reversed(facts.items())))
    assert to_json(one) == to_json(other)


@pytest.mark.parametrize("sizes", [(0, 1, 2), (2, 1, 3), (1, 3, 2), (3, 2, 1), (-1, 1, 1)])
def test_a_dynamic_dimension_out_of_order_is_refused(sizes):
    with pytest.raises(UsageError, match="min <= opt <= max"):
        DynamicDim(*sizes)


def test_a_dynamic_dimension_out_of_order_is_refused_from_a_file_too():
    spec = {"name": "x", "dtype": "float32", "shape": [{"min": 4, "opt": 2, "max": 8}]}
    with pytest.raises(UsageError):
        from_json(TensorSpec, json.dumps(spec))


def test_a_spec_gives_its_shape_at_each_end_of_the_profile():
    spec = TensorSpec("x", "float32", (DynamicDim(1, 4, 8), 3))
    assert not spec.is_static
    assert [spec.at(which) for which in ("min", "opt", "max")] == [(1, 3), (4, 3), (8, 3)]
    assert TensorSpec("y", "int64", (2, 2)).is_static


def a_profile(samples: list[int], batch: int = 1) -> Profile:
    return Profile("e", tuple(samples), (), True, batch, ())


def test_percentiles_of_known_samples():
    profile = a_profile([n * 1_000_000 for n in (5, 1, 4, 2, 3)])
    assert [profile.percentile_ms(q) for q in (0, 25, 50, 100)] == [1.0, 2.0, 3.0, 5.0]
    assert profile.percentile_ms(90) == pytest.approx(4.6)
    assert (profile.p50_ms, profile.mean_ms) == (3.0, 3.0)
    assert a_profile([7_000_000]).p99_ms == 7.0


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=40), st.floats(0, 100))
@settings(max_examples=50, deadline=None, database=None)
def test_percentiles_agree_with_numpy(samples, q):
    assert a_profile(samples).percentile_ms(q) == pytest.approx(np.percentile(samples, q) / 1e6, rel=1e-9, abs=1e-9)


def test_throughput_counts_the_batch():
    assert a_profile([2_000_000] * 3, batch=8).throughput_qps == pytest.approx(4000)


@pytest.mark.parametrize(("samples", "batch"), [([], 1), ([1], 0)])
def test_a_profile_without_samples_or_batch_cannot_be(samples, batch):
    with pytest.raises(UsageError, match="at least one sample"):
        a_profile(samples, batch)


def test_a_fact_that_is_missing_unknown_or_no_number_is_named():
    facts = {name: Fact(value, "GB", "a source") for name, value in (("a", None), ("b", "x"), ("c", True), ("d", 2))}
    target = Target("t", "T", "cpu", "openvino", facts)
    assert target.number("d") == 2.0
    assert [target.knows(name) for name in "adz"] == [False, True, False]
    for name, what in (("z", "has no fact 'z'"), ("a", "unknown"), ("b", "not a number"), ("c", "not a number")):
        with pytest.raises(TargetError, match=what):
            target.number(name)
