"""RAPL counters as folders: what adds up, wrapping, and the ways in which they cannot be read."""

import pytest

from hwc.errors import EngineError, TargetError
from hwc.profile import read_rapl
from hwc.profile.read_rapl import RaplMeter, find_zones
from tests.profile.fake_sysfs import add_zone, write


def test_packages_and_their_dram_add_up_and_nothing_twice(tmp_path):
    for package in (0, 1):
        add_zone(tmp_path, package, f"package-{package}", 5)
        add_zone(tmp_path, package, "core", 5, part=0)
        add_zone(tmp_path, package, "uncore", 5, part=1)
        add_zone(tmp_path, package, "dram", 5, part=2)
    add_zone(tmp_path, 2, "psys", 5)
    write(tmp_path, "sys/class/powercap/intel-rapl-mmio:0/name", "package-0")
    assert [zone.name for zone in find_zones(tmp_path)] == ["package-0", "dram-0", "package-1", "dram-1"]
    meter = RaplMeter(root=tmp_path)
    assert not meter.info.is_total and meter.info.quantity == "energy_j"


def test_the_counter_counts_from_opening_and_wraps(tmp_path):
    counter = add_zone(tmp_path, 0, "package-0", 9_000_000, wrap=10_000_000)
    meter = RaplMeter(root=tmp_path)
    assert meter.read() == (0.0,)
    for micro_joule, joules in ((9_500_000, 0.5), (250_000, 1.25), (250_000, 1.25), (9_999_999, 10.999999), (0, 11.0)):
        counter.write_text(str(micro_joule))
        assert meter.read() == pytest.approx((joules,))


def test_a_machine_without_counters_is_told_apart_from_one_that_hides_them(tmp_path, monkeypatch):
    with pytest.raises(TargetError, match="no RAPL") as caught:
        RaplMeter(root=tmp_path)
    assert caught.value.got == "no such folder"
    add_zone(tmp_path, 0, "psys", 5)
    with pytest.raises(TargetError) as caught:
        RaplMeter(root=tmp_path)
    assert caught.value.got == "no package among its zones"

    counter = add_zone(tmp_path, 0, "package-0", 5)
    plain = read_rapl.Path.read_text

    def refuse(path, *args, **kwargs):
        if path == counter:
            raise PermissionError(13, "Permission denied")
        return plain(path, *args, **kwargs)

    monkeypatch.setattr(read_rapl.Path, "read_text", refuse)
    with pytest.raises(EngineError, match="may not be read") as error:
        RaplMeter(root=tmp_path)
    assert "only root" in error.value.got and "chmod" in error.value.do


def test_nonsense_is_refused(tmp_path):
    counter = add_zone(tmp_path, 0, "package-0", 5, wrap=10)
    meter = RaplMeter(root=tmp_path)
    counter.write_text("many\n")
    with pytest.raises(EngineError, match="no number"):
        meter.read()
    counter.write_text("11\n")
    with pytest.raises(EngineError, match="over its own range"):
        meter.read()
    counter.unlink()
    with pytest.raises(EngineError, match="cannot be read"):
        meter.read()
    add_zone(tmp_path, 0, "package-0", 5, wrap=0)
    with pytest.raises(EngineError, match="no range"):
        RaplMeter(root=tmp_path)
