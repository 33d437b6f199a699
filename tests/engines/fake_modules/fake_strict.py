"""What makes the stand-ins strict: no attribute beyond those declared, no value of another type, no name of the future.

A pybind11 class refuses unknown attributes and wrong types; a plain Python class takes both. `Strict` and `typed` bring
that back, and `cut` removes from a module every name that the table of `tensorrt_api.toml` does not give to a version.
"""

import enum
import os
import re

TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tensorrt_api.toml")
_ROW = re.compile(r'^"(?P<name>[\w.]+)" = \["(?P<first>[\d.]+)", "(?P<removed>[\d.]*)"\]')


class Strict:
    """A class whose own attributes are its properties; a subclass of the user's may hold what it likes."""

    def __setattr__(self, name, value):
        is_ours = type(self).__module__ == "tensorrt" or type(self).__module__.startswith("fake_")
        if is_ours and not name.startswith("_") and not isinstance(getattr(type(self), name, None), property):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        object.__setattr__(self, name, value)


def typed(name, kind, default=None, readonly=False, check=None):
    """A property that takes values of one type. bool is no int here, as in pybind11."""

    def get(self):
        return getattr(self, "_" + name, default)

    def put(self, value):
        if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise TypeError(f"(): incompatible function arguments: {name} of type {type(value).__name__}")
        if check is None or check(value):
            setattr(self, "_" + name, value)

    return property(get) if readonly else property(get, put)


def require(value, kind, what):
    """Refuses an argument of another type with pybind11's error."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{what}(): incompatible function arguments: {type(value).__name__}")
    return value


def version_tuple(text):
    """"8.5.2.2" -> (8, 5, 2): what the table can tell apart."""
    return tuple(int(part) for part in text.split(".")[:3])


def read_table():
    """Name -> (first version, version that removed it or ""), from the section [api]."""
    with open(TABLE, encoding="utf-8") as file:
        found = (_ROW.match(line) for line in file)
        return {row.group("name"): (row.group("first"), row.group("removed")) for row in found if row}


def is_in(name, version, table):
    """Whether the table gives that name to that version; a name it does not know is not there."""
    if name not in table:
        return False
    first, removed = table[name]
    return version_tuple(first) <= version_tuple(version) and not (
        removed and version_tuple(version) >= version_tuple(removed)
    )


def make_enum(name, version, table, values=None):
    """An enum of the members that the table gives to that version; None if there is none. Values are in table order."""
    members = [row.split(".")[1] for row in table if row.startswith(name + ".")]
    present = {m: index for index, m in enumerate(members) if is_in(f"{name}.{m}", version, table)}
    return enum.IntEnum(name, values or present) if present else None


def cut(namespace, version, table):
    """Removes classes and their members that this version lacks.

    Raises:
        AssertionError: a public name that the table does not know, so the stand-in would be more than the real thing.
    """
    for name, value in list(namespace.items()):
        is_ours = isinstance(value, type) and value.__module__ in ("tensorrt", "fake_runtime", "fake_network")
        if name.startswith("_") or not is_ours:
            continue
        assert name in table, f"the stand-in invents {name}"
        if not is_in(name, version, table):
            del namespace[name]
            continue
        if issubclass(value, enum.Enum):
            continue
        for member in [key for key in vars(value) if not key.startswith("_")]:
            full = f"{name}.{member}"
            assert full in table, f"the stand-in invents {full}"
            if not is_in(full, version, table):
                delattr(value, member)
