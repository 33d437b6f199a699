"""The networks have the operations and weights that their authors print, and hwc's passes leave their kernels alone."""

from __future__ import annotations

import subprocess
import sys

import onnx_ir as ir
import pytest

from benchmarks.networks import NETWORKS, build_network
from benchmarks.networks.graph import fill_weights
from hwc import targets
from hwc.cost.count_flops import MATRIX_OPS, count_flops
from hwc.cost.kernel_work import list_work
from hwc.graph.shapes import infer_shapes
from hwc.passes.base import PassContext
from hwc.passes.form_fusion_groups import form_fusion_groups
from hwc.passes.pipeline import GROUPING, PASSES, run_passes
from tests.house.repository import ROOT

# Multiply-adds in 1e9 and weights in 1e6, as torchvision's, ultralytics', yolov7's or MLPerf's documents print them.
PRINTED = [
    ("alexnet", (3, 224, 224), 0.71, 61.1), ("vgg16", (3, 224, 224), 15.47, 138.36),
    ("vgg11", (3, 224, 224), 7.61, 132.86),
    ("resnet18", (3, 224, 224), 1.81, 11.69), ("resnet50", (3, 224, 224), 4.09, 25.56),
    ("resnet152", (3, 224, 224), 11.51, 60.19), ("densenet121", (3, 224, 224), 2.83, 7.98),
    ("densenet161", (3, 224, 224), 7.73, 28.68), ("squeezenet1.1", (3, 224, 224), 0.35, 1.24),
    ("squeezenet1.0", (3, 224, 224), 0.82, 1.25), ("mnasnet1.3", (3, 224, 224), 0.53, 6.28),
    ("shufflenet_v2_1.0", (3, 224, 224), 0.145, 2.28), ("inception_v3", (3, 299, 299), 5.71, 23.83),
    ("mobilenet_v1", (3, 224, 224), 0.57, 4.23), ("ssd_mobilenet_v1", (3, 300, 300), 1.235, 6.8),
    ("ssd_resnet34", (3, 1200, 1200), 216.5, 20.0), ("yolo11n", (3, 640, 640), 3.3, 2.62),
    ("yolo11s", (3, 640, 640), 10.85, 9.46), ("yolo11m", (3, 640, 640), 34.25, 20.11),
    ("yolo11l", (3, 640, 640), 43.8, 25.37), ("yolo11x", (3, 640, 640), 98.0, 56.97),
    ("yolov8n", (3, 640, 640), 4.35, 3.15),
    ("yolov7", (3, 640, 640), 52.35, 36.9),
]  # fmt: skip


@pytest.mark.parametrize(("name", "shape", "giga_macs", "mega_weights"), PRINTED, ids=[p[0] for p in PRINTED])
def test_a_network_is_as_large_as_its_authors_say(name, shape, giga_macs, mega_weights):
    model = build_network(name, shape)
    macs = sum(count_flops(n) for n in model.graph if n.op_type in MATRIX_OPS) / 2e9
    weights = sum(v.const_value.size for v in model.graph.initializers.values() if v.const_value is not None) / 1e6
    assert macs == pytest.approx(giga_macs, rel=0.03)
    assert weights == pytest.approx(mega_weights, rel=0.02)


SMALL = [("alexnet", (3, 64, 64)), ("slim_resnet_v2_50", (3, 75, 75)), ("shufflenet_v2_1.0", (3, 64, 64)),
         ("inception_v1", (3, 75, 75)), ("unet3d", (4, 32, 32, 32)), ("yolo11n", (3, 64, 64)),
         ("nanosam_encoder", (3, 64, 64)), ("retinanet_resnext50", (3, 64, 64)),
         ("resnet18_pose", (3, 64, 64))]  # fmt: skip


@pytest.mark.parametrize(("name", "shape"), SMALL, ids=[s[0] for s in SMALL])
def test_shapes_are_those_that_onnx_infers(name, shape):
    model = build_network(name, shape)
    said = {v.name: tuple(v.shape) for node in model.graph for v in node.outputs}
    infer_shapes(model)
    assert {v.name: tuple(v.shape) for node in model.graph for v in node.outputs} == said


@pytest.mark.parametrize(("name", "shape"), [("squeezenet1.1", (3, 64, 64)), ("mnasnet0.5", (3, 32, 32))])
def test_the_kernels_of_the_optimized_graph_are_those_of_the_graph_itself(name, shape):
    """What the fit saw is what `hwc estimate` sees after capture and passes."""
    context = PassContext(target=targets.load("agx-orin"))
    model = build_network(name, shape)
    plain = list_work(model, form_fusion_groups(model, context).groups)
    fill_weights(model)
    optimized, _, _ = run_passes(model, context, passes=PASSES)
    optimized, _, groups = run_passes(optimized, context, passes=GROUPING)

    def described(works):
        return sorted((w.kind, w.m, w.n, w.k, w.products, w.read, w.written) for w in works)

    assert described(list_work(optimized, groups)) == described(plain)


def test_a_network_is_written_with_weights_that_are_the_same_every_time(tmp_path):
    for out in ("a.onnx", "b.onnx"):
        command = [sys.executable, "-m", "benchmarks.networks", "squeezenet1.1", "3x64x64", str(tmp_path / out)]
        assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    weights = ir.load(tmp_path / "a.onnx").graph.initializers["w0"].const_value.numpy()
    assert 0.1 < weights.std() < 1.0


def test_every_name_builds():
    with pytest.raises(KeyError):
        build_network("absent", (3, 64, 64))
    assert len(NETWORKS) > 40
