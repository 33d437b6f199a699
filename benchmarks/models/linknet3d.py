"""LinkNet3D: finds the brain in a magnetic resonance image; 3-D convolutions, 2.1 M parameters.

A residual encoder (Conv3d, instance norm, ReLU, one MaxPool3d) and a decoder of transposed convolutions whose outputs
are added to the encoder's, after Chaurasia and Culurciello, "LinkNet" (2017), in three dimensions. The instance norms
have no parameters, so they cannot be folded into anything.

Weights: deepbet 1.0.2 (MIT), a TorchScript file. It is read as tensors; the network is written again below and its
parameters must match by name. Agreement with the TorchScript network is checked in the suite's tests.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.fetch import model_dir
from benchmarks.load_weights import load_strictly

# Small enough for a test; the network was made for 128.
TEST_SIDE = 64


def conv(fan_in: int, fan_out: int, kernel: int, stride: int = 1, bias: bool = False) -> list[nn.Module]:
    return [nn.Conv3d(fan_in, fan_out, kernel, stride, kernel // 2, bias=bias), nn.InstanceNorm3d(fan_out)]


class Block(nn.Module):
    def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(*conv(fan_in, fan_out, 3, stride), nn.ReLU(), *conv(fan_out, fan_out, 3))
        self.downsample = nn.Sequential(*conv(fan_in, fan_out, 1, stride)) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.double_conv(x) + self.downsample(x))


class Down(nn.Module):
    def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
        super().__init__()
        self.block1 = Block(fan_in, fan_out, stride)
        self.block2 = Block(fan_out, fan_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.block2(self.block1(x))


class Up(nn.Module):
    def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
        super().__init__()
        thin = fan_in // 4
        self.conv1 = nn.Sequential(*conv(fan_in, thin, 1), nn.ReLU())
        widen = nn.ConvTranspose3d(thin, thin, 3, stride, 1, output_padding=stride - 1, bias=False)
        self.tp_conv = nn.Sequential(widen, nn.InstanceNorm3d(thin), nn.ReLU())
        self.conv2 = nn.Sequential(*conv(thin, fan_out, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.tp_conv(self.conv1(x)))


class LinkNet3D(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        stem = [nn.Conv3d(1, 16, 7, 2, 3, bias=False), nn.InstanceNorm3d(16), nn.ReLU(), nn.MaxPool3d(3, 2, 1)]
        self.init = nn.Sequential(*stem)
        self.down0, self.down1 = Down(16, 16, 1), Down(16, 32, 2)
        self.down2, self.down3 = Down(32, 64, 2), Down(64, 128, 2)
        self.up0, self.up1 = Up(128, 64, 2), Up(64, 32, 2)
        self.up2, self.up3 = Up(32, 16, 2), Up(16, 16, 1)
        widen = nn.ConvTranspose3d(16, 8, 3, 2, 1, output_padding=1)
        self.tp_conv1 = nn.Sequential(widen, nn.InstanceNorm3d(8), nn.ReLU())
        self.conv = nn.Sequential(*conv(8, 8, 3, bias=True), nn.ReLU())
        self.tp_conv2 = nn.ConvTranspose3d(8, 2, 2, 2)

    def forward(self, volume: Tensor) -> Tensor:
        quarter = self.init(volume)
        first = self.down0(quarter)
        second = self.down1(first)
        third = self.down2(second)
        x = self.up0(self.down3(third)) + third
        x = self.up1(x) + second
        x = self.up2(x) + first
        x = self.up3(x) + quarter
        return torch.softmax(self.tp_conv2(self.conv(self.tp_conv1(x))), 1)


def model() -> nn.Module:
    """1x1xDxHxW float32 in [0, 1], sides multiples of 32 -> 1x2xDxHxW, channel 1 the probability of brain."""
    scripted = torch.jit.load(model_dir("deepbet") / "bbox_model.pt", map_location="cpu")
    return load_strictly(LinkNet3D(), scripted.state_dict())


def make_head(side: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A head made by construction: skull, dark rim, two tissues and noise.

    Args:
        side: voxels in each direction.
        seed: 0 is the head of the suite; others differ in size, place, folds, brightness and noise.

    Returns:
        head: side^3 float32 in [0, 1].
        inside: side^3 bool, what lies within the dark rim. The network finds it with a Dice overlap of 0.85 at
            side 64 and 0.98 at side 128, the size it was trained for.
    """
    rng = np.random.default_rng(seed)
    size, shift, bright, fold = np.ones(3), np.zeros(3), np.ones(3), 0.06
    if seed:
        size, shift, bright = rng.uniform(0.85, 1.08, 3), rng.uniform(-0.08, 0.08, 3), rng.uniform(0.85, 1.15, 3)
        fold = rng.uniform(0.03, 0.09)
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    z, y, x = np.meshgrid(*(axis + offset for offset in shift), indexing="ij")
    radius = np.sqrt((z / (0.85 * size[0])) ** 2 + (y / (0.9 * size[1])) ** 2 + (x / (0.7 * size[2])) ** 2)
    folds = fold * np.sin(14 * x) * np.sin(13 * y) * np.sin(12 * z)
    head = np.where(radius < 1.0, 0.8 * bright[0], 0.02)
    head = np.where(radius < 0.92, 0.12, head)
    head = np.where(radius < 0.85, 0.45 * bright[1], head)
    head = np.where(radius + folds < 0.7, 0.7 * bright[2], head)
    noise = rng.normal(0, 0.03, head.shape)
    return np.clip(head + noise, 0, 1).astype(np.float32), radius < 0.85


def example_inputs(side: int = TEST_SIDE) -> tuple[np.ndarray, ...]:
    """One made-up head, 1x1xSxSxS float32."""
    return (make_head(side)[0][None, None],)
