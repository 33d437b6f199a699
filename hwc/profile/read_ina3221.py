"""Power of a Jetson from its INA3221 monitors in sysfs, without tegrastats.

    JetPack 5 and newer   <monitor>/hwmon/hwmonN/  inK_label, inK_input (mV), currK_input (mA): P = V * I
                          an INA238 (VIN of Thor)  label or in1_label, power1_input (uW)
    JetPack 4             <monitor>/iio:deviceN/   rail_name_K, in_powerK_input (mW)

Monitors are found below /sys/bus/i2c/drivers/ina3221 and ina3221x and in /sys/class/hwmon (names that begin with
"ina"), and a rail by its label, because the numbers change between boots. Channels called NC and the sum of shunt
voltages are no rails. The step of a power is 40 uV / shunt resistance * voltage, where the driver tells the resistance.

Limits: reading takes two transfers on the I2C bus, so voltage and current are not of one moment. The monitor averages
over `samples` conversions, its own `update_interval` (ms) long; where the driver tells that, it is the delay of a
reading, otherwise one period is assumed. Sources: Linux kernel documentation hwmon/ina3221; rbonghi/jetson_stats
jtop/core/power.py for the layout of JetPack 4; TI's data sheet of the INA3221 for its step of 40 uV.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from hwc.artifacts import Target
from hwc.errors import EngineError, TargetError
from hwc.profile.choose_rails import choose_rails
from hwc.profile.meters import Meter, MeterInfo

PERIOD_S = 0.05
_SHUNT_STEP_UV = 40.0
_NO_RAIL = ("NC", "")


@dataclass(frozen=True)
class Channel:
    """The files of one rail. `power` holds its power in units of `watts`, or voltage (mV) and current (mA) are read."""

    label: str
    power: Optional[Path]
    watts: float
    voltage: Optional[Path] = None
    current: Optional[Path] = None
    shunt: Optional[Path] = None
    interval: Optional[Path] = None

    def read_w(self) -> float:
        """Power in watts.

        Raises:
            EngineError: a file is gone, cannot be read, or holds no number.
        """
        if self.power is not None:
            return _read_number(self.power, self.label) * self.watts
        assert self.voltage is not None and self.current is not None
        return _read_number(self.voltage, self.label) * _read_number(self.current, self.label) / 1e6


def find_channels(root: Path = Path("/")) -> Dict[str, Channel]:
    """Every rail of every monitor, by label.

    Raises:
        EngineError: two channels have one label.
    """
    found: Dict[str, Channel] = {}
    for folder in _monitor_folders(root):
        channels = _iio_channels(folder) if folder.name.startswith("iio:device") else _hwmon_channels(folder)
        for channel in channels:
            if channel.label in found:
                raise EngineError(
                    f"two monitors have a rail {channel.label}", where=str(folder),
                    do="which of them is meant cannot be known: use --power tegrastats",
                )  # fmt: skip
            found[channel.label] = channel
    return found


class InaMeter(Meter):
    """The monitors of a board.

    Raises:
        TargetError: no monitor is here.
        EngineError: a rail of the target is missing or cannot be read.
    """

    def __init__(self, target: Target, *, root: Path = Path("/"), period_s: float = PERIOD_S) -> None:
        plan = choose_rails(target)
        found = find_channels(root)
        if not found:
            raise TargetError(
                "there is no INA3221 power monitor on this machine",
                expected="monitors below /sys/bus/i2c/drivers/ina3221 or /sys/class/hwmon",
                do="measure power on the board; if this is the board, run as root",
            )
        missing = [rail for rail in plan.rails if rail not in found]
        if missing:
            raise EngineError(
                f"the monitors have no rail {', '.join(missing)}", expected=", ".join(plan.rails),
                got=", ".join(sorted(found)), do="check that the bundle's target is this board",
            )  # fmt: skip
        self._channels = [found[rail] for rail in plan.rails]
        self.read()
        intervals = [_optional_number(channel.interval) for channel in self._channels]
        told = [interval / 1e3 for interval in intervals if interval]
        notes: Tuple[str, ...] = ()
        if len(told) < len(self._channels):
            notes = ("how long the monitor averages is not told, so one period is assumed",)
        self.info = MeterInfo(
            meter="ina3221", device=target.title, quantity="power_w", rails=plan.rails, is_total=plan.is_total,
            omits=plan.omits, period_s=period_s, period_source="files are read at this period",
            delay_s=max([*told, period_s]) if len(told) < len(self._channels) else max(told),
            quantum=_step_w(self._channels), accuracy="not stated by a source", notes=notes,
        )  # fmt: skip

    def read(self) -> Tuple[float, ...]:
        """Power of each rail in watts."""
        return tuple(channel.read_w() for channel in self._channels)


def _monitor_folders(root: Path) -> List[Path]:
    drivers = root / "sys/bus/i2c/drivers"
    folders = [*drivers.glob("ina3221/*/hwmon/hwmon*"), *drivers.glob("ina3221x/*/iio:device*")]
    seen = {folder.resolve() for folder in folders}
    for folder in (root / "sys/class/hwmon").glob("hwmon*"):
        if _text(folder / "name").lower().startswith("ina") and folder.resolve() not in seen:
            folders.append(folder)
    return sorted(folders)


def _hwmon_channels(folder: Path) -> List[Channel]:
    channels = []
    interval = folder / "update_interval"
    for path in sorted(folder.glob("in*_label")):
        number, label = re.sub(r"\D", "", path.name), _text(path)
        power, voltage, current = (folder / f"{kind}{number}_input" for kind in ("power", "in", "curr"))
        if label in _NO_RAIL or "sum of shunt" in label.lower():
            continue
        if power.exists():
            channels.append(Channel(label, power, 1e-6, interval=interval))
        elif current.exists():
            shunt = folder / f"shunt{number}_resistor"
            channels.append(Channel(label, None, 1.0, voltage, current, shunt, interval))
    label = _text(folder / "label")
    if not channels and label not in _NO_RAIL and (folder / "power1_input").exists():
        channels.append(Channel(label, folder / "power1_input", 1e-6, interval=interval))
    return channels


def _iio_channels(folder: Path) -> List[Channel]:
    channels = []
    for path in sorted(folder.glob("rail_name_*")):
        number, label = path.name.rsplit("_", 1)[1], _text(path)
        if label not in _NO_RAIL:
            channels.append(Channel(label, folder / f"in_power{number}_input", 1e-3))
    return channels


def _step_w(channels: List[Channel]) -> Optional[float]:
    """The largest step of any rail in watts, or None where a resistance is not told."""
    steps = []
    for channel in channels:
        micro_ohm, millivolt = _optional_number(channel.shunt), _optional_number(channel.voltage)
        if not micro_ohm or millivolt is None:
            return None
        steps.append(_SHUNT_STEP_UV / micro_ohm * millivolt / 1e3)
    return max(steps)


def _read_number(path: Path, label: str) -> float:
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except PermissionError:
        raise EngineError(f"the rail {label} may not be read", where=str(path), do="run as root") from None
    except OSError as error:
        raise EngineError(f"the rail {label} cannot be read", where=str(path), got=str(error)) from None
    if not re.match(r"-?\d{1,12}$", text):
        raise EngineError(f"the rail {label} has no number", where=str(path), got=repr(text[:40]))
    return float(text)


def _optional_number(path: Optional[Path]) -> Optional[float]:
    text = "" if path is None else _text(path)
    return float(text) if re.match(r"\d{1,12}$", text) else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
