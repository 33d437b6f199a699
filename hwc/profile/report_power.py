"""Power, energy and clocks of a measurement as people and programs read them.

The text says what was measured (meter, rails, what they leave out), both energies with their uncertainty, how it was
sampled, and last whether the run may be compared with others, with each reason why not.

This file is part of the device half: Python 3.8, numpy.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Dict, List, Optional

from hwc.profile.clock_state import ClockState
from hwc.profile.power_profile import PowerProfile


def summarize_power(profile: PowerProfile) -> Dict[str, object]:
    """The figures under stable keys, for `--format json`. Units are in the names; raw readings are left out."""
    energy, idle, verdict = profile.energy, profile.idle, profile.comparability
    return {
        "meter": profile.meter.meter,
        "device": profile.meter.device,
        "rail": profile.meter.rail,
        "is_total": profile.meter.is_total,
        "omits": profile.meter.omits,
        "power_w": energy.power_w,
        "idle_w": idle.power_w,
        "idle_uncertainty_w": idle.uncertainty_w,
        "energy_mj": profile.energy_mj,
        "uncertainty_mj": _finite(profile.uncertainty_mj),
        "energy_with_idle_mj": profile.energy_with_idle_mj,
        "uncertainty_with_idle_mj": _finite(profile.uncertainty_with_idle_mj),
        "parts_mj": {
            "sampling": _finite(1e3 * energy.sampling_j / profile.inferences),
            "quantisation": 1e3 * energy.quantisation_j / profile.inferences,
            "edges": 1e3 * energy.edge_j / profile.inferences,
            "idle": 1e3 * idle.uncertainty_w * profile.window_s / profile.inferences,
        },
        "is_phase_locked": energy.is_phase_locked,
        "inferences": profile.inferences,
        "window_s": profile.window_s,
        "idle_s": idle.duration_s,
        "samples": energy.samples,
        "idle_samples": idle.samples,
        "rate_hz": energy.rate_hz,
        "largest_gap_s": energy.largest_gap_s,
        "quantum": profile.meter.quantum,
        "delay_s": profile.meter.delay_s,
        "accuracy": profile.meter.accuracy,
        "notes": [*profile.meter.notes, *profile.notes],
        "clock_state": [asdict(state) for state in profile.clocks],
        "comparable": verdict.answer,
        "not_comparable_because": list(verdict.reasons),
    }


def format_power(profile: PowerProfile) -> str:
    """Lines for people, in the manner of trtexec's summary."""
    energy, idle, verdict = profile.energy, profile.idle, profile.comparability
    meter = profile.meter
    kind = "energy counter" if meter.quantity == "energy_j" else "power samples"
    scope = "one rail for the whole input" if meter.is_total else "a sum, because no rail measures the whole"
    scope += f"; not in it: {meter.omits}" if meter.omits else ""
    lines = [
        f"Power: mean = {energy.power_w:.4g} W, idle = {idle.power_w:.4g} W +- {idle.uncertainty_w:.2g} W",
        f"Energy per inference: {profile.energy_mj:.4g} mJ +- {_known(profile.uncertainty_mj)} mJ above idle, "
        f"{profile.energy_with_idle_mj:.4g} mJ +- {_known(profile.uncertainty_with_idle_mj)} mJ with idle, over "
        f"{profile.inferences} inferences",
        f"Measured: {meter.rail} of {meter.device} by {meter.meter} ({kind}), {scope}",
        f"Sampling: {energy.samples} readings in {profile.window_s:.4g} s ({energy.rate_hz:.3g} Hz, largest gap "
        f"{energy.largest_gap_s:.2g} s), idle {idle.samples} in {idle.duration_s:.3g} s; 95 %: sampling "
        f"{_known(energy.sampling_j)} J, idle {idle.random_w * profile.window_s:.2g} J; bounds: quantisation "
        f"{energy.quantisation_j:.2g} J, edges {energy.edge_j:.2g} J; the sensor's own error: {meter.accuracy}",
    ]
    if profile.energy_mj < profile.uncertainty_mj and not energy.is_phase_locked:
        lines.append("WARNING: the energy above idle is smaller than its uncertainty; measure for longer (--duration)")
    if energy.is_phase_locked:
        lines.append(
            "WARNING: the readings fall at the same point of each inference and miss the rest of it: the energy is not "
            "known. Use another meter, or another batch"
        )
    if meter.quantum is None:
        lines.append("WARNING: the step of the sensor's values is not known, so quantisation is not in the uncertainty")
    lines += [f"Note: {note}" for note in (*meter.notes, *profile.notes)]
    lines += [_format_state(state) for state in profile.clocks]
    lines.append(f"Comparable: {verdict.answer}" + "".join(f"\n  - {reason}" for reason in verdict.reasons))
    return "\n".join(lines)


def _finite(value: float) -> Optional[float]:
    """JSON has no infinity: an uncertainty without bound is null."""
    return value if math.isfinite(value) else None


def _known(value: float) -> str:
    return f"{value:.2g}" if math.isfinite(value) else "unknown"


def _format_state(state: ClockState) -> str:
    parts: List[str] = [f"power mode {state.power_mode}"] if state.power_mode else []
    by_name: Dict[str, List[str]] = {}
    for clock in state.clocks:
        now = "?" if clock.current_mhz is None else f"{clock.current_mhz:.0f}"
        held = {True: " held", False: " not held", None: ""}[clock.is_held]
        by_name.setdefault(clock.name, []).append(f"{now} MHz{held}")
    for name, texts in by_name.items():
        parts.append(f"{name} " + ", ".join(f"{texts.count(text)} x {text}" if texts.count(text) > 1 else text
                                            for text in dict.fromkeys(texts)))  # fmt: skip
    hot = [(celsius, zone) for zone, celsius in state.temperatures_c if celsius is not None]
    if hot:
        parts.append(f"hottest {max(hot)[1]} at {max(hot)[0]:.1f} C")
    return f"Clocks {state.moment}: " + ("; ".join(parts) or "nothing could be read")
