"""Nothing that was finished is lost, and nothing of another question is taken."""

import pytest

from hwc.errors import UsageError
from hwc.precision.trial_log import TrialLog


def test_a_result_is_measured_once_and_kept(tmp_path):
    path, count = tmp_path / "deep" / "log.jsonl", []

    def measure():
        count.append(1)
        return {"drop": 0.5, "passed": True, "none": None}

    for _ in range(3):
        assert TrialLog(path, "k").once("a b", measure) == {"drop": 0.5, "passed": True, "none": None}
    assert len(count) == 1 and TrialLog(path, "k").get("other") is None
    TrialLog(path, "another question").once("a b", measure)
    assert len(count) == 2 and len(TrialLog(path, "k")) == 1


def test_half_a_line_is_cut_off_and_the_next_is_whole(tmp_path):
    path = tmp_path / "log.jsonl"
    TrialLog(path, "k").once("a", lambda: {"x": 1})
    whole = path.read_text()
    path.write_text(whole + whole[:20])
    log = TrialLog(path, "k")
    assert len(log) == 1 and path.read_text() == whole
    log.once("b", lambda: {"x": 2})
    assert TrialLog(path, "k").get("b") == {"x": 2}


def test_a_failed_trial_is_not_kept(tmp_path):
    log = TrialLog(tmp_path / "log.jsonl", "k")
    with pytest.raises(KeyboardInterrupt):
        log.once("a", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert len(log) == 0 and log.once("a", lambda: {"x": 1}) == {"x": 1}


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"key": "k", "id": "a", "result": {}}\nnot json\n')
    with pytest.raises(UsageError, match="line 2"):
        TrialLog(path, "k")
    with pytest.raises(UsageError, match="key"):
        TrialLog(path)
