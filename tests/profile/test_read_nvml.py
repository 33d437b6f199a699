"""The NVML meter and its check of counter against samples, over the fake library."""

import json

import pytest

from hwc.errors import EngineError
from hwc.profile.nvml import Gpu
from hwc.profile.read_nvml import NvmlMeter, check_meter, main, read_gpu_clocks
from tests.profile.fake_nvml import build_fake_nvml


@pytest.fixture
def library() -> str:
    return build_fake_nvml()


@pytest.mark.parametrize(
    ("lacks", "form", "quantity", "delay_s"),
    [("", "", "energy_j", 0.0), ("counter", "", "power_w", 0.1), ("counter,field", "", "power_w", 1.0)],
)
def test_the_best_form_that_the_gpu_has_is_taken_and_the_rest_is_noted(
    library, monkeypatch, lacks, form, quantity, delay_s
):
    monkeypatch.setenv("FAKE_NVML_LACKS", lacks)
    with NvmlMeter(Gpu(library=library), form=form) as meter:
        assert (meter.info.quantity, meter.info.delay_s) == (quantity, delay_s)
        assert len(meter.info.notes) == len([word for word in lacks.split(",") if word])
        assert meter.read()[0] > 0 and "Fake H100" in meter.info.device


def test_a_gpu_without_any_power_reading_is_refused(library, monkeypatch):
    monkeypatch.setenv("FAKE_NVML_LACKS", "all")
    with Gpu(library=library) as gpu, pytest.raises(EngineError, match="tells no power"):
        NvmlMeter(gpu)


def test_clocks_and_throttling_become_part_of_a_clock_state(library, monkeypatch):
    monkeypatch.setenv("FAKE_NVML_BITS", str(0x20))
    with Gpu(library=library) as gpu:
        clocks, temperatures, throttles = read_gpu_clocks(gpu)
    assert [(clock.name, clock.current_mhz, clock.is_held) for clock in clocks] == [
        ("gpu sm", 1980, None), ("gpu memory", 2619, None)
    ]  # fmt: skip
    assert list(temperatures) == [("gpu", 41.0)] and throttles[0].name == "software thermal slowdown"


def test_the_check_finds_counter_and_samples_in_agreement(library, capsys):
    assert main(["--seconds", "1.2", "--hz", "40", "--library", library]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["agree"] is True and report["throttled"] == []
    counter, instant = report["forms"]["counter"], report["forms"]["instant"]
    # The wave is exact: 200 W on average over whole periods.
    assert abs(counter["energy_j"] - 240) <= counter["uncertainty_j"]
    assert abs(instant["energy_j"] - 240) <= instant["uncertainty_j"]
    assert counter["longest_standstill_s"] < 0.3 and instant["changes_per_second"] > 1


def test_the_check_bites_when_samples_and_counter_disagree(library, monkeypatch, capsys):
    monkeypatch.setenv("FAKE_NVML_GAIN", "2.5")
    assert main(["--seconds", "0.8", "--hz", "40", "--library", library]) == 1
    assert json.loads(capsys.readouterr().out)["agree"] is False


def test_without_a_counter_there_is_nothing_to_compare(library, monkeypatch):
    monkeypatch.setenv("FAKE_NVML_LACKS", "counter,field")
    with Gpu(library=library) as gpu:
        report = check_meter(gpu, seconds=0.5, hz=40, margin_s=0.2)
    assert report["agree"] is None and report["forms"]["counter"]["why"] == "counter: code 3: Not Supported"
    assert report["forms"]["mean"]["power_w"] == pytest.approx(200, abs=60)


def test_a_machine_without_a_gpu_gets_one_error(capsys):
    assert main(["--library", "no-such-library.so"]) == 3
    assert json.loads(capsys.readouterr().out)["what"] == "there is no NVML on this machine"
    with pytest.raises(SystemExit):
        main(["--seconds", "0"])
