"""Reads the lines of NVIDIA's tegrastats, in all forms from JetPack 4 to 7.2.

A line is a run of fields in no fixed order, separated by any number of blanks; fields vanish without root:

    [MM-DD-YYYY HH:MM:SS] RAM u/tMB (lfb NxS{k,M}B) [SWAP u/tMB (cached cMB)] [IRAM u/tkB(lfb SkB)]
    CPU [load%@MHz|off,...] [EMC_FREQ load%[@MHz]] GR3D_FREQ {load%, load%@MHz, load%@[MHz,...], @[MHz,...]}
    ENGINE {off, MHz, @MHz, load%@MHz} ... [MTS fg x% bg y%] zone@T[C] or zone@TC/TmaxC ... RAIL power ...

The power of a rail is `instant/average` in mW (JetPack 4), `instant mW/average mW` (5 and 6) or with a third number,
the maximum (7.2). The average runs since tegrastats started, idle time included, so only the instant value says what a
workload draws. A zone that reads -256C cannot be read, and PMIC@100C or PMIC@50C is a constant that stands for a sensor
that is not there: both become None and never a number. A field whose name is new is kept in `other`; a field whose name
is known and whose value is not is an error, because a number that is skipped would pass for one that was never printed.

Limits: a word without a value that is followed by an unknown value is taken as that value's name; a line that was cut
off may begin with the list of cores. Sources: tegrastats lines of DataDog/datadog-agent, henrygd/beszel,
lesomnus/tegra-exporter and rbonghi/jetson_stats, which the tests hold.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Match, Optional, Pattern, Sequence, Tuple

from hwc.errors import EngineError, UsageError

UNREADABLE_C = -256.0
_PMIC_PLACEHOLDERS_C = (50.0, 100.0)
_UNUSED_RAIL = "NC"  # not connected; may be there several times

_N = r"\d{1,12}"  # longer runs of digits are damage, and int() has a limit of its own
_T = r"-?\d{1,6}(?:\.\d{1,9})?"
_NAME = r"[A-Za-z][A-Za-z0-9_.]*"
_END = r"(?=\s|$)"


@dataclass(frozen=True)
class Core:
    """One CPU core; both None if it is offline."""

    load_percent: Optional[int]
    clock_mhz: Optional[int]


@dataclass(frozen=True)
class Unit:
    """A unit with a clock (GR3D, EMC, VIC, NVDLA0, ...). `is_on` is None where the form does not tell."""

    name: str
    is_on: Optional[bool]
    load_percent: Optional[int] = None
    clocks_mhz: Tuple[int, ...] = ()


@dataclass(frozen=True)
class Temperature:
    """One zone in degrees Celsius; None if it cannot be read or is a placeholder."""

    zone: str
    celsius: Optional[float]
    max_celsius: Optional[float] = None


@dataclass(frozen=True)
class Rail:
    """One power rail in milliwatts. `average_mw` runs since tegrastats started; `max_mw` from JetPack 7.2 on."""

    name: str
    instant_mw: int
    average_mw: int
    max_mw: Optional[int] = None


@dataclass(frozen=True)
class Reading:
    """One line. `other` holds fields that this reader does not know, as (name, text)."""

    time: Optional[datetime.datetime] = None
    memory: Tuple[Tuple[str, int], ...] = ()  # "ram_used_mb", "swap_cached_mb", ... in the order printed
    cores: Tuple[Core, ...] = ()
    units: Tuple[Unit, ...] = ()
    temperatures: Tuple[Temperature, ...] = ()
    rails: Tuple[Rail, ...] = ()
    other: Tuple[Tuple[str, str], ...] = ()

    def rail(self, name: str) -> Rail:
        """The rail of that name.

        Raises:
            EngineError: it is not in the line, or there twice; a missing rail is never zero.
        """
        found = [rail for rail in self.rails if rail.name == name and name != _UNUSED_RAIL]
        if len(found) != 1:
            raise EngineError(
                f"tegrastats prints {'no' if not found else 'more than one'} rail {name}",
                expected=name,
                got=", ".join(rail.name for rail in self.rails) or "no rails at all",
                do="run tegrastats as root, and check that the bundle's target is this board",
            )
        return found[0]

    def power_mw(self, rails: Sequence[str]) -> Tuple[int, ...]:
        """Instant power of each named rail; errors as in `rail`."""
        return tuple(self.rail(name).instant_mw for name in rails)


def parse_log(text: str) -> Tuple[Reading, ...]:
    """Every line of a log; blank lines are left out.

    Raises:
        UsageError: a line cannot be read (with its number and column), or there is none.
    """
    # Not splitlines(): that would also cut at characters which belong to a damaged line.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise UsageError("this tegrastats log has no lines", do="record it with: tegrastats --interval 100")
    return tuple(parse_line(line, number) for number, line in lines)


def parse_line(text: str, number: int = 1) -> Reading:
    """One line.

    Args:
        number: what the line is called in an error.

    Raises:
        UsageError: a field cannot be read, or no field is known; says the column.
    """
    found: Dict[str, List[Any]] = {key: [] for key in ("time", "memory", "cores", "units", "temps", "rails", "other")}
    place = _skip_blanks(text, 0)
    while place < len(text):
        for pattern, take in _FIELDS:
            match = pattern.match(text, place)
            if match and (place == 0 or take is not _take_time):
                try:
                    take(match, found)
                except ValueError as error:
                    raise _unreadable(text, place, number, str(error)) from None
                place = _skip_blanks(text, match.end())
                break
        else:
            place = _skip_blanks(text, _take_unknown(text, place, number, found))
    if not any(found[key] for key in ("memory", "cores", "units", "temps", "rails")):
        raise UsageError(
            "this is no line of tegrastats", where=f"line {number}, column 1", got=repr(text[:60]),
            expected="fields such as RAM 519/7607MB, CPU [0%@1728,...], VDD_IN 5971mW/5971mW",
        )  # fmt: skip
    return Reading(
        time=found["time"][0] if found["time"] else None,
        memory=tuple(found["memory"]),
        cores=tuple(found["cores"]),
        units=tuple(found["units"]),
        temperatures=tuple(found["temps"]),
        rails=tuple(found["rails"]),
        other=tuple(found["other"]),
    )


def _skip_blanks(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n\v\f":
        place += 1
    return place


def _take_time(match: Match[str], found: Dict[str, List[Any]]) -> None:
    found["time"].append(datetime.datetime.strptime(match.group(), "%m-%d-%Y %H:%M:%S"))


def _take_memory(match: Match[str], found: Dict[str, List[Any]]) -> None:
    found["memory"] += [(key, int(value)) for key, value in match.groupdict().items() if value is not None]


def _take_ram(match: Match[str], found: Dict[str, List[Any]]) -> None:
    used, total, blocks, size, unit = match.groups()
    kilobytes = int(size) * (1024 if unit == "M" else 1)
    found["memory"] += [
        ("ram_used_mb", int(used)), ("ram_total_mb", int(total)),
        ("ram_free_blocks", int(blocks)), ("ram_free_block_kb", kilobytes),
    ]  # fmt: skip


def _take_cores(match: Match[str], found: Dict[str, List[Any]]) -> None:
    if found["cores"]:
        raise ValueError("the list of cores is there twice")
    for text in match.group("cores").split(","):
        load, _, clock = text.partition("%@")
        found["cores"].append(Core(None, None) if text == "off" else Core(int(load), int(clock)))


def _take_unit(match: Match[str], found: Dict[str, List[Any]]) -> None:
    parts = match.groupdict()
    clocks = tuple(int(clock) for clock in re.findall(_N, parts.get("clocks") or ""))
    load = None if parts.get("load") is None else int(parts["load"])
    is_on = False if parts.get("off") else (None if not clocks else any(clocks))
    found["units"].append(Unit(parts["name"], is_on, load, clocks))


def _take_temperature(match: Match[str], found: Dict[str, List[Any]]) -> None:
    zone, now, top = match.group("zone", "now", "top")
    found["temps"].append(Temperature(zone, _celsius(zone, now), None if top is None else _celsius(zone, top)))


def _celsius(zone: str, text: str) -> Optional[float]:
    value = float(text)
    is_placeholder = zone.upper() == "PMIC" and value in _PMIC_PLACEHOLDERS_C
    return None if value <= UNREADABLE_C or is_placeholder else value


def _take_rail(match: Match[str], found: Dict[str, List[Any]]) -> None:
    instant, average, top = match.group("a", "b", "c")
    found["rails"].append(Rail(match.group("name"), int(instant), int(average), None if top is None else int(top)))


def _take_nothing(match: Match[str], found: Dict[str, List[Any]]) -> None:
    """MTS: the share of the Carmel cores' own code translator; no figure of ours."""
    found["other"].append(("MTS", match.group("mts")))


def _compile(text: str) -> Pattern[str]:
    return re.compile(text + _END, re.ASCII)


_CORE = rf"(?:off|{_N}%@{_N})"
_CLOCKS = rf"(?P<clocks>{_N}|\[{_N}(?:,{_N})*\])"
_FIELDS = (
    (_compile(r"\d\d-\d\d-\d{4} \d\d:\d\d:\d\d"), _take_time),
    (_compile(rf"(?!I?RAM\b|SWAP\b)(?P<name>{_NAME})\s+(?P<a>-?{_N})/(?P<b>-?{_N})(?:/(?P<c>-?{_N}))?"), _take_rail),
    (_compile(rf"(?P<name>{_NAME})\s+(?P<a>-?{_N})mW/(?P<b>-?{_N})mW(?:/(?P<c>-?{_N})mW)?"), _take_rail),
    (_compile(rf"(?P<zone>{_NAME})@(?P<now>{_T})C?(?:/(?P<top>{_T})C)?"), _take_temperature),
    (_compile(rf"RAM\s+({_N})/({_N})MB\s*\(lfb\s+({_N})x({_N})([kM])B\)"), _take_ram),
    (_compile(rf"SWAP\s+(?P<swap_used_mb>{_N})/(?P<swap_total_mb>{_N})MB\s*"
              rf"(?:\(cached\s+(?P<swap_cached_mb>{_N})MB\))?"), _take_memory),
    (_compile(rf"IRAM\s+(?P<iram_used_kb>{_N})/(?P<iram_total_kb>{_N})kB\s*"
              rf"(?:\(lfb\s+(?P<iram_free_block_kb>{_N})kB\))?"), _take_memory),
    (_compile(rf"(?:CPU\s+|(?<!.))\[(?P<cores>{_CORE}(?:,{_CORE})*)\]"), _take_cores),
    (_compile(rf"(?P<mts>MTS\s+fg\s+{_N}%\s+bg\s+{_N}%)"), _take_nothing),
    (_compile(rf"(?P<name>{_NAME})\s+(?P<off>off)"), _take_unit),
    (_compile(rf"(?P<name>{_NAME})\s+(?:(?P<load>{_N})%)?@{_CLOCKS}"), _take_unit),
    (_compile(rf"(?P<name>{_NAME})\s+(?P<load>{_N})%"), _take_unit),
    (_compile(rf"(?P<name>{_NAME})\s+(?P<clocks>{_N})"), _take_unit),
)  # fmt: skip

# Names whose value this reader knows, and values of a kind that it knows: damage, not news.
_KNOWN_NAME = re.compile(r"(?:RAM|SWAP|IRAM|CPU|EMC_FREQ|GR3D\d*_FREQ|MTS)$", re.ASCII)
_KNOWN_VALUE = re.compile(r"-?\d+(?:mW)?/|\d+%|-?\d+mW|@|off$|\[|\d+$", re.ASCII)
_WORD = re.compile(rf"{_NAME}{_END}", re.ASCII)
_VALUE = re.compile(r"\s+(?P<value>[!-~]+)" + _END, re.ASCII)
_NEXT_FIELD = re.compile(rf"{_NAME}(?:@|$)", re.ASCII)


def _take_unknown(text: str, place: int, number: int, found: Dict[str, List[Any]]) -> int:
    """A new name with its value, if it has one, goes to `other`; gives the place behind them."""
    word = _WORD.match(text, place)
    if not word or _KNOWN_NAME.match(word.group()):
        raise _unreadable(text, place, number, "the field cannot be read")
    value = _VALUE.match(text, word.end())
    if not value or _NEXT_FIELD.match(value.group("value")):
        found["other"].append((word.group(), ""))  # what follows is a field of its own
        return word.end()
    if _KNOWN_VALUE.match(value.group("value")):
        raise _unreadable(text, place, number, f"{word.group()} has a value of a known kind that is damaged")
    found["other"].append((word.group(), value.group("value")))
    return value.end()


def _unreadable(text: str, place: int, number: int, why: str) -> UsageError:
    return UsageError(
        f"a line of tegrastats cannot be read: {why}",
        where=f"line {number}, column {place + 1}",
        got=repr(text[place : place + 40]),
        do="if tegrastats printed this line, please report it; if the log was cut off, delete the line",
    )
