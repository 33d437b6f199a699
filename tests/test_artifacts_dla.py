import dataclasses
import json

import pytest

from hwc.artifacts_dla import DLA_PLAN, DlaLoadable, DlaPlan, check_plan, read_dla_plan, write_dla_plan
from hwc.errors import UsageError

PLAN = DlaPlan(
    1, "agx-xavier-32gb", "1.0", "8.5.2", "int8", "latency", 0, "abc",
    (DlaLoadable("dla0", ("conv", "relu"), ("x",), ("r",)), DlaLoadable("dla1", ("add",), ("s",), ("y",))), 4,
    ("softmax",), 3, 1.0, 2.0, 0.5, ("a note",),
)  # fmt: skip


def test_a_plan_survives_its_file(tmp_path) -> None:
    assert read_dla_plan(tmp_path) is None
    assert write_dla_plan(tmp_path, PLAN) == tmp_path / DLA_PLAN
    assert read_dla_plan(tmp_path) == PLAN
    assert [path.name for path in tmp_path.iterdir()] == [DLA_PLAN]
    assert PLAN.dla_layers == ("conv", "relu", "add")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "another version"),
        ({"gpu_layers": ["conv"]}, "lists a layer twice"),
        ({"gpu_layers": "conv"}, "wrong type"),
        ({"surprise": 1}, "unknown field"),
        ({"transitions": None}, "wrong type"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(tmp_path, change, said) -> None:
    write_dla_plan(tmp_path, PLAN)
    content = {**json.loads((tmp_path / DLA_PLAN).read_text()), **change}
    (tmp_path / DLA_PLAN).write_text(json.dumps(content))
    with pytest.raises(UsageError, match=said):
        read_dla_plan(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path) -> None:
    (tmp_path / DLA_PLAN).write_bytes(b"\xff\xfe{")
    with pytest.raises(UsageError, match="cannot read the DLA plan"):
        read_dla_plan(tmp_path)


def test_a_plan_for_something_else_is_refused() -> None:
    check_plan(PLAN, target="agx-xavier-32gb", model_digest="abc")
    with pytest.raises(UsageError, match="another target"):
        check_plan(PLAN, target="agx-orin-64gb", model_digest="abc")
    with pytest.raises(UsageError, match="another graph"):
        check_plan(dataclasses.replace(PLAN, model_digest="d"), target="agx-xavier-32gb", model_digest="abc")
