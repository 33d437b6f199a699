"""Silero VAD: is this 32 ms of sound speech; three ONNX forms of one network.

A short Fourier transform written as Conv, four more Conv with ReLU, an LSTM, a sigmoid.

- `op15`: opset 15, with 12 `If` nodes nested in each other, the sample rate as an input, and the LSTM state carried by
  the caller. For compilers that must refuse or fold control flow.
- `ifless`: opset 18. One `If` is left, on the sample rate, with the whole network in its two branches.
- `sequence`: opset 16, no `If`, and a whole recording in one call.

Files: silero-vad 6.2.3 (MIT).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.fetch import model_dir

SAMPLE_RATE = 16000
# Each call gets 512 new samples after the last 64 of the call before.
CONTEXT, FRAME = 64, 512
SEQUENCE = 16


def op15() -> Path:
    """input 1x576 float32, state 2x1x128 float32, sr int64 -> output 1x1 probability, stateN 2x1x128."""
    return model_dir("silero-vad") / "silero_vad_16k_op15.onnx"


def ifless() -> Path:
    """The same inputs and outputs as `op15`."""
    return model_dir("silero-vad") / "silero_vad_op18_ifless.onnx"


def sequence() -> Path:
    """input Tx576, h and c 1x1x128, all float32 -> T probabilities, hn and cn 1x1x128."""
    return model_dir("silero-vad") / "silero_vad_16k_sequence.onnx"


def make_vowel(seconds: float) -> np.ndarray:
    """A vowel made by construction: pulses of a gliding pitch through three resonances; float32 in [-0.5, 0.5]."""
    count = int(seconds * SAMPLE_RATE)
    pitch = 120 + 25 * np.sin(2 * np.pi * 2.5 * np.arange(count) / SAMPLE_RATE)
    phase = np.cumsum(pitch / SAMPLE_RATE)
    pulses = np.diff(np.floor(phase), prepend=0.0)
    sound = pulses + np.random.default_rng(0).normal(0, 0.01, count)
    for formant, bandwidth in ((700, 90), (1220, 110), (2600, 160)):
        radius = np.exp(-np.pi * bandwidth / SAMPLE_RATE)
        ring = np.arange(1024)
        response = radius**ring * np.sin(2 * np.pi * formant / SAMPLE_RATE * (ring + 1))
        sound = np.convolve(sound, response)[:count]
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def cut_frames(count: int) -> np.ndarray:
    """Frames of the vowel, each with its 64 samples of context: count x 576 float32."""
    sound = make_vowel((CONTEXT + count * FRAME) / SAMPLE_RATE)
    return np.stack([sound[first : first + CONTEXT + FRAME] for first in range(0, count * FRAME, FRAME)])


def example_inputs() -> dict[str, np.ndarray]:
    """For `op15` and `ifless`: the first frame of a vowel, and a silent state."""
    state = np.zeros((2, 1, 128), np.float32)
    return {"input": cut_frames(1), "state": state, "sr": np.array(SAMPLE_RATE, np.int64)}


def sequence_inputs() -> dict[str, np.ndarray]:
    state = np.zeros((1, 1, 128), np.float32)
    return {"input": cut_frames(SEQUENCE), "h": state, "c": state.copy()}
