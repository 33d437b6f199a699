"""The GPU check tells what it could not do: every part is in the result, none stops the run."""

import json
import sys

import pytest

from benchmarks.gpu import check_gpu


def test_without_a_gpu_every_check_says_why(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi, wherever this runs
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert check_gpu.main(["--out", str(tmp_path / "out")]) == 0
    (path,) = (tmp_path / "out").glob("no-gpu-*.json")
    found = json.loads(path.read_text())
    assert set(found) == {"date", "device", "cuda_memory", "overlap", "engines", "build_here", "nvml"}
    assert found["overlap"]["exit_code"] != 0 and found["overlap"]["problem"]
    assert found["nvml"]["load"]["problem"] == "no load: torch finds no GPU"
    assert "== nvml" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("print('[1]')", {"exit_code": 0, "said": [1]}),
        ("import sys; sys.exit('no such device')", {"exit_code": 1, "problem": "no such device"}),
        ("import os; os.abort()", {"exit_code": -6, "problem": ""}),
    ],
)
def test_a_check_ends_in_its_json_or_its_last_words(code, found):
    got = check_gpu.run([sys.executable, "-c", code])
    assert got.pop("seconds") >= 0 and got == found


def test_a_check_that_hangs_is_stopped():
    assert check_gpu.run(["sleep", "30"], 0.2) == {
        "problem": "stopped after 0 s"
    }
