"""Reads input shapes as trtexec and Polygraphy write them.

    item  = [NAME ":"] dims [":" dtype]          items are separated by commas or blanks
    dims  = 1x3x224x224 | [1,3,224,224] | [] (a scalar)

An item is read from its right end, because names may hold ':' themselves ("input:0" from TensorFlow): what is left of
the dims is the name, whatever it looks like. A name is left out when the model has one input. A dimension varies when
it differs between the three maps of trtexec's --minShapes, --optShapes and --maxShapes.

Limit: a name cannot hold a comma, a blank or a '['. Sources: `trtexec --help` of TensorRT 10 (--shapes), Polygraphy's
`--input-shapes` (https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/polygraphy/).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hwc.artifacts import Dim, DynamicDim
from hwc.errors import UsageError

MAX_DIM = 2**31 - 1  # TensorRT's and OpenVINO's sizes of one dimension are 32-bit

_DTYPES = {
    "float": "float32", "fp32": "float32", "half": "float16", "fp16": "float16", "double": "float64", "fp64": "float64",
    "bf16": "bfloat16", "int": "int32", "long": "int64",
    **{name: name for name in ("float16", "float32", "float64", "bfloat16", "bool", "int8", "int16", "int32", "int64",
                               "uint8", "uint16", "uint32", "uint64")},
}  # fmt: skip
_ITEM = re.compile(r"(?:(?P<name>.+):)?(?P<dims>\[[^\[\]]*\]|\d+(?:x\d+)*)(?::(?P<dtype>[A-Za-z]\w*))?")


@dataclass(frozen=True)
class InputShapes:
    """What the user said about the inputs: dimensions, and dtypes where given. The name "" stands for the only input.

    `dtypes` holds numpy names ("int64").
    """

    shapes: Mapping[str, tuple[Dim, ...]] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)

    def for_inputs(self, names: Sequence[str]) -> InputShapes:
        """The same with the unnamed shape given to the only input.

        Raises:
            UsageError: an unnamed shape for several inputs, or a name that the model does not have.
        """
        unknown = [name for name in self.shapes if name and name not in names]
        if unknown:
            raise UsageError(f"no input is called '{unknown[0]}'", expected=", ".join(names), got=unknown[0])
        if "" not in self.shapes:
            return self
        if len(names) != 1 or len(self.shapes) != 1:
            raise UsageError(
                f"a shape has no input name, and the model has {len(names)} inputs",
                expected=", ".join(f"{name}:..." for name in names),
                got=_text("", self.shapes[""], "opt"),
            )
        rename = {"": names[0]}
        return InputShapes(
            {rename.get(name, name): dims for name, dims in self.shapes.items()},
            {rename.get(name, name): dtype for name, dtype in self.dtypes.items()},
        )


def parse_shapes(fixed: str = "", minimum: str = "", optimum: str = "", maximum: str = "") -> InputShapes:
    """The shapes of `--input-shapes` (fixed), or of the three maps of an optimization profile, or of both.

    Raises:
        UsageError: bad syntax, a name given twice, a map of the three missing, or maps that do not fit each other.
    """
    shapes, dtypes = _parse_map(fixed, "--input-shapes")
    flags = ("--minShapes", "--optShapes", "--maxShapes")
    texts = (minimum, optimum, maximum)
    given = [flag for flag, text in zip(flags, texts) if text.strip()]
    if not given:
        return InputShapes(dict(shapes), dtypes)
    if len(given) != 3:
        missing = ", ".join(flag for flag in flags if flag not in given)
        raise UsageError(f"{missing} is missing", expected=" with ".join(flags), got=" ".join(given))
    (low, types), (opt, more), (high, most) = (_parse_map(text, flag) for text, flag in zip(texts, flags))
    ranges = {name: _join(name, low.get(name), opt.get(name), high.get(name)) for name in {**low, **opt, **high}}
    twice = sorted(set(shapes) & set(ranges))
    if twice:
        raise UsageError(f"input '{twice[0]}' has a fixed shape and a range", do="give one of the two")
    return InputShapes({**shapes, **ranges}, {**dtypes, **types, **more, **most})


def format_shapes(shapes: InputShapes, which: str = "opt") -> str:
    """The text that `parse_shapes` reads back; `which` of "min", "opt", "max" for dimensions that vary."""
    return ",".join(_text(name, dims, which, shapes.dtypes.get(name)) for name, dims in shapes.shapes.items())


def _text(name: str, dims: tuple[Dim, ...], which: str, dtype: str | None = None) -> str:
    sizes = [str(dim if isinstance(dim, int) else getattr(dim, which)) for dim in dims]
    text = "x".join(sizes) if sizes else "[]"
    return (f"{name}:" if name else "") + text + (f":{dtype}" if dtype else "")


def _parse_map(text: str, flag: str) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    for item in _split(text, flag):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise UsageError(
                f"{flag}: cannot read '{item[:80]}'",
                expected="name:1x3x224x224 or name:[1,3,224,224], with :dtype after it if wanted",
                do="for a dimension that varies give --minShapes, --optShapes and --maxShapes"
                if re.search(r"-1|\?|None", item) else "",
            )  # fmt: skip
        name = match["name"] or ""
        if name in shapes:
            raise UsageError(f"{flag}: input '{name}' is given twice" if name else f"{flag}: two shapes have no name")
        shapes[name] = _dims(match["dims"], item, flag)
        if match["dtype"]:
            dtype = _DTYPES.get(match["dtype"].lower())
            if dtype is None:
                raise UsageError(
                    f"{flag}: no dtype is called '{match['dtype']}'", expected=", ".join(sorted(set(_DTYPES.values())))
                )
            dtypes[name] = dtype
    return shapes, dtypes


def _split(text: str, flag: str) -> list[str]:
    """Items between commas or blanks that stand outside brackets."""
    items, depth, current = [], 0, ""
    for char in text:
        depth += {"[": 1, "]": -1}.get(char, 0)
        if depth not in (0, 1):
            raise UsageError(f"{flag}: brackets do not match", got=text[:80], expected="name:[1,3,224,224]")
        if depth == 0 and (char == "," or char.isspace()):
            items.append(current)
            current = ""
        else:
            current += char
    if depth:
        raise UsageError(f"{flag}: brackets do not match", got=text[:80], expected="name:[1,3,224,224]")
    return [item for item in [*items, current] if item]


def _dims(text: str, item: str, flag: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.strip("[]").replace("x", ",").split(",")]
    if parts == [""]:
        return ()
    dims = []
    for part in parts:
        # isdecimal alone would take other scripts' digits; int() would take '1_0'.
        if not (part.isascii() and part.isdecimal()) or len(part) > 10 or not 0 < int(part) <= MAX_DIM:
            raise UsageError(
                f"{flag}: '{part[:20]}' is not the size of a dimension",
                where=item[:80],
                expected=f"an integer from 1 to {MAX_DIM}",
                do="for a dimension that varies give --minShapes, --optShapes and --maxShapes",
            )
        dims.append(int(part))
    return tuple(dims)


def _join(
    name: str, low: tuple[int, ...] | None, opt: tuple[int, ...] | None, high: tuple[int, ...] | None
) -> tuple[Dim, ...]:
    if low is None or opt is None or high is None:
        raise UsageError(f"input '{name}' is not in all of --minShapes, --optShapes and --maxShapes")
    if not len(low) == len(opt) == len(high):
        raise UsageError(
            f"input '{name}' has several ranks", got=f"min {len(low)}, opt {len(opt)}, max {len(high)} dimensions"
        )
    return tuple(a if a == b == c else DynamicDim(a, b, c) for a, b, c in zip(low, opt, high))
