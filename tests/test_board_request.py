"""build.json survives the way to the board, and asks for nothing that the bundle does not hold."""

from __future__ import annotations

import json

import pytest

from hwc.board_request import REQUEST, BoardRequest, option_files, read_request
from hwc.bundle import read_bundle
from hwc.errors import UsageError
from hwc.serialize import from_json, to_json
from tests.fake_board import seal_bundle, write_bundle


def test_it_survives_a_file(tmp_path):
    folder = write_bundle(tmp_path / "net", implicit={"model": "model.float.onnx", "calibration_cache": "calib.cache"})
    request = read_request(folder, read_bundle(folder))
    assert from_json(BoardRequest, to_json(request)) == request
    assert set(request.files()) == {
        "model.onnx", "model.float.onnx", "calib.cache", "check.feeds.npz", "check.expected.npz"
    }  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "other.onnx"},
        {"feeds": "/etc/hostname"},
        {"plugins": ["../lib.so"]},
        {"implicit": {"model": "absent.onnx"}},
        {"options": {"dynamic_plugins": "model.onnx,absent.so"}},
        {"engine": "openvino"},
    ],
)
def test_what_the_bundle_does_not_hold_is_refused(tmp_path, changed):
    folder = write_bundle(tmp_path / "net")
    data = json.loads((folder / REQUEST).read_text())
    (folder / REQUEST).write_text(json.dumps({**data, **changed}))
    seal_bundle(folder)
    with pytest.raises(UsageError, match="asks for what this bundle does not have"):
        read_request(folder, read_bundle(folder))


def test_files_of_options_are_split_at_commas():
    assert option_files({"static_plugins": "a,b", "calibration_cache": "c", "workspace_bytes": "1"}) == ("c", "a", "b")
