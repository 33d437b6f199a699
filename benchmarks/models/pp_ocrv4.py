"""PP-OCRv4: three ONNX files converted from Paddle, that find (det), turn (cls) and read (rec) lines of text.

Opset 11 and 12, every weight in a Constant node and no initializer; height and width dynamic. Hard-swish arrives in
pieces (Add, Clip, Mul, Div), the layer norms of rec too. `cls` keeps 35 batch norms apart from their convolutions.
Of the 40 drawn words in benchmarks/accuracy.py rec reads 85 % exactly, and cls is right on 94 % of 80 lines.

Files: rapidocr-onnxruntime 1.4.4 (Apache-2.0). The list of characters is in rec's metadata.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.fetch import model_dir
from benchmarks.samples import draw_sign, draw_word, planes

DET_SIDE = 320
HEIGHT = 48
REC_WIDTH = 320
CLS_WIDTH = 192


def det() -> Path:
    """1x3xHxW float32, sides multiples of 32 -> 1x1xHxW probability of text."""
    return model_dir("rapidocr-onnxruntime") / "ch_PP-OCRv4_det_infer.onnx"


def rec() -> Path:
    """Nx3x48xW float32 -> Nx(W/8)x6625 probability of each character; 0 is the CTC blank."""
    return model_dir("rapidocr-onnxruntime") / "ch_PP-OCRv4_rec_infer.onnx"


def cls() -> Path:
    """Nx3x48x192 float32 -> Nx2 probability of upright, upside down."""
    return model_dir("rapidocr-onnxruntime") / "ch_ppocr_mobile_v2.0_cls_infer.onnx"


def load_characters() -> list[str]:
    """The character of each index of rec's output: the blank, the list in the file's metadata, the space."""
    import onnx

    metadata = {entry.key: entry.value for entry in onnx.load(rec(), load_external_data=False).metadata_props}
    return ["", *metadata["character"].splitlines(), " "]


def prepare_line(word: str, width: int, seed: int = 0) -> np.ndarray:
    """A drawn word, 1x3x48xW float32 in [-1, 1]."""
    grey = draw_word(word, HEIGHT, width, seed)
    return planes(np.repeat(grey[..., None], 3, 2), 127.5, 127.5)


def det_inputs() -> tuple[np.ndarray, ...]:
    """A photo with two words, 1x3x320x320 float32."""
    return (planes(draw_sign(DET_SIDE), 127.5, 127.5),)


def rec_inputs() -> tuple[np.ndarray, ...]:
    return (prepare_line("Deployment", REC_WIDTH),)


def cls_inputs() -> tuple[np.ndarray, ...]:
    return (prepare_line("Deploy", CLS_WIDTH),)
