"""INA3221 monitors in the layouts of JetPack 4 and 5, as folders."""

import pytest

from hwc import targets
from hwc.errors import EngineError, TargetError
from hwc.profile import read_ina3221
from hwc.profile.read_ina3221 import InaMeter, find_channels
from tests.profile.fake_sysfs import add_hwmon, add_iio, write

ORIN_NANO = {"VDD_IN": (5016, 1200), "VDD_CPU_GPU_CV": (5000, 320), "VDD_SOC": (5000, 460)}


def test_jetpack_5_gives_voltage_times_current(tmp_path):
    add_hwmon(tmp_path, "1-0040", 3, ORIN_NANO, shunt_micro_ohm=5000)
    with InaMeter(targets.load("orin-nano-8gb"), root=tmp_path) as meter:
        assert meter.read() == pytest.approx((5.016 * 1.2,))
    assert meter.info.rail == "VDD_IN" and meter.info.is_total and "carrier board" in meter.info.omits
    # 40 uV over 5 mOhm is 8 mA, at 5 V 40 mW: the step that the recorded log shows.
    assert meter.info.quantum == pytest.approx(0.040128)


def test_the_sum_of_shunt_voltages_and_unconnected_channels_are_no_rails(tmp_path):
    add_hwmon(
        tmp_path, "1-0040", 3, {"VDD_GPU_SOC": (19900, 120), "VDD_CPU_CV": (19900, 40), "VIN_SYS_5V0": (4992, 900)}
    )
    add_hwmon(tmp_path, "1-0041", 4, {"NC": (0, 0), "VDDQ_VDD2_1V8AO": (4968, 80)})
    assert sorted(find_channels(tmp_path)) == ["VDDQ_VDD2_1V8AO", "VDD_CPU_CV", "VDD_GPU_SOC", "VIN_SYS_5V0"]
    meter = InaMeter(targets.load("agx-orin"), root=tmp_path)
    assert sum(meter.read()) == pytest.approx(19.9 * 0.16 + 4.992 * 0.9)
    assert not meter.info.is_total and "26 W by rails and 60 W" in meter.info.omits
    assert meter.info.quantum is None and any("averages" in note for note in meter.info.notes)


def test_what_the_monitor_averages_over_is_its_delay(tmp_path):
    folder = add_hwmon(tmp_path, "1-0040", 3, ORIN_NANO)
    write(folder, "update_interval", 140)
    assert InaMeter(targets.load("orin-nano-8gb"), root=tmp_path).info.delay_s == 0.140


def test_jetpack_4_gives_power(tmp_path):
    add_iio(tmp_path, "6-0040", 0, {"POM_5V_IN": 1388, "POM_5V_GPU": 122, "POM_5V_CPU": 163})
    meter = InaMeter(targets.load("jetson-nano"), root=tmp_path)
    assert meter.read() == pytest.approx((1.388,))


def test_jetpack_4_with_two_monitors_sums_over_both(tmp_path):
    add_iio(tmp_path, "1-0040", 0, {"GPU": 467, "CPU": 467, "SOC": 1245})
    add_iio(tmp_path, "1-0041", 1, {"CV": 0, "VDDRQ": 311, "SYS5V": 2768})
    meter = InaMeter(targets.load("agx-xavier"), root=tmp_path)
    assert meter.info.rail == "GPU + CPU + SOC + CV + VDDRQ + SYS5V" and not meter.info.is_total
    assert sum(meter.read()) == pytest.approx(5.258)


def test_thor_has_its_input_in_microwatts_on_another_monitor(tmp_path):
    add_hwmon(
        tmp_path, "1-0040", 3, {"VDD_GPU": (20000, 100), "VDD_CPU_SOC_MSS": (20000, 200), "VIN_SYS_5V0": (5000, 800)}
    )
    write(tmp_path, "sys/class/hwmon/hwmon5/name", "ina238")
    write(tmp_path, "sys/class/hwmon/hwmon5/label", "VIN")
    write(tmp_path, "sys/class/hwmon/hwmon5/power1_input", 23_450_000)
    write(tmp_path, "sys/class/hwmon/hwmon6/name", "pwmfan")
    assert InaMeter(targets.load("agx-thor"), root=tmp_path).read() == (23.45,)


def test_a_missing_rail_is_an_error_and_not_zero(tmp_path):
    add_hwmon(tmp_path, "1-0040", 3, {"VDD_CPU_GPU_CV": (5000, 320)})
    with pytest.raises(EngineError, match="no rail VDD_IN") as caught:
        InaMeter(targets.load("orin-nano-8gb"), root=tmp_path)
    assert caught.value.got == "VDD_CPU_GPU_CV"


def test_no_monitor_is_told_apart_from_a_missing_rail(tmp_path):
    with pytest.raises(TargetError, match="no INA3221"):
        InaMeter(targets.load("orin-nano-8gb"), root=tmp_path)


def test_two_rails_of_one_name_are_refused(tmp_path):
    add_hwmon(tmp_path, "1-0040", 3, ORIN_NANO)
    add_hwmon(tmp_path, "1-0041", 4, ORIN_NANO)
    with pytest.raises(EngineError, match="two monitors"):
        find_channels(tmp_path)


@pytest.mark.parametrize("text", ["", "nan", "12.5", "-", "99999999999999"])
def test_a_file_without_a_number_is_an_error(tmp_path, text):
    folder = add_hwmon(tmp_path, "1-0040", 3, ORIN_NANO)
    meter = InaMeter(targets.load("orin-nano-8gb"), root=tmp_path)
    write(folder, "curr1_input", text)
    with pytest.raises(EngineError, match="no number"):
        meter.read()
    (folder / "curr1_input").unlink()
    with pytest.raises(EngineError, match="cannot be read"):
        meter.read()


def test_a_file_for_root_only_says_so(tmp_path, monkeypatch):
    folder = add_hwmon(tmp_path, "1-0040", 3, ORIN_NANO)
    meter = InaMeter(targets.load("orin-nano-8gb"), root=tmp_path)
    plain = read_ina3221.Path.read_text

    def refuse(path, *args, **kwargs):
        if path == folder / "in1_input":
            raise PermissionError(13, "Permission denied")
        return plain(path, *args, **kwargs)

    monkeypatch.setattr(read_ina3221.Path, "read_text", refuse)
    with pytest.raises(EngineError, match="may not be read") as caught:
        meter.read()
    assert caught.value.do == "run as root"
