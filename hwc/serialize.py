"""Frozen dataclasses to JSON and back: the one way an artifact gets into a file and out of it.

Plain JSON with sorted keys, no pickle. Reading checks every field against the class's type hints: unknown fields,
missing fields and values of another type are refused with their place.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from typing import Any, Dict, Tuple, Type, TypeVar, Union

from hwc.errors import UsageError

T = TypeVar("T")


def to_json(value: Any, *, indent: int = 1) -> str:
    """Any artifact as JSON text with sorted keys, so that equal values give equal text."""
    data = dataclasses.asdict(value)
    text = json.dumps(data, indent=indent, sort_keys=True, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        # A file name whose bytes are not UTF-8 arrives with lone surrogates, which only an escape can carry.
        text = json.dumps(data, indent=indent, sort_keys=True)
    return text + "\n"


def from_json(kind: Type[T], text: str) -> T:
    """The artifact written by `to_json`.

    Raises:
        UsageError: not JSON, an unknown or missing field, or a value of the wrong type.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not a {kind.__name__}: the text is not JSON", got=str(error)) from None
    return typing.cast(T, _read(kind, data, kind.__name__))


def _read(kind: Any, data: Any, where: str) -> Any:
    """`data` checked against `kind`; a small reader beats a dependency that boards would have to carry."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return data
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, data, where)
    if origin is Union:
        return _read_union(args, data, where)
    if origin is tuple:
        if not isinstance(data, list):
            raise _mismatch(where, "a list", data)
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_read(args[0], item, f"{where}[{index}]") for index, item in enumerate(data))
        if len(args) != len(data):
            raise _mismatch(where, f"a list of {len(args)}", data)
        return tuple(_read(arg, item, f"{where}[{index}]") for index, (arg, item) in enumerate(zip(args, data)))
    if origin is not None and isinstance(data, dict) and len(args) == 2:
        return {str(key): _read(args[1], item, f"{where}.{key}") for key, item in data.items()}
    if kind is float and isinstance(data, (int, float)) and not isinstance(data, bool):
        try:
            return float(data)
        except OverflowError:
            raise _mismatch(where, "a number that fits a float", data) from None
    if isinstance(kind, type) and isinstance(data, kind) and (kind is bool or not isinstance(data, bool)):
        return data
    raise _mismatch(where, getattr(kind, "__name__", str(kind)), data)


def _read_dataclass(kind: Any, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise _mismatch(where, f"an object ({kind.__name__})", data)
    hints: Dict[str, Any] = typing.get_type_hints(kind)
    unknown = sorted(set(data) - set(hints))
    if unknown:
        raise UsageError(f"{where}: unknown field '{unknown[0]}'", do="this file was written by another version of hwc")
    values = {name: _read(hints[name], item, f"{where}.{name}") for name, item in data.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise UsageError(f"{where}: a field is missing", got=str(error)) from None


def _read_union(choices: Tuple[Any, ...], data: Any, where: str) -> Any:
    for choice in choices:
        if choice is type(None):
            if data is None:
                return None
            continue
        try:
            # A JSON integer must stay an int where both int and float are allowed: choices are tried in order.
            return _read(choice, data, where)
        except UsageError:
            continue
    raise _mismatch(where, " or ".join(getattr(choice, "__name__", str(choice)) for choice in choices), data)


def _mismatch(where: str, expected: str, got: Any) -> UsageError:
    return UsageError(f"{where} has the wrong type", expected=expected, got=repr(got)[:80])
