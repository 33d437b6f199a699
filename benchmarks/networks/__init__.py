"""The networks of published latency figures, by the names that `rows.csv` uses; built as graphs with random weights.

`python -m benchmarks.networks NAME SHAPE OUT.onnx` writes one, for `hwc estimate OUT.onnx`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import onnx_ir as ir

from benchmarks.networks import classifiers, dense_outputs, inception, mobile, yolo

NETWORKS: dict[str, Callable[[tuple[int, ...]], ir.Model]] = {
    "alexnet": classifiers.alexnet,
    **{f"vgg{d}": partial(classifiers.vgg, depth=d) for d in (11, 13, 16, 19)},
    **{f"squeezenet{v}": partial(classifiers.squeezenet, version=v) for v in ("1.0", "1.1")},
    **{f"resnet{d}": partial(classifiers.resnet, depth=d) for d in (18, 34, 50, 101, 152)},
    **{f"densenet{d}": partial(classifiers.densenet, depth=d) for d in (121, 161, 169, 201)},
    "slim_resnet_v1_101": partial(classifiers.slim_resnet_v1, depth=101),
    **{f"slim_resnet_v2_{d}": partial(classifiers.slim_resnet_v2, depth=d) for d in (50, 101, 152)},
    "mobilenet_v1": mobile.mobilenet_v1,
    **{f"mnasnet{a}": partial(mobile.mnasnet, alpha=a) for a in (0.5, 0.75, 1.3)},
    **{f"shufflenet_v2_{s}": partial(mobile.shufflenet_v2, scale=s) for s in (1.0, 1.5)},
    "ssd_mobilenet_v1": mobile.ssd_mobilenet_v1,
    "inception_v1": inception.inception_v1,
    "inception_v3": inception.inception_v3,
    "inception_resnet_v2": inception.inception_resnet_v2,
    **{f"fcn_resnet18_{k}": partial(dense_outputs.fcn_resnet18, classes=c)
       for k, c in dense_outputs.FCN_CLASSES.items()},
    "ssd_resnet34": dense_outputs.ssd_resnet34,
    "resnet34_backbone": dense_outputs.resnet34_backbone,
    "retinanet_resnext50": dense_outputs.retinanet_resnext50,
    "resnet18_pose": dense_outputs.resnet18_pose,
    "nanosam_encoder": dense_outputs.nanosam_encoder,
    "unet3d": dense_outputs.unet3d,
    **{f"yolo11{s}": partial(yolo.yolo11, size=s) for s in yolo.SCALES},
    "yolov8n": yolo.yolov8n,
    "yolov7": yolo.yolov7,
}


def build_network(name: str, shape: tuple[int, ...]) -> ir.Model:
    """The graph of that network for one input of `shape` (without the batch, which is 1); KeyError if unknown."""
    return NETWORKS[name](shape)
