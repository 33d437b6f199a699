"""`jetson/hwc.service` is a unit that systemd takes, runs as nobody special, and leaves the GPU's devices alone."""

import re
import shutil
import subprocess

import pytest

from tests.house.repository import ROOT

UNIT = ROOT / "jetson/hwc.service"
# Each hides or breaks the GPU; ProtectClock before systemd 253, and JetPack 5 and 6 have 245 and 249.
HARMFUL = ("PrivateDevices", "ProtectClock", "MemoryDenyWriteExecute", "DeviceAllow", "DevicePolicy", "DynamicUser")
NEEDED = {
    "User": "hwc",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "CapabilityBoundingSet": "",
    "SupplementaryGroups": "video render",
    "Restart": "on-failure",
}
LIMITS = ("TimeoutStartSec", "MemoryMax", "TasksMax", "LimitNOFILE")


def settings_of(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))


def faults_of(text: str) -> list[str]:
    found = settings_of(text)
    faults = [f"{name} breaks the GPU" for name in HARMFUL if name in found]
    faults += [f"{name} is not {value!r}" for name, value in NEEDED.items() if found.get(name) != value]
    return faults + [f"{name} has no limit" for name in LIMITS if found.get(name, "infinity") == "infinity"]


def test_the_unit_keeps_the_rules():
    assert faults_of(UNIT.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("NoNewPrivileges=yes", "NoNewPrivileges=no", "NoNewPrivileges is not 'yes'"),
        ("User=hwc\n", "", "User is not 'hwc'"),
        ("PrivateTmp=yes", "PrivateDevices=yes", "PrivateDevices breaks the GPU"),
        ("PrivateTmp=yes", "ProtectClock=yes", "ProtectClock breaks the GPU"),
        ("MemoryMax=80%", "MemoryMax=infinity", "MemoryMax has no limit"),
        ("TimeoutStartSec=3h", "", "TimeoutStartSec has no limit"),
    ],
)
def test_each_rule_bites(old, new, fault):
    text = UNIT.read_text(encoding="utf-8")
    assert old in text
    assert faults_of(text.replace(old, new)) == [fault]


def test_the_unit_starts_what_is_there_and_stops_at_codes_that_would_come_again():
    found = settings_of(UNIT.read_text(encoding="utf-8"))
    words = found["ExecStart"].split()
    assert words[:2] == ["/bin/sh", "/opt/hwc/run.sh"]
    assert (ROOT / "jetson/run.sh").is_file()
    assert words[3] == f"/var/lib/{found['StateDirectory']}"
    from hwc import errors

    kinds = (errors.UsageError, errors.TargetError, errors.AccuracyError, errors.InternalError)
    assert {int(code) for code in found["RestartPreventExitStatus"].split()} == {kind.exit_code for kind in kinds}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_unit_and_sees_a_mistake(tmp_path):
    assert verify(UNIT) == ""
    wrong = tmp_path / "hwc.service"
    wrong.write_text(UNIT.read_text(encoding="utf-8").replace("PrivateTmp=yes", "PrivateTemp=yes"), encoding="utf-8")
    assert "PrivateTemp" in verify(wrong)


def verify(path) -> str:
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr
