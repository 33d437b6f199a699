"""Boards and PCs as folders: the sysfs files that meters and clocks are read from, in their documented layouts."""

from __future__ import annotations

from pathlib import Path


def write(root: Path, path: str, text: object) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n")
    return file


def add_hwmon(root: Path, address: str, number: int, rails: dict, *, shunt_micro_ohm: int = 0) -> Path:
    """An INA3221 as JetPack 5 shows it. `rails`: label -> (millivolt, milliampere)."""
    folder = f"sys/bus/i2c/drivers/ina3221/{address}/hwmon/hwmon{number}"
    write(root, f"{folder}/name", "ina3221")
    for channel, (label, (millivolt, milliampere)) in enumerate(rails.items(), start=1):
        write(root, f"{folder}/in{channel}_label", label)
        write(root, f"{folder}/in{channel}_input", millivolt)
        write(root, f"{folder}/curr{channel}_input", milliampere)
        if shunt_micro_ohm:
            write(root, f"{folder}/shunt{channel}_resistor", shunt_micro_ohm)
    write(root, f"{folder}/in7_label", "sum of shunt voltages")
    write(root, f"{folder}/in7_input", 12345)
    # What /sys/class/hwmon holds is a link to the same folder.
    link = root / f"sys/class/hwmon/hwmon{number}"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(root / folder)
    return root / folder


def add_iio(root: Path, address: str, number: int, rails: dict) -> Path:
    """The same monitor as JetPack 4 shows it. `rails`: label -> milliwatt."""
    folder = f"sys/bus/i2c/drivers/ina3221x/{address}/iio:device{number}"
    for channel, (label, milliwatt) in enumerate(rails.items()):
        write(root, f"{folder}/rail_name_{channel}", label)
        write(root, f"{folder}/in_power{channel}_input", milliwatt)
        write(root, f"{folder}/in_voltage{channel}_input", 5000)
        write(root, f"{folder}/in_current{channel}_input", milliwatt // 5)
    return root / folder


def add_zone(
    root: Path, package: int, name: str, micro_joule: int, *, part: int = -1, wrap: int = 262143328850
) -> Path:
    """A powercap zone; `part` is the number of a zone below the package."""
    folder = f"sys/class/powercap/intel-rapl:{package}" + (f":{part}" if part >= 0 else "")
    write(root, f"{folder}/name", name)
    write(root, f"{folder}/max_energy_range_uj", wrap)
    return write(root, f"{folder}/energy_uj", micro_joule)


def add_jetson_clocks(root: Path, *, held: bool = True, mode: str = "0002") -> None:
    """An Orin Nano Super: cores, one of them off, GPU, memory clock, zones, cooling devices, over-current counters."""
    for core in range(6):
        base = f"sys/devices/system/cpu/cpu{core}"
        write(root, f"{base}/online", int(core != 5))
        write(root, f"{base}/cpufreq/scaling_cur_freq", 1728000)
        write(root, f"{base}/cpufreq/scaling_min_freq", 1728000 if held else 729600)
        write(root, f"{base}/cpufreq/scaling_max_freq", 1728000)
        write(root, f"{base}/cpufreq/scaling_governor", "schedutil")
    write(root, "sys/devices/system/cpu/cpu5/cpufreq/scaling_min_freq", 0)  # off: says nothing of the others
    for name, low in (("17000000.gpu", 1020000000 if held else 306000000), ("15340000.vic", 0)):
        write(root, f"sys/class/devfreq/{name}/cur_freq", 1020000000)
        write(root, f"sys/class/devfreq/{name}/min_freq", low)
        write(root, f"sys/class/devfreq/{name}/max_freq", 1020000000)
        write(root, f"sys/class/devfreq/{name}/governor", "nvhost_podgov")
    emc = "sys/kernel/debug/bpmp/debug/clk/emc"
    for name, value in (("rate", 3199000000), ("min_rate", 204000000), ("max_rate", 3199000000)):
        write(root, f"{emc}/{name}", value)
    write(root, f"{emc}/mrq_rate_locked", int(held))
    for number, (zone, temperature) in enumerate(
        (("cpu-thermal", 48906), ("gpu-thermal", -256000), ("tj-thermal", 49593))
    ):
        write(root, f"sys/class/thermal/thermal_zone{number}/type", zone)
        write(root, f"sys/class/thermal/thermal_zone{number}/temp", temperature)
    write(root, "sys/class/thermal/cooling_device0/type", "pwm-fan")
    write(root, "sys/class/thermal/cooling_device0/cur_state", 3)
    write(root, "sys/class/thermal/cooling_device1/type", "gpu-throttle-alert")
    write(root, "sys/class/thermal/cooling_device1/cur_state", 0)
    for number in (1, 2, 3):
        write(root, f"sys/class/hwmon/hwmon9/oc{number}_event_cnt", 7 if number == 3 else 0)
    write(root, "var/lib/nvpmodel/status", f"pmode:{mode}")
    write(
        root, "etc/nvpmodel.conf",
        "# comment < POWER_MODEL ID=9 NAME=NO >\n< PARAM TYPE=FILE NAME=X >\n"
        "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=1 NAME=25W >\n"
        "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n< PM_CONFIG DEFAULT=1 >",
    )  # fmt: skip
