"""Lifetimes of a pipeline: one arena for engines that never overlap, and nothing shared where queues do."""

import pytest

from hwc.errors import UsageError
from hwc.memory.check import check_plan
from hwc.memory.planners import plan
from hwc.memory.stages import HOST, Stage, stage_buffers

PIPELINE = (
    Stage("upload", "copy", ("photo",), (("image", 100),), outside=(("photo", 100),)),
    Stage("detect", "compute", ("image",), (("boxes", 10),), scratch_bytes=500),
    Stage("classify", "compute", ("image", "boxes"), (("labels", 20),), scratch_bytes=300),
    Stage("download", "copy", ("labels",), (("answer", 20),)),
)


def test_engines_one_after_the_other_share_one_arena():
    device = [b for b in stage_buffers(PIPELINE, alignment=1) if b.lane != HOST]
    made = plan(device)
    check_plan(made)
    assert made.is_optimal and made.height_bytes == 500 + 100 + 10
    assert {b.name: (b.start, b.end) for b in device} == {
        "detect/scratch": (1, 2), "classify/scratch": (2, 3), "image": (0, 3), "boxes": (1, 3), "labels": (2, 4),
    }  # fmt: skip


def test_staging_is_host_memory():
    host = [b for b in stage_buffers(PIPELINE) if b.lane == HOST]
    assert [(b.name, b.size_bytes) for b in host] == [("photo/staging", 100), ("answer/staging", 20)]
    overlapping = [b for b in stage_buffers(PIPELINE, overlap=True, depth=2) if b.lane == HOST]
    assert [b.name for b in overlapping] == [
        "photo/staging#0", "photo/staging#1", "answer/staging#0", "answer/staging#1",
    ]  # fmt: skip


def test_overlapping_queues_share_nothing_and_double_what_crosses():
    buffers = stage_buffers(PIPELINE, overlap=True, depth=2, alignment=1)
    crossing = sorted(b.name for b in buffers if b.lane == "crossing")
    assert crossing == ["image#0", "image#1", "labels#0", "labels#1"]
    made = plan([b for b in buffers if b.lane != HOST])
    check_plan(made)
    assert made.height_bytes == 2 * (100 + 20) + 500 + 10
    assert {b.lane for b in buffers if b.name == "boxes"} == {"compute"}


def test_a_broken_pipeline_is_refused():
    with pytest.raises(UsageError, match="no earlier stage makes"):
        stage_buffers((Stage("a", "compute", ("x",)),))
    with pytest.raises(UsageError, match="two stages make"):
        stage_buffers((Stage("a", "compute", (), (("x", 1),)), Stage("b", "compute", (), (("x", 1),))))
