"""`hwc doctor` says what this machine is, and says no where it is not the target."""

from tests.e2e.fixtures import document


def test_the_engines_of_this_machine_are_listed(hwc, cache):
    result = hwc("doctor")
    assert result.exit_code == 0
    assert "engine openvino              builds here, runs here" in result.stdout
    assert f"step cache {cache}" in result.stdout
    assert result.stdout.splitlines()[-1] == "&&&& PASSED hwc.doctor"


def test_the_json_holds_facts_and_engines(hwc):
    shown = document(hwc("doctor", "--format", "json"))
    assert shown["engines"]["reference"] == {"builds": True, "runs": True}
    assert shown["facts"]["software.python"] and shown["differences"] == []


def test_a_machine_that_is_not_the_target_fails_with_exit_code_1(hwc, monkeypatch):
    monkeypatch.setattr("hwc.targets.probe.probe", dict)
    result = hwc("doctor", "-t", "agx-xavier")
    assert result.exit_code == 1
    assert "differs from agx-xavier: software.tensorrt" in result.stdout
    assert result.stdout.splitlines()[-1] == "&&&& FAILED hwc.doctor"
    assert result.stderr.startswith("this machine is not agx-xavier")


def test_the_differences_are_in_the_json_too(hwc, monkeypatch):
    monkeypatch.setattr("hwc.targets.probe.probe", dict)
    result = hwc("doctor", "-t", "agx-xavier", "--format", "json")
    assert result.exit_code == 1
    assert any(d["fact"] == "software.tensorrt" and d["expected"] for d in document(result)["differences"])
