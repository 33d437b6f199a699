"""What would keep a layer on DLA, and at what price.

`exact` rewrites compute the same function of real numbers; their passes are in `hwc/passes` and are proved against the
reference evaluator. In FP16 and INT8 an intermediate result is rounded once more, as with any other way to split a
layer. The others change numbers, or the network, and are only advised.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rewrite:
    """Advice. `effect` is "exact", "changes numbers" or "needs retraining"; `by` names a pass, or is empty."""

    do: str
    effect: str
    by: str = ""

    def __str__(self) -> str:
        return f"{self.do} ({self.effect}{', pass ' + self.by if self.by else ''})"


_EXACT, _NUMBERS, _RETRAIN = "exact", "changes numbers", "needs retraining"

REWRITES = {
    "average pool": Rewrite("AveragePool in steps of small windows", _EXACT, "cascade_average_pool"),
    "max pool": Rewrite("MaxPool in steps of small windows", _EXACT, "cascade_max_pool"),
    "counted padding": Rewrite("count the padding and scale the border by a constant", _EXACT, "count_pool_padding"),
    "equal padding": Rewrite("pad both sides alike and the kernel with zeros", _EXACT, "symmetrize_padding"),
    "hard sigmoid": Rewrite("scale, then Clip to [0, 1]", _EXACT, "decompose_hardswish"),
    "hard swish": Rewrite(
        "x * Clip(x/6 + 1/2, 0, 1); or Relu, which is cheaper and changes numbers", _EXACT, "decompose_hardswish"
    ),
    "clip": Rewrite("shift and scale into Clip(0, 6) and back", _EXACT, "shift_clip"),
    "gemm": Rewrite("Conv over the map in front of the Flatten", _EXACT, "convolve_gemm"),
    "crop": Rewrite("no padding, then a Conv that crops", _EXACT, "crop_deconv"),
    "select channels": Rewrite("1x1 Conv with a selection matrix", _EXACT, "convolve_slice"),
    "pad": Rewrite("a depthwise Conv that only pads, in front", _EXACT, "convolve_pad"),
    "divide": Rewrite("multiply by the reciprocal of the constant", _EXACT, "canonicalize_arithmetic"),
    "batch norm": Rewrite("BatchNormalization, which a Conv swallows", _RETRAIN),
    "relu": Rewrite("Relu or LeakyRelu", _RETRAIN),
    "smaller kernel": Rewrite("a smaller kernel or dilation, or fewer input channels", _RETRAIN),
    "fixed shape": Rewrite("fix the input's shape with --input-shapes", _EXACT),
    "equal scales": Rewrite("give the tensors the largest of their scales", _NUMBERS, "tie_scales"),
    "calibration cache": Rewrite("scales by calibration cache instead of Q/DQ nodes", _EXACT),
    "softmax outside": Rewrite("leave Softmax out of the network and compute it afterwards", _EXACT),
    "integer factor": Rewrite("an integer factor, or a ConvTranspose", _RETRAIN),
    "nearest": Rewrite("nearest neighbours, or align_corners off", _RETRAIN),
    "rank 4": Rewrite("keep the tensor as N, C, H, W", _EXACT),
}
