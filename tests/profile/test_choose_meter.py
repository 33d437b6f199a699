"""Which meter is taken for which target, and what is said when none fits."""

import pytest

from hwc import targets
from hwc.errors import EngineError, TargetError, UsageError
from hwc.profile.choose_meter import choose_meter
from hwc.profile.choose_rails import choose_rails
from hwc.profile.meters import Meter, MeterInfo
from tests.profile.fake_sysfs import add_hwmon, add_zone


class Silent(Meter):
    def __init__(self, name):
        self.info = MeterInfo(name, "a device", "power_w", ("A",), True, "", 0.1, "made up", 0.0, None)


def missing():
    raise TargetError("there is none", got="nothing")


def broken():
    raise EngineError("it failed")


def test_each_family_has_its_meters(tmp_path):
    opened = {name: (lambda name=name: Silent(name)) for name in ("ina3221", "tegrastats", "nvml", "rapl")}
    for target, name in (("orin-nano", "ina3221"), ("h100", "nvml"), ("rtx-4090", "nvml"), ("cpu", "rapl")):
        assert choose_meter("auto", targets.load(target), openers=opened).info.meter == name
    assert choose_meter("tegrastats", targets.load("orin-nano"), openers=opened).info.meter == "tegrastats"


@pytest.mark.parametrize(
    ("kind", "target"), [("rapl", "h100"), ("nvml", "cpu"), ("nvml", "orin-nano"), ("tegrastats", "cpu")]
)
def test_a_meter_of_another_device_is_refused(kind, target):
    with pytest.raises(TargetError, match="does not see what runs on") as caught:
        choose_meter(kind, targets.load(target))
    assert "auto" in caught.value.expected


def test_the_second_choice_says_why_it_is_not_the_first():
    meter = choose_meter(
        "auto", targets.load("orin-nano"), openers={"ina3221": missing, "tegrastats": lambda: Silent("tegrastats")}
    )
    assert meter.info.notes == ("not used, ina3221: there is none (nothing)",)


def test_if_none_opens_every_reason_is_given():
    with pytest.raises(EngineError, match="no power meter works here") as caught:
        choose_meter("auto", targets.load("orin-nano"), openers={"ina3221": missing, "tegrastats": broken})
    assert caught.value.got == "ina3221: there is none (nothing); tegrastats: it failed"
    with pytest.raises(TargetError, match="there is none"):
        choose_meter("ina3221", targets.load("orin-nano"), openers={"ina3221": missing})


def test_a_question_to_the_user_is_not_passed_over():
    def ask():
        raise UsageError("which of them?")

    with pytest.raises(UsageError, match="which"):
        choose_meter("auto", targets.load("h100"), openers={"nvml": ask})


def test_unknown_names_are_refused():
    for kind in ("none", "wattmeter", ""):
        with pytest.raises(UsageError, match="no power meter is called"):
            choose_meter(kind, targets.load("cpu"))


def test_real_meters_open_on_fake_machines(tmp_path):
    add_hwmon(tmp_path, "1-0040", 3, {"VDD_IN": (5000, 1000)})
    add_zone(tmp_path, 0, "package-0", 5)
    assert choose_meter("auto", targets.load("orin-nano"), root=tmp_path).info.meter == "ina3221"
    assert choose_meter("auto", targets.load("cpu"), root=tmp_path).info.meter == "rapl"


def test_rails_come_from_the_facts():
    nano, xavier = choose_rails(targets.load("jetson-nano")), choose_rails(targets.load("agx-xavier"))
    assert nano.rails == ("POM_5V_IN",) and nano.is_total
    assert len(xavier.rails) == 6 and not xavier.is_total and xavier.omits != "unknown"
    assert choose_rails(targets.load("tx2")).omits == "unknown"
    with pytest.raises(TargetError, match="has no power rails"):
        choose_rails(targets.load("h100"))
    with pytest.raises(TargetError, match="is not known") as caught:
        choose_rails(targets.load("thor-t4000"))
    assert caught.value.source
