"""Which power meter measures what the engine runs on.

| target               | meters, in the order "auto" tries them | what they see              |
|----------------------|-----------------------------------------|----------------------------|
| a Jetson             | ina3221, tegrastats                      | rails of the board         |
| geforce, datacenter  | nvml                                     | the card                   |
| cpu                  | rapl                                     | CPU packages and their RAM |

A meter of another row would measure a device that does not do the work, so it is refused. "auto" takes the first that
opens; why an earlier one did not is a note of the profile, and if none opens, the error holds all reasons.

This file is part of the device half: Python 3.8, numpy.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Callable, Dict, List, Optional

from hwc.artifacts import Target
from hwc.errors import EngineError, HwcError, TargetError, UsageError
from hwc.profile.meters import Meter
from hwc.profile.nvml import Gpu
from hwc.profile.read_ina3221 import InaMeter
from hwc.profile.read_nvml import NvmlMeter
from hwc.profile.read_rapl import RaplMeter
from hwc.profile.read_tegrastats import TegrastatsMeter

KINDS = ("none", "auto", "rapl", "nvml", "tegrastats", "ina3221")
_BY_FAMILY = {
    "jetson": ("ina3221", "tegrastats"), "geforce": ("nvml",), "datacenter": ("nvml",), "cpu": ("rapl",)
}  # fmt: skip
Openers = Dict[str, Callable[[], Meter]]


def choose_meter(kind: str, target: Target, *, root: Path = Path("/"), openers: Optional[Openers] = None) -> Meter:
    """An open meter.

    Args:
        kind: one of KINDS but "none".
        target: what the engine runs on.
        root: folder that stands for "/" for the meters that read files.
        openers: replaces how meters are opened, by name.

    Raises:
        UsageError: no such meter.
        TargetError: that meter does not see this target, or is not on this machine.
        EngineError: it failed, or none of "auto" opened.
    """
    if kind not in KINDS[1:]:
        raise UsageError(f"no power meter is called '{kind}'", expected=", ".join(KINDS), got=kind)
    fitting = _BY_FAMILY[target.family]
    if kind != "auto" and kind not in fitting:
        raise TargetError(
            f"the meter {kind} does not see what runs on {target.name}", expected=" or ".join(("auto", *fitting)),
            got=kind, do=f"use --power {fitting[0]}",
        )  # fmt: skip
    known: Openers = {
        "ina3221": lambda: InaMeter(target, root=root),
        "tegrastats": lambda: TegrastatsMeter(target),
        "nvml": lambda: NvmlMeter(Gpu()),
        "rapl": lambda: RaplMeter(root=root),
    }
    known.update(openers or {})
    if kind != "auto":
        return known[kind]()
    reasons: List[str] = []
    for name in fitting:
        try:
            meter = known[name]()
        except UsageError:
            raise  # the user has to decide something; another meter would hide that
        except HwcError as error:
            reasons.append(f"{name}: {error.what}" + (f" ({error.got})" if error.got else ""))
            continue
        notes = tuple(f"not used, {reason}" for reason in reasons)
        meter.info = dataclasses.replace(meter.info, notes=meter.info.notes + notes)
        return meter
    raise EngineError(
        f"no power meter works here for {target.name}", got="; ".join(reasons), expected=" or ".join(fitting),
        do="measure as root on the machine the engine runs on, or without power (--power none)",
    )  # fmt: skip
