"""The meter over a fake tegrastats: a shell script that prints recorded lines at the interval it is given."""

import pytest

from hwc import targets
from hwc.errors import EngineError, TargetError
from hwc.profile import read_tegrastats
from hwc.profile.read_tegrastats import TegrastatsMeter
from tests.profile.tegrastats_lines import LINES, LOG


def fake(tmp_path, body: str) -> str:
    """A program that knows the one flag that is used, and refuses others as the real one does."""
    script = tmp_path / "tegrastats"
    script.write_text(f'#!/bin/sh\n[ "$1" = --interval ] && [ $# = 2 ] || exit 9\n{body}\n')
    script.chmod(0o755)
    return str(script)


def test_instant_values_of_the_target_are_read_and_their_step_is_seen(tmp_path):
    program = fake(tmp_path, f"cat {LOG}; exec sleep 60")
    with TegrastatsMeter(targets.load("orin-nano-8gb-super"), interval_ms=50, command=program) as meter:
        assert meter.info.quantum == pytest.approx(0.040, abs=0.001)
        assert (meter.info.rail, meter.info.period_s, meter.is_paced) == ("VDD_IN", 0.05, True)
        first = [float(line.split("VDD_IN ")[1].split("mW")[0]) / 1e3 for line in LOG.read_text().splitlines()]
        assert [meter.read()[0] for _ in range(600)] == pytest.approx(first[20:620])
    assert meter._process.poll() is not None  # nothing is left running


def test_a_board_without_a_total_says_what_is_summed(tmp_path):
    line = next(line.text for line in LINES if line.what == "AGX Xavier, JetPack 4")
    program = fake(tmp_path, f"while :; do echo '{line}'; done")
    with TegrastatsMeter(targets.load("agx-xavier"), command=program) as meter:
        assert meter.info.rail == "GPU + CPU + SOC + CV + VDDRQ + SYS5V" and not meter.info.is_total
        assert "carrier board" in meter.info.omits
        assert meter.info.quantum is None and "did not move" in meter.info.notes[0]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("echo 'RAM 1/2MB (lfb 1x4MB) cpu@40C'; exec sleep 60", "no rail VDD_IN"),
        ("echo 'tegrastats: permission denied' >&2; exit 1", "cannot be read"),
        ("exit 3", "tegrastats ended"),
        ("printf 'VDD_IN 1mW/1mW VDD_SOC 1mW'; exit 0", "tegrastats ended"),
    ],
)
def test_what_goes_wrong_is_said(tmp_path, body, message):
    with pytest.raises(EngineError, match=message):
        TegrastatsMeter(targets.load("orin-nano-8gb"), command=fake(tmp_path, body))


def test_silence_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(read_tegrastats, "_SILENT_S", 0.05)
    with pytest.raises(EngineError, match="printed nothing"):
        TegrastatsMeter(targets.load("orin-nano-8gb"), command=fake(tmp_path, "exec sleep 60"))


def test_no_tegrastats_is_a_matter_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(read_tegrastats, "_PLACES", ())
    with pytest.raises(TargetError, match="no tegrastats"):
        TegrastatsMeter(targets.load("orin-nano-8gb"))
    with pytest.raises(EngineError, match="cannot be started"):
        TegrastatsMeter(targets.load("orin-nano-8gb"), command=str(tmp_path))


def test_thor_is_sent_to_the_meter_that_sees_its_input(tmp_path):
    line = next(line.text for line in LINES if line.what == "AGX Thor, JetPack 7.2")
    with pytest.raises(EngineError, match="no rail VIN"):
        TegrastatsMeter(targets.load("agx-thor"), command=fake(tmp_path, f"echo '{line}'; exec sleep 60"))
