"""Small torch networks, sound and unsound, for the export and its gate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch

example_inputs = {"image": torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(5))}


class Net(torch.nn.Module):
    """Conv, batch norm, dropout; two named outputs; an optional second input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.drop = torch.nn.Dropout(0.5)
        self.head = torch.nn.Linear(4, 5)

    def forward(self, image: torch.Tensor, scale: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        feature = self.drop(torch.relu(self.norm(self.conv(image)))).mean((2, 3))
        if scale is not None:
            feature = feature * scale
        return {"logits": self.head(feature), "feature": feature}


class Sum(torch.nn.Module):
    def forward(self, a: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return a + ids.to(a.dtype)


class Branching(torch.nn.Module):
    """Control flow on data, which cannot be traced."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


class Random(torch.nn.Module):
    """Dropout that stays on in eval mode."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(x, 0.5, training=True)


class Centre(torch.nn.Module):
    """Subtracts the mean over axis 0: rows depend on each other, rightly."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0, keepdim=True)


def build() -> torch.nn.Module:
    return Net()


def build_wrong() -> int:
    return 7


def build_failing() -> torch.nn.Module:
    raise OSError("weights are not there")


def build_onnx() -> Path:
    return Path(onnx.__file__).parent / "backend/test/data/light/light_zfnet512.onnx"


def numpy_inputs() -> tuple[np.ndarray, ...]:
    return (np.zeros((2, 3), np.float32), np.ones((2, 3), np.int64))
