"""Networks with a map as their output: FCN-ResNet-18, SSD-ResNet-34, RetinaNet, pose, NanoSAM's encoder, 3D U-Net.

Sources of the shapes: FCN-ResNet-18 as in jetson-inference (ResNet-18 of stride 32, a 3x3 to 128 channels, a 1x1 to the
classes, no upsampling); SSD-ResNet-34 1200x1200 as MLPerf Inference has it (15130 anchors, 81 classes, the third
stage without stride); RetinaNet on ResNeXt-50 32x4d as MLPerf has it (264 classes, nine anchors a place);
resnet18_baseline_att of trt_pose (MIT); the ResNet-18 encoder of NanoSAM (Apache-2.0); 3D U-Net as MLPerf's BraTS
model, an nnU-Net (Isensee 2021, doi 10.1038/s41592-020-01008-z): no source that prints its widths was found, so they
are those of that project's planner v2.1, 32 doubling to at most 320. Non-maximum suppression is left out.
"""

from __future__ import annotations

import onnx_ir as ir

from benchmarks.networks.classifiers import resnet_features
from benchmarks.networks.graph import Network, Value
from benchmarks.networks.mobile import ssd_heads

FCN_CLASSES = {"cityscapes": 21, "deepscene": 5, "mhp": 21, "voc": 21, "sun": 21}


def fcn_resnet18(shape: tuple[int, ...], classes: int) -> ir.Model:
    """A class map at 1/32 of the input."""
    net = Network("fcn_resnet18", shape)
    x = resnet_features(net, 18)[-1]
    return net.finish(net.conv(net.conv(x, 128), classes, 1, act=""))


def ssd_resnet34(shape: tuple[int, ...]) -> ir.Model:
    """SSD on the first three stages of ResNet-34."""
    net = Network("ssd_resnet34", shape)
    maps = [resnet_features(net, 34, stages=3, strides=(1, 2, 1))[-1]]
    for squeeze, expand, stride in ((256, 512, 2), (256, 512, 2), (128, 256, 2), (128, 256, 2), (128, 256, 1)):
        pad = 1 if stride == 2 else 0
        maps.append(net.conv(net.conv(maps[-1], squeeze, 1), expand, 3, stride, pad=pad))
    return net.finish(*ssd_heads(net, maps, (4, 6, 6, 6, 4, 4), classes=81, kernel=3, stride=3))


def resnet18_pose(shape: tuple[int, ...]) -> ir.Model:
    """Part confidence maps (18) and part affinity fields (42), each with an attention map."""
    net = Network("resnet18_pose", shape)
    features = resnet_features(net, 18)[-1]
    outputs = []
    for channels, kind in ((18, "sigmoid"), (42, "tanh")):
        x = features
        for _ in range(3):
            x = net.deconv(x, 256, 4, 2, 1)
        x = net.mul(x, net.conv(x, 256, act=kind))
        outputs.append(net.conv(x, channels, 1, act=""))
    return net.finish(*outputs)


def nanosam_encoder(shape: tuple[int, ...]) -> ir.Model:
    """ResNet-18, four convolutions and one transposed one, to 256 channels at 1/16."""
    net = Network("nanosam_encoder", shape)
    x = resnet_features(net, 18)[-1]
    for _ in range(3):
        x = net.conv(x, 256, act="gelu")
    x = net.conv(net.deconv(x, 256, 3, 2, 1, 1, act="gelu"), 256, act="gelu")
    return net.finish(net.conv(x, 256, 1, act=""))


def unet3d(shape: tuple[int, ...]) -> ir.Model:
    """Six levels of two 3x3x3 convolutions, instance normalisation and leaky ReLU on the way down and up."""
    net = Network("unet3d", shape)
    widths = (32, 64, 128, 256, 320, 320)

    def twice(x: Value, width: int, stride: int) -> Value:
        x = net.instance_norm(net.conv(x, width, 3, stride, act=""), "leaky")
        return net.instance_norm(net.conv(x, width, 3, act=""), "leaky")

    x, skips = net.input, []
    for level, width in enumerate(widths):
        x = twice(x, width, 2 if level else 1)
        skips.append(x)
    for width, skip in list(zip(widths, skips))[-2::-1]:
        x = twice(net.concat(net.deconv(x, width, 2, 2, act=""), skip), width, 1)
    return net.finish(net.conv(x, 4, 1, act=""))


def resnet34_backbone(shape: tuple[int, ...]) -> ir.Model:
    """ResNet-34 up to its last stage."""
    net = Network("resnet34_backbone", shape)
    return net.finish(resnet_features(net, 34)[-1])


def retinanet_resnext50(shape: tuple[int, ...]) -> ir.Model:
    """A feature pyramid of five levels and two heads of four convolutions, which all levels share."""
    net = Network("retinanet_resnext50", shape)
    _, c3, c4, c5 = resnet_features(net, 50, group=32)
    p5 = net.conv(c5, 256, 1, act="")
    p4 = net.add(net.conv(c4, 256, 1, act=""), net.upsample(p5))
    p3 = net.add(net.conv(c3, 256, 1, act=""), net.upsample(p4))
    p6 = net.conv(c5, 256, 3, 2, act="")
    levels = [net.conv(p, 256, act="") for p in (p3, p4, p5)] + [p6, net.conv(net.act(p6, "relu"), 256, 3, 2, act="")]
    outputs = []
    for width in (9 * 264, 9 * 4):
        for level in levels:
            x = level
            for _ in range(4):
                x = net.conv(x, 256)
            outputs.append(net.conv(x, width, act=""))
    return net.finish(*outputs)
