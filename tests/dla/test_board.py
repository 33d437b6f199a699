import pytest

from hwc import targets
from hwc.dla.board import open_board
from hwc.errors import TargetError, UsageError
from tests.dla.judged import ORIN, XAVIER, board


@pytest.mark.parametrize("name", [n for n in targets.names() if "xavier" in n or n.startswith(("agx-orin", "orin-nx"))])
def test_every_board_with_a_dla_opens(name) -> None:
    opened = open_board(targets.load(name), "int8")
    assert opened.generation == ("1.0" if "xavier" in name else "2.0")
    assert opened.loadable_limit == (4 if "xavier" in name else 16)


@pytest.mark.parametrize("name", ["orin-nano-8gb", "agx-thor", "rtx-4090", "jetson-nano", "cpu"])
def test_a_target_without_dla_is_refused(name) -> None:
    with pytest.raises(TargetError, match="has no DLA"):
        open_board(targets.load(name), "fp16")


@pytest.mark.parametrize("version", ["10.8.0", "10.16", "11.0", "11.3.1", "11.4.0"])
def test_versions_between_10_8_and_11_4_have_none(version) -> None:
    with pytest.raises(TargetError, match=f"TensorRT {version} does not drive"):
        board(ORIN, tensorrt=version)


def test_it_came_back_for_one_board_alone() -> None:
    assert board(ORIN, tensorrt="11.4.1").names("dla.explicit_quantization") == ("yes",)
    with pytest.raises(TargetError, match="no source says"):
        board("orin-nx", tensorrt="11.4.1")


def test_facts_follow_the_version() -> None:
    old, new = board(ORIN, tensorrt="8.5.2"), board(ORIN)
    assert (old.loadable_limit, new.loadable_limit) == (4, 16)
    assert "Div" in new.names("dla.elementwise_ops") and "Div" not in old.names("dla.elementwise_ops")
    assert old.names("dla.slice_precisions") == () and new.names("dla.slice_precisions") == ("FP16",)


def test_other_precisions_are_refused() -> None:
    with pytest.raises(UsageError, match="FP16 or INT8"):
        board(XAVIER, "fp32")
    with pytest.raises(UsageError, match="not a TensorRT version"):
        board(XAVIER, tensorrt="newest")
