"""MTCNN's three face networks: P-Net (7 k parameters), R-Net (0.10 M) and O-Net (0.39 M).

Conv, PReLU and MaxPool with `ceil_mode`, where the last window may hang over the edge; then fully connected layers.
Zhang et al., "Joint Face Detection and Alignment" (2016). Input (rgb - 127.5) / 128. On scikit-image's 200 labelled
crops both R-Net and O-Net are right on all 200.

Weights and code: facenet-pytorch 2.6.0 (MIT).
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from benchmarks.fetch import model_dir
from benchmarks.load_weights import load_module, load_strictly, read_state
from benchmarks.samples import crop_photo, planes, read_photos

PNET_SIDE = 64
RNET_SIDE = 24
ONET_SIDE = 48


def load_mtcnn(kind: str) -> torch.nn.Module:
    folder = model_dir("facenet-pytorch")
    # mtcnn.py imports cropping code that needs torchvision; the three networks do not use it.
    cropping = {"detect_face": None, "extract_face": None}
    stubs = {name: {} for name in ("facenet_pytorch", "facenet_pytorch.models", "facenet_pytorch.models.utils")}
    stubs["facenet_pytorch.models.utils.detect_face"] = cropping
    code = load_module("facenet_pytorch.models.mtcnn", folder / "models" / "mtcnn.py", stubs)
    state = read_state(folder / "data" / f"{kind.lower()}.pt")
    return load_strictly(getattr(code, kind)(pretrained=False), state)


def pnet() -> torch.nn.Module:
    """1x3xHxW float32 -> boxes 1x4xhxw, face probability 1x2xhxw."""
    return load_mtcnn("PNet")


def rnet() -> torch.nn.Module:
    """Nx3x24x24 float32 -> boxes Nx4, face probability Nx2."""
    return load_mtcnn("RNet")


def onet() -> torch.nn.Module:
    """Nx3x48x48 float32 -> boxes Nx4, landmarks Nx10, face probability Nx2."""
    return load_mtcnn("ONet")


def prepare_photo(side: int) -> tuple[np.ndarray, ...]:
    """The first foolbox photo at this size, 1x3xSxS float32."""
    photo, _ = read_photos()[0]
    return (planes(crop_photo(photo, side, side), 127.5, 128.0),)


def pnet_inputs() -> tuple[np.ndarray, ...]:
    return prepare_photo(PNET_SIDE)


def rnet_inputs() -> tuple[np.ndarray, ...]:
    return prepare_photo(RNET_SIDE)


def example_inputs() -> tuple[np.ndarray, ...]:
    """For O-Net."""
    return prepare_photo(ONET_SIDE)


def prepare_faces(side: int) -> tuple[np.ndarray, np.ndarray]:
    """scikit-image's lfw_subset at this size: 200x3xSxS float32, and 1 for each of the 100 faces, int64."""
    grey = np.load(model_dir("scikit-image") / "lfw_subset.npy", allow_pickle=False)
    crops = []
    for crop in grey:
        resized = Image.fromarray(np.uint8(crop * 255)).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
        crops.append(planes(np.asarray(resized), 127.5, 128.0))
    labels = np.repeat([1, 0], 100)
    return np.concatenate(crops), labels
