"""What a board's bundle is given: its program, its request, its example arrays; and nothing for other engines."""

import dataclasses
import json

import numpy as np
import onnx
import pytest

from hwc import equip_bundle as equipping
from hwc.array_file import load_arrays, save_arrays
from hwc.artifacts import BuildKey, Engine
from hwc.capture import FEEDS
from hwc.equip_bundle import CHECK_EXPECTED, CHECK_FEEDS, equip_bundle
from hwc.optimize import EXPECTED, Optimized
from hwc.write_zipapp import ZIPAPP, zipapp_bytes
from tests.e2e.tiny_models import write_onnx
from tests.engines.contract import quantized_conv_graph

KEY = BuildKey("0" * 64, "xavier", "tensorrt 8.5.2", "fp16", (("threads", "2"), ("workspace_bytes", "64")))
ENGINE = Engine("tensorrt", "deferred", KEY, (), (), (), (), 0, None, None, 0.0, (), (),
                ("built there", "workspace_bytes: a limit: half of it"))  # fmt: skip


@pytest.fixture
def optimized(tmp_path) -> Optimized:
    folder = tmp_path / "optimized"
    folder.mkdir()
    save_arrays(folder / FEEDS, {"x": np.arange(4.0)})
    save_arrays(folder / EXPECTED, {"y": np.arange(3.0)})
    return Optimized(folder, "fp16", (), (), "0" * 64, (), (), ())


@pytest.fixture
def stage(tmp_path):
    (tmp_path / "stage").mkdir()
    write_onnx(tmp_path / "stage", name="model.onnx")
    return tmp_path / "stage"


def request(stage) -> dict:
    return json.loads((stage / "build.json").read_text())


def test_a_board_gets_program_request_and_arrays(optimized, stage):
    assert equip_bundle(stage, ENGINE, optimized, rest="fp32", implicit={}) == ()
    assert (stage / ZIPAPP).read_bytes() == zipapp_bytes()
    assert load_arrays(stage / CHECK_FEEDS).keys() == {"x"} and load_arrays(stage / CHECK_EXPECTED).keys() == {"y"}
    found = request(stage)
    assert found["options"] == {"workspace_bytes": "64"}  # `threads` is of engines on the CPU
    assert found["why"] == {"workspace_bytes": "a limit: half of it"}
    assert (found["precision"], found["tolerance"]) == ("fp16", "fp16")


def test_integers_of_the_users_own_are_judged_as_integers(optimized, stage):
    onnx.save(quantized_conv_graph(), str(stage / "model.onnx"))
    equip_bundle(stage, ENGINE, dataclasses.replace(optimized, precision="fp32"), rest="fp32", implicit={})
    assert (request(stage)["precision"], request(stage)["tolerance"]) == ("fp32", "int8")


def test_integers_leave_the_precision_to_the_rest(optimized, stage):
    onnx.save(quantized_conv_graph(), str(stage / "model.onnx"))
    integers = dataclasses.replace(optimized, precision="int8")
    implicit = {"model": "model.float.onnx", "calibration_cache": "calib.cache"}
    equip_bundle(stage, ENGINE, integers, rest="fp16", implicit=implicit)
    found = request(stage)
    assert (found["precision"], found["tolerance"], found["implicit"]) == ("fp16", "int8", implicit)


def test_large_arrays_stay_behind_and_that_is_said(optimized, stage, monkeypatch):
    monkeypatch.setattr(equipping, "CHECK_LIMIT", 100)
    (note,) = equip_bundle(stage, ENGINE, optimized, rest="fp32", implicit={})
    assert "cannot verify" in note and request(stage)["feeds"] == request(stage)["expected"] == ""
    assert {path.name for path in stage.iterdir()} == {"build.json", "model.onnx", ZIPAPP}


def test_files_of_this_machine_do_not_travel_and_that_is_said(optimized, stage):
    key = dataclasses.replace(KEY, options=(("dynamic_plugins", "0123456789abcdef"), ("refit", "yes")))
    (note,) = equip_bundle(stage, dataclasses.replace(ENGINE, key=key), optimized, rest="fp32", implicit={})
    assert "dynamic_plugins" in note and request(stage)["options"] == {"refit": "yes"}


def test_an_engine_of_the_cpu_needs_nothing(optimized, stage):
    cpu = dataclasses.replace(ENGINE, backend="openvino")
    assert equip_bundle(stage, cpu, optimized, rest="fp32", implicit={}) == () and len(list(stage.iterdir())) == 1
