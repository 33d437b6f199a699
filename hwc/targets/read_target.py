"""Turns the content of a target file into a frozen Target, or says which rule the file breaks.

A file has name, title, family, engine, notes, one table per fact and one table per power mode:

    [facts."gpu.sm_count"]        value (number, text, yes/no, list of texts) OR unknown = true; never both
    value = 8                     unit: always, "count" and "version" too, so that no number floats free
    unit = "count"                source: a URL or a sentence; a bare reference key is refused
    source = "https://..."        note: optional

    [[power_modes]]               id, name, source; the rest is optional, and what is missing is unknown

The names in `required_facts` must be present in every file of their kind, if only as unknown.
Limit: this judges form, not truth. Whether a figure is right is for its source, or for a measurement, to say.
"""

from __future__ import annotations

import math
from typing import Any, Mapping, Tuple

from hwc.artifacts import Fact, PowerMode, Target, Value
from hwc.errors import InternalError
from hwc.targets.required_facts import required_facts

FAMILIES = ("cpu", "geforce", "datacenter", "jetson")
ENGINES = ("openvino", "tensorrt_rtx", "tensorrt")

_OPTIONAL_MODE_NUMBERS = ("watts", "cpus_online", "gpu_clock_mhz", "dla_clock_mhz", "memory_clock_mhz")


def target_from_dict(data: Mapping[str, Any], *, where: str) -> Target:
    """The target that a parsed target file describes.

    Args:
        data: the file's content as plain dictionaries and lists.
        where: the file's name, for messages.

    Raises:
        InternalError: the file breaks a rule; target files are part of `hwc`, so it is ours to repair.
    """
    _check_keys(data, {"name", "title", "family", "engine", "notes", "facts", "power_modes"}, where)
    facts = {name: fact_from_dict(fact, f"{where}: facts.{name}") for name, fact in data.get("facts", {}).items()}
    target = Target(
        name=_text(data, "name", where),
        title=_text(data, "title", where),
        family=_choice(data, "family", FAMILIES, where),
        engine=_choice(data, "engine", ENGINES, where),
        facts=facts,
        power_modes=tuple(
            _mode_from_dict(mode, f"{where}: power_modes[{index}]")
            for index, mode in enumerate(data.get("power_modes", []))
        ),
        notes=tuple(str(note) for note in data.get("notes", [])),
    )
    _check_complete(target, where)
    _check_modes(target, where)
    return target


def fact_from_dict(data: Mapping[str, Any], where: str) -> Fact:
    """One fact table as a Fact; an unknown one has the value None.

    Raises:
        InternalError: no unit, no real source, both or neither of value and unknown, or a value of a wrong type.
    """
    _check_keys(data, {"value", "unknown", "unit", "source", "note"}, where)
    if ("value" in data) == (data.get("unknown") is True):
        raise InternalError("a fact has either a value or 'unknown = true'", where=where, got=repr(sorted(data)))
    return Fact(
        value=_value(data.get("value"), where),
        unit=_text(data, "unit", where),
        source=_source(data, where),
        note=str(data.get("note", "")),
    )


def _mode_from_dict(data: Mapping[str, Any], where: str) -> PowerMode:
    _check_keys(data, {"id", "name", "tpc", "source", "is_default", *_OPTIONAL_MODE_NUMBERS}, where)
    numbers = {name: _value(data.get(name), where) for name in _OPTIONAL_MODE_NUMBERS}
    wrong = [name for name, number in numbers.items() if not isinstance(number, (int, float, type(None)))]
    if wrong:
        raise InternalError(f"'{wrong[0]}' must be a number", where=where, got=repr(data[wrong[0]]))
    return PowerMode(
        id=_text(data, "id", where),
        name=_text(data, "name", where),
        tpc=str(data.get("tpc", "")),
        source=_source(data, where),
        is_default=data.get("is_default", False) is True,
        **numbers,  # type: ignore[arg-type]  # the loop above let only numbers and None through
    )


def _value(raw: Any, where: str) -> Value:
    if isinstance(raw, list) and raw and all(isinstance(item, str) and item for item in raw):
        return tuple(raw)
    if isinstance(raw, (int, float)) and not isinstance(raw, bool) and not (math.isfinite(raw) and raw >= 0):
        raise InternalError("a hardware number is finite and not negative", where=where, got=repr(raw))
    if raw is None or raw is True or raw is False or isinstance(raw, (int, float)) or (isinstance(raw, str) and raw):
        return raw
    raise InternalError(
        "a value is a number, a text, yes/no or a list of texts, and is not empty", where=where, got=repr(raw)
    )


def _source(data: Mapping[str, Any], where: str) -> str:
    source = _text(data, "source", where)
    # "DQ_XAV" alone sends the reader nowhere: a source is an address or at least two words.
    if "://" not in source and len(source.split()) < 2:
        raise InternalError("a source is a URL or a sentence", where=where, got=repr(source))
    return source


def _text(data: Mapping[str, Any], key: str, where: str) -> str:
    text = data.get(key)
    if not isinstance(text, str) or not text.strip():
        raise InternalError(f"'{key}' is missing or empty", where=where, expected="a text", got=repr(text))
    return text


def _choice(data: Mapping[str, Any], key: str, choices: Tuple[str, ...], where: str) -> str:
    text = _text(data, key, where)
    if text not in choices:
        raise InternalError(f"unknown {key}", where=where, expected=" or ".join(choices), got=text)
    return text


def _check_keys(data: Any, allowed: Any, where: str) -> None:
    if not isinstance(data, Mapping):
        raise InternalError("a table was expected", where=where, got=repr(data)[:80])
    extra = sorted(set(data) - set(allowed))
    if extra:
        raise InternalError(f"unknown key '{extra[0]}'", where=where, expected=", ".join(sorted(allowed)))


def _check_complete(target: Target, where: str) -> None:
    count = target.facts.get("dla.count")
    for name, unit in required_facts(target.family, count.value if count else None).items():
        if name not in target.facts:
            raise InternalError(f"fact '{name}' is missing", where=where, do="state it, or write unknown = true")
        if target.facts[name].unit != unit:
            raise InternalError(f"fact '{name}' has the wrong unit", where=where, expected=unit)


def _check_modes(target: Target, where: str) -> None:
    for what, values in (("id", [m.id for m in target.power_modes]), ("name", [m.name for m in target.power_modes])):
        if len(set(values)) != len(values):
            raise InternalError(f"two power modes share one {what}", where=where, got=", ".join(values))
    if sum(mode.is_default for mode in target.power_modes) > 1:
        raise InternalError("two power modes are the default", where=where)
