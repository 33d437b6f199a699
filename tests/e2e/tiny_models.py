"""Models small enough to compile in a blink, written where a test wants them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

TORCH_SOURCE = '''\
import torch
from torch import nn


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=0, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, image):
        x = torch.relu(self.norm(self.conv(image)))
        return self.head(x.mean((2, 3)))


def model():
    torch.manual_seed(SEED)
    return Tiny().eval()


def example_inputs():
    return torch.randn(BATCH, 3, 16, 16, generator=torch.Generator().manual_seed(1))
'''

ONNX_TEXT = """<ir_version: 8, opset_import: ["" : 17]>
tiny (float[%s,3,8,8] x) => (float[%s,4,8,8] y) {
  c = Conv<pads=[1,1,1,1]>(x, w, b)
  y = Relu(c)
}"""

# GridSample in 3-D came with opset 20; TensorRT 8.5 parses up to opset 17.
TOO_NEW_TEXT = """<ir_version: 9, opset_import: ["" : 20]>
sampler (float[1,2,4,4,4] x, float[1,3,3,3,3] grid) => (float[1,2,3,3,3] y) {
  y = GridSample<mode="linear">(x, grid)
}"""

UNKNOWN_TEXT = """<ir_version: 8, opset_import: ["" : 17]>
odd (float[1,4] x) => (float[1,4] y) {
  y = Frobnicate(x)
}"""


def write_torch(folder: Path, *, seed: int = 0, batch: int = 1) -> str:
    """Writes tiny.py into the folder; returns MODEL."""
    path = folder / "tiny.py"
    path.write_text(TORCH_SOURCE.replace("SEED", str(seed)).replace("BATCH", str(batch)))
    return f"{path}:model"


def write_onnx(folder: Path, *, batch: str = "1", seed: int = 0, name: str = "net.onnx") -> Path:
    """Conv and Relu on 3x8x8; a `batch` that is no number is a dynamic dimension."""
    proto = onnx.parser.parse_model(ONNX_TEXT % (batch, batch))
    rng = np.random.default_rng(seed)
    for key, array in (("w", rng.standard_normal((4, 3, 3, 3))), ("b", rng.standard_normal(4))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), key))
    onnx.save(proto, folder / name)
    return folder / name


def write_text(folder: Path, text: str, name: str = "net.onnx") -> Path:
    """A model in onnx's text syntax as a file, not checked."""
    onnx.save(onnx.parser.parse_model(text), folder / name)
    return folder / name


def expected_onnx(x: np.ndarray, seed: int = 0) -> np.ndarray:
    """The network of `write_onnx` in plain numpy."""
    rng = np.random.default_rng(seed)
    w, b = rng.standard_normal((4, 3, 3, 3)).astype(np.float32), rng.standard_normal(4).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.maximum(np.einsum("nchwij,ocij->nohw", windows, w) + b[None, :, None, None], 0)
