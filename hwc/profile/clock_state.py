"""Clocks, temperatures and throttling of this machine at one moment, and whether a run with them may be compared.

A latency or an energy says something about a network only if the clocks were held and nothing throttled. What is read:

    power mode  `nvpmodel -q`; where that cannot run, /var/lib/nvpmodel/status (pmode:0002) with the names in
                /etc/nvpmodel.conf. Modes are told apart by name: the same id means other things in other tables.
    cpu         cpufreq of every core that is on: held if scaling_min_freq = scaling_max_freq
    gpu         /sys/class/devfreq of the integrated GPU: held if min_freq = max_freq, which jetson_clocks sets
    emc         the memory clock, /sys/kernel/debug/bpmp/debug/clk/emc: held if mrq_rate_locked = 1 (root only); on
                Tegra X1 /sys/kernel/debug/clk/override.emc
    throttling  cooling devices whose cur_state is over 0 (fans left out), the over-current counters
                /sys/class/hwmon/*/oc*_event_cnt of soctherm, and core_throttle_count of x86 CPUs
    NVML        clocks, temperature and throttle reasons of a GPU with a driver of its own (read_nvml)

The verdict is "yes" only if everything asked for was read, all clocks were held, nothing throttled and the mode stayed.
A clock without limits to read (NVML) counts as held if it was the same before, while and after measuring. Unknown is
"no": that is what unknown means for a comparison.

Sources: paths and files as jetson_clocks of L4T R32 to R36 and rbonghi/jetson_stats use them; Linux driver
tegra23x-oc-event for soctherm; Linux admin guide for cpufreq, devfreq and thermal.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from hwc.targets.probe import Run, run_command

# Which clocks decide speed, by family of the target.
EXPECTED_CLOCKS: Dict[str, Tuple[str, ...]] = {
    "jetson": ("cpu", "gpu", "emc"),
    "geforce": ("gpu sm", "gpu memory"),
    "datacenter": ("gpu sm", "gpu memory"),
    "cpu": ("cpu",),
}
_GPU_DEVFREQ = re.compile(r"gpu|gv11b|ga10b|gp10b|gm20b")
_EMC = (
    ("sys/kernel/debug/bpmp/debug/clk/emc", "rate", "min_rate", "max_rate", "mrq_rate_locked"),
    ("sys/kernel/debug/clk/override.emc", "clk_rate", "", "", "clk_state"),
)


@dataclass(frozen=True)
class Clock:
    """One clock in MHz; None is unknown. `is_held` is None where no limits can be read."""

    name: str
    current_mhz: Optional[float]
    min_mhz: Optional[float]
    max_mhz: Optional[float]
    is_held: Optional[bool]
    governor: str = "unknown"


@dataclass(frozen=True)
class Throttle:
    """A level (above 0: throttling now) or a counter of events (grew: throttled in between)."""

    name: str
    value: int
    is_counter: bool


@dataclass(frozen=True)
class ClockState:
    """One moment. `expected` names the clocks that must be known; `unreadable` says what could not be read and why."""

    moment: str
    expected: Tuple[str, ...]
    power_mode: Optional[str]
    has_power_modes: bool
    clocks: Tuple[Clock, ...]
    temperatures_c: Tuple[Tuple[str, Optional[float]], ...]
    throttles: Tuple[Throttle, ...]
    unreadable: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparability:
    """The verdict, with every reason against it."""

    is_comparable: bool
    reasons: Tuple[str, ...]

    @property
    def answer(self) -> str:
        return "yes" if self.is_comparable else "no"


Extra = Callable[[], Tuple[Sequence[Clock], Sequence[Tuple[str, Optional[float]]], Sequence[Throttle]]]


def read_clock_state(
    moment: str,
    family: str,
    *,
    root: Path = Path("/"),
    run: Run = run_command,
    extra: Optional[Extra] = None,
    with_mode: bool = True,
) -> ClockState:
    """The state now.

    Args:
        moment: "before", "while" or "after".
        family: of the target: which clocks are needed.
        root: folder that stands for "/".
        extra: reads what the kernel does not tell (NVML).
        with_mode: ask for the power mode too, which starts a program; not while something is measured.
    """
    unreadable: List[str] = []
    clocks = [*_read_cpu(root), *_read_devfreq(root), *_read_emc(root, unreadable)]
    temperatures: List[Tuple[str, Optional[float]]] = list(_read_zones(root))
    throttles = list(_read_throttles(root))
    if extra is not None:
        more_clocks, more_temperatures, more_throttles = extra()
        clocks += more_clocks
        temperatures += more_temperatures
        throttles += more_throttles
    asks_mode = with_mode and family == "jetson"
    mode = read_power_mode(root, run, unreadable) if asks_mode else None
    return ClockState(
        moment, EXPECTED_CLOCKS.get(family, ()), mode, asks_mode, tuple(clocks), tuple(temperatures), tuple(throttles),
        tuple(unreadable),
    )  # fmt: skip


def judge_clocks(states: Sequence[ClockState]) -> Comparability:
    """Whether a run between these states may be compared with another: all reasons against it, in words."""
    if len(states) < 2:
        return Comparability(False, ("unknown: clocks were not read before and after the run",))
    reasons: List[str] = []
    first, last = states[0], states[-1]
    if first.has_power_modes:
        if first.power_mode is None or last.power_mode is None:
            reasons.append("unknown: the power mode (nvpmodel) could not be read")
        elif first.power_mode != last.power_mode:
            reasons.append(f"the power mode changed from {first.power_mode} to {last.power_mode} during the run")
    for name in first.expected:
        reasons += _judge_clock(name, states)
    reasons += _judge_throttles(states)
    for why in sorted({text for state in states for text in state.unreadable}):
        reasons.append(f"unknown: {why}")
    return Comparability(not reasons, tuple(reasons))


def _judge_clock(name: str, states: Sequence[ClockState]) -> List[str]:
    found = [[clock for clock in state.clocks if clock.name == name] for state in states]
    if not all(found):
        return [f"unknown: the clock of {name} could not be read"]
    rows = [clock for row in found for clock in row]
    if any(clock.is_held is False for clock in rows):
        loose = next(clock for clock in rows if clock.is_held is False)
        low, high = (f"{mhz:.0f}" if mhz is not None else "?" for mhz in (loose.min_mhz, loose.max_mhz))
        return [f"the clock of {name} is not held: it may move from {low} to {high} MHz"]
    # Cores of one machine may have several clocks; each must keep its own.
    seen = [tuple(clock.current_mhz for clock in row) for row in found]
    if any(None in row for row in seen) and any(clock.is_held is None for clock in rows):
        return [f"unknown: the clock of {name} could not be read"]
    if any(clock.is_held is None for clock in rows):
        if len(states) < 3:
            return [f"unknown: whether the clock of {name} was held while measuring"]
        if len(set(seen)) > 1:
            values = ", ".join(f"{state.moment} {row[0]:.0f}" for state, row in zip(states, seen))
            return [f"the clock of {name} is not held: {values} MHz"]
    limits = {tuple((clock.min_mhz, clock.max_mhz) for clock in row) for row in found}
    return [f"the limits of the clock of {name} changed during the run"] if len(limits) > 1 else []


def _judge_throttles(states: Sequence[ClockState]) -> List[str]:
    reasons = []
    for state in states:
        active = [throttle for throttle in state.throttles if not throttle.is_counter and throttle.value > 0]
        reasons += [f"throttled ({state.moment}): {throttle.name} at level {throttle.value}" for throttle in active]
    start = {throttle.name: throttle.value for throttle in states[0].throttles if throttle.is_counter}
    for throttle in states[-1].throttles:
        if throttle.is_counter and throttle.value != start.get(throttle.name, throttle.value):
            reasons.append(f"throttled: {throttle.name} rose from {start[throttle.name]} to {throttle.value}")
    return reasons


def read_power_mode(root: Path, run: Run, unreadable: List[str]) -> Optional[str]:
    """The name of the nvpmodel mode, or None with the reason added to `unreadable`."""
    answer = re.search(r"^NV Power Mode:\s*(\S.*?)\s*$", run(["nvpmodel", "-q"]) or "", re.MULTILINE)
    if answer:
        return answer.group(1)
    status, why = _text(root / "var/lib/nvpmodel/status")
    names, _ = _text(root / "etc/nvpmodel.conf")
    mode = re.search(r"pmode:(\d{1,6})", status)
    if not mode:
        unreadable.append(f"nvpmodel -q gave no mode, and /var/lib/nvpmodel/status is {why or 'without one'}")
        return None
    name = parse_power_modes(names).get(str(int(mode.group(1))))
    if name is None:
        unreadable.append(f"power mode {int(mode.group(1))} has no name in /etc/nvpmodel.conf")
    return name


def parse_power_modes(text: str) -> Dict[str, str]:
    """id -> name of the modes in an nvpmodel.conf: lines `< POWER_MODEL ID=0 NAME=MAXN >`; comments are left out."""
    pattern = r"^\s*<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>"
    return {str(int(number)): name for number, name in re.findall(pattern, text, re.MULTILINE)}


def _read_cpu(root: Path) -> List[Clock]:
    clocks = []
    folders = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq")
    for folder in sorted(folders, key=lambda path: int(path.parent.name[3:])):
        if _text(folder.parent / "online")[0] == "0":
            continue
        current, low, high = (_mhz(folder / f"scaling_{kind}_freq", 1e3) for kind in ("cur", "min", "max"))
        held = None if low is None or high is None else low == high
        clocks.append(Clock("cpu", current, low, high, held, _text(folder / "scaling_governor")[0] or "unknown"))
    return clocks


def _read_devfreq(root: Path) -> List[Clock]:
    clocks = []
    for folder in sorted((root / "sys/class/devfreq").glob("*")):
        if not _GPU_DEVFREQ.search(folder.name):
            continue
        current, low, high = (_mhz(folder / f"{kind}_freq", 1e6) for kind in ("cur", "min", "max"))
        held = None if low is None or high is None else low == high
        clocks.append(Clock("gpu", current, low, high, held, _text(folder / "governor")[0] or "unknown"))
    return clocks


def _read_emc(root: Path, unreadable: List[str]) -> List[Clock]:
    for folder, rate, low, high, lock in _EMC:
        text, why = _text(root / folder / lock)
        if why == "readable by root only":
            unreadable.append(f"the memory clock in /{folder} is {why}")
        if text not in ("0", "1"):
            continue
        limits = tuple(_mhz(root / folder / name, 1e6) if name else None for name in (low, high))
        return [Clock("emc", _mhz(root / folder / rate, 1e6), limits[0], limits[1], text == "1")]
    return []


def _read_zones(root: Path) -> List[Tuple[str, Optional[float]]]:
    zones: List[Tuple[str, Optional[float]]] = []
    for folder in sorted((root / "sys/class/thermal").glob("thermal_zone*"), key=_number):
        text, _ = _text(folder / "temp")
        is_number = re.match(r"-?\d{1,9}$", text)
        # -256000 is what a zone says whose unit is switched off.
        value = int(text) / 1e3 if is_number and int(text) > -256_000 else None
        zones.append((_text(folder / "type")[0] or folder.name, value))
    return zones


def _read_throttles(root: Path) -> List[Throttle]:
    throttles = []
    for folder in sorted((root / "sys/class/thermal").glob("cooling_device*"), key=_number):
        kind, level = _text(folder / "type")[0], _text(folder / "cur_state")[0]
        if "fan" not in kind.lower() and re.match(r"\d{1,9}$", level):
            throttles.append(Throttle(f"{kind or 'cooling device'} ({folder.name})", int(level), False))
    counters = [
        *(root / "sys/class/hwmon").glob("hwmon*/oc*_event_cnt"),
        *(root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/*_throttle_count"),
    ]
    for path in sorted(counters):
        count, _ = _text(path)
        if re.match(r"\d{1,18}$", count):
            throttles.append(Throttle(str(path.relative_to(root)), int(count), True))
    return throttles


def _number(path: Path) -> int:
    digits = re.search(r"\d+$", path.name)
    return int(digits.group()) if digits else 0


def _mhz(path: Path, per_mhz: float) -> Optional[float]:
    text, _ = _text(path)
    return int(text) / per_mhz if re.match(r"\d{1,15}$", text) else None


def _text(path: Path) -> Tuple[str, str]:
    """The file's text and, where there is none, why."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\x00 \n\t"), ""
    except PermissionError:
        return "", "readable by root only"
    except OSError:
        return "", "not there"
