"""Targets: named hardware as data, one TOML file each, every fact with its source.

`load("agx-xavier")` reads `data/agx-xavier-32gb.toml`, judges it with `read_target` and returns a frozen `Target`. A
name is exact: a near miss is an error that lists the closest names, because a board that was picked by guessing would
be compiled for without a word. Aliases are the few short names below, each with one documented meaning.

Reading TOML needs Python 3.11, or tomli on 3.10. A board has neither: `hwc.pyz` carries all targets in one data.json
that was parsed when it was packed, and a bundle carries its own target whole inside its manifest. So this file keeps
to Python 3.8 syntax and imports the TOML reader late.
"""

from __future__ import annotations

import difflib
import json
import pkgutil
import sys
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from hwc.artifacts import Target
from hwc.errors import InternalError, TargetError, UsageError
from hwc.targets.read_target import target_from_dict

DATA = Path(__file__).parent / "data"
PACKED = "data.json"  # in hwc.pyz: target name -> the content of its file

# Short names people say, and the one module each stands for: the largest of its family, except AGX Xavier 32GB and
# Xavier NX 8GB, the common ones, whose larger variants came later. `hwc targets list` prints them.
ALIASES: Dict[str, str] = {
    "a100-80gb": "a100",
    "agx-orin": "agx-orin-64gb",
    "agx-xavier": "agx-xavier-32gb",
    "jetson-tx2": "tx2",
    "orin-nano": "orin-nano-8gb",
    "orin-nano-super": "orin-nano-8gb-super",
    "orin-nx": "orin-nx-16gb",
    "thor": "agx-thor",
    "xavier-nx": "xavier-nx-8gb",
}


def names() -> Tuple[str, ...]:
    """Every target that can be loaded, sorted, without the aliases."""
    return tuple(sorted(path.stem for path in DATA.glob("*.toml"))) if DATA.is_dir() else tuple(sorted(_packed()))


def resolve_name(name: str) -> str:
    """The full name behind a name or an alias.

    Raises:
        UsageError: neither; the message names the closest ones.
    """
    known = names()
    if name in known:
        return name
    if name in ALIASES:
        return ALIASES[name]
    close = difflib.get_close_matches(name.lower(), [*known, *ALIASES], n=3, cutoff=0.5)
    raise UsageError(
        f"no target is called '{name}'",
        expected="closest: " + ", ".join(close) if close else "one of: " + ", ".join(known),
        got=repr(name),
        do="see `hwc targets list`",
    )


def load(name: str) -> Target:
    """The target of that name or alias, checked.

    Raises:
        UsageError: no such target.
        InternalError: the shipped file breaks a rule (a fact without source, a name that is not the file's).
    """
    full_name = resolve_name(name)
    target = target_from_dict(read_raw(full_name), where=f"targets/data/{full_name}.toml")
    if target.name != full_name:
        raise InternalError(
            "a target's name must be its file's name", expected=full_name, got=target.name, where="field 'name'"
        )
    return target


def read_raw(full_name: str) -> Dict[str, Any]:
    """The content of that target's file as plain dictionaries and lists, not judged yet.

    Raises:
        InternalError: the shipped file cannot be read.
    """
    if not DATA.is_dir():
        return dict(_packed()[full_name])
    try:
        return _parse_toml((DATA / f"{full_name}.toml").read_text(encoding="utf-8"))
    except ValueError as error:
        raise InternalError(f"targets/data/{full_name}.toml is not TOML", got=str(error)) from None


def _packed() -> Dict[str, Any]:
    try:
        data = pkgutil.get_data(__name__, PACKED)
    except OSError:
        data = None
    if data is None:
        raise InternalError("the targets' data are missing", where=str(DATA), do="install hwc or copy hwc.pyz again")
    content: Dict[str, Any] = json.loads(data.decode("utf-8"))
    return content


def find_dla_support(target: Target, tensorrt: str) -> Optional[bool]:
    """Whether that TensorRT version drives this target's DLA: True, False, or None where no source says.

    The answer is a row of the fact 'tensorrt.dla_by_version', such as "10.8-10.16 no": both ends belong to the range,
    and an end of two numbers covers all of its patches. It is a table and not `version >= x`, because the DLA went
    away in 10.8 and came back, for some boards, in 11.4.1.

    Raises:
        UsageError: `tensorrt` is not a version.
    """
    if not target.knows("dla.count") or target.number("dla.count") == 0:
        return False
    version = _version_parts(tensorrt)
    rows = target.fact("tensorrt.dla_by_version").value
    for row in rows if isinstance(rows, tuple) else ():
        bounds, answer = row.split()
        low, high = (_version_parts(end) for end in bounds.split("-"))
        if version[: len(low)] >= low and version[: len(high)] <= high:
            return answer == "yes"
    return None


def _version_parts(text: str) -> Tuple[int, ...]:
    parts = text.split(".")
    if not all(part.isdigit() for part in parts):
        raise UsageError("not a TensorRT version", expected="numbers and dots, such as 8.5.2", got=repr(text))
    return tuple(int(part) for part in parts)


def _parse_toml(text: str) -> Dict[str, Any]:
    try:
        if sys.version_info >= (3, 11):
            import tomllib as reader
        else:
            import tomli as reader
    except ImportError:
        raise TargetError(
            "this Python cannot read target files",
            expected="Python >= 3.11, or the package tomli",
            do="load targets on the host; a board reads its target from the bundle's manifest",
        ) from None
    return reader.loads(text)
