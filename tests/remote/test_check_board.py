"""A board that cannot take the bundle is named before anything large is sent."""

import pytest

from hwc import targets
from hwc.artifacts import BuildKey, Bundle, Engine
from hwc.errors import EngineError, TargetError, UsageError
from hwc.remote.check_board import check_look, check_machine, find_power_mode

XAVIER = targets.load("agx-xavier")
LOOK = {"arch": "aarch64", "numpy": True, "python": "3.8.10"}


def report(*checks: dict, **machine: object) -> dict:
    return {"machine": {"compute_capability": "7.2", "tensorrt": "8.5.2.2", **machine}, "checks": list(checks)}


def check(status: str) -> dict:
    return {"name": "clocks", "status": status, "message": "not locked\x1b[1m", "do": "jetson_clocks"}


def test_the_right_board_passes():
    check_look(LOOK, XAVIER, "b")
    assert check_machine(report(check("ok")), XAVIER, "b", will_build=True) == ()


@pytest.mark.parametrize(("change", "said"), [({"arch": "x86_64"}, "aarch64"), ({"numpy": False}, "python3-numpy")])
def test_another_architecture_and_a_python_without_numpy_are_refused(change, said):
    with pytest.raises(TargetError, match=said):
        check_look({**LOOK, **change}, XAVIER, "b")


def test_only_where_a_family_has_one_architecture_is_it_demanded():
    check_look({**LOOK, "arch": "aarch64"}, targets.load("h100"), "b")
    with pytest.raises(TargetError, match="x86_64"):
        check_look(LOOK, targets.load("rtx-4090"), "b")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"compute_capability": "8.7", "gpu": "Orin"}, r"8.7 \(Orin\)"),
        ({"tensorrt": "8.4.1"}, "b has TensorRT 8.4.1"),
        ({"tensorrt": "8.6.1.6"}, "b has TensorRT 8.6.1.6"),
        ({"tensorrt": None}, "b has no TensorRT"),
        ({"tensorrt": ""}, "b has no TensorRT"),
    ],
)
def test_another_gpu_and_another_tensorrt_are_refused(change, said):
    with pytest.raises(TargetError, match=said) as caught:
        check_machine(report(**change), XAVIER, "b", will_build=False)
    assert caught.value.do and caught.value.expected and caught.value.source


def test_another_patch_version_is_a_note_and_another_version_one_that_was_accepted():
    for version, accepted in (("8.5.1.7", False), ("8.6.1", True)):
        notes = check_machine(report(tensorrt=version), XAVIER, "b", will_build=True, accept_differences=accepted)
        assert notes == (f"TensorRT {version} is there, compiled for 8.5.2",)
    with pytest.raises(TargetError, match="no TensorRT"):
        check_machine(report(tensorrt=None), XAVIER, "b", will_build=True, accept_differences=True)


def test_a_gpu_that_was_not_seen_is_left_to_the_build():
    assert check_machine(report(compute_capability=None), XAVIER, "b", will_build=True) == ()


def test_what_the_doctor_warns_of_is_a_note_and_what_failed_stops_a_build():
    (note,) = check_machine(report(check("warn")), XAVIER, "b", will_build=True)
    assert note == "doctor, warn: clocks: not locked"
    assert len(check_machine(report(check("fail")), XAVIER, "b", will_build=False)) == 1
    with pytest.raises(EngineError, match="not ready to build") as caught:
        check_machine(report(check("fail")), XAVIER, "b", will_build=True)
    assert caught.value.do == "jetson_clocks"


def test_a_report_that_is_none_is_an_error():
    for bad in ({}, {"machine": [], "checks": []}, {"machine": {}}):
        with pytest.raises(EngineError, match="nothing that can be read"):
            check_machine(bad, XAVIER, "b", will_build=False)


def bundle_for(name: str) -> Bundle:
    engine = Engine("tensorrt", "deferred", BuildKey("", "", "", ""), (), (), (), (), 0, None, None, 0.0, ())
    return Bundle(1, "net", targets.load(name), "fp16", (), (), (), (), engine, {}, {}, ())


def test_a_power_mode_is_looked_up_by_name():
    mode = find_power_mode(bundle_for("agx-xavier"), "MODE_15W")
    assert mode is not None and mode.id == "2"
    assert find_power_mode(bundle_for("t4"), "") is None
    with pytest.raises(UsageError, match="MAXN, MODE_10W"):
        find_power_mode(bundle_for("agx-xavier"), "maxn")
    with pytest.raises(TargetError, match="has no power modes"):
        find_power_mode(bundle_for("t4"), "MAXN")
