"""Tells a wrong layout, by shape where the shape says it and by smoothness where it does not.

Shape. An input of NxCxHxW that is fed NxHxWxC has a shape that fits after moving the channel axis: kind "layout".

Smoothness. Neighbouring pixels are alike. With r(axis, lag) = mean |x[i + lag] - x[i]| along an axis, over the first
samples:
    interleaved   pixels HxWx3 that were reshaped, not transposed, into 3xHxW lie R G B R G B along a row. Then the
                  third neighbour is more alike than the first, r(W, 3) < r(W, 1); or, for colourless pictures, rows
                  are far apart while columns are close, r(H, 1) > 8 r(W, 1). On 300 ImageNet photos r(W, 3) / r(W, 1)
                  lay in 1.1..2.7 as they should be, and their mean fell from 1.8 to 0.4 by that reshape.
    axes swapped  where C = H = W fits either way: the axis that should be spatial is rough, and those that should be
                  the channels and the other one are not (less than half).

Limits: H and W swapped cannot be seen. Interleaving is looked for in NCHW with three channels only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hwc.artifacts import DynamicDim, TensorSpec
from hwc.calibrate.finding import Finding

LOOKED_AT = 64  # samples; smoothness does not need more, and costs as much as all other checks
_SMALLEST = 16  # pixels; a smaller picture says little about smoothness
_FAR_ROWS = 8.0
_HALF = 0.5
_CLEARLY = 0.9  # values without neighbours, such as noise, differ as much by one place as by three


def fits(shape: Sequence[int], spec: TensorSpec) -> bool:
    """Whether the model takes that shape."""
    return len(shape) == len(spec.shape) and all(
        dim.min <= size <= dim.max if isinstance(dim, DynamicDim) else size == dim
        for size, dim in zip(shape, spec.shape)
    )


def check_shape(array: np.ndarray, spec: TensorSpec, sample: str) -> Finding | None:
    """What keeps an engine from taking this array: dtype, number of axes, layout or shape."""
    wanted = "x".join(f"{d.min}..{d.max}" if isinstance(d, DynamicDim) else str(d) for d in spec.shape)
    got = f"{array.dtype} {'x'.join(map(str, array.shape)) or 'scalar'} in {sample}"
    expected = f"{spec.dtype} {wanted or 'scalar'}"
    if array.ndim != len(spec.shape):
        message = f"input '{spec.name}' is fed {array.ndim} axes and has {len(spec.shape)}"
        return Finding("rank", "error", message, expected, got, "add or take away an axis; the first one is the batch")
    if not fits(array.shape, spec):
        last, first = (0, array.ndim - 1, *range(1, array.ndim - 1)), (0, *range(2, array.ndim), 1)
        for moved, words in ((last, "channels last (NHWC)"), (first, "channels first (NCHW)")):
            if array.ndim >= 3 and fits([array.shape[axis] for axis in moved], spec):
                do = f"transpose each sample with axes {moved}, or set the recipe's layout; a reshape is not enough"
                return Finding("layout", "error", f"input '{spec.name}' is fed {words}", expected, got, do)
        message = f"input '{spec.name}' is fed another shape than it has"
        return Finding("shape", "error", message, expected, got, "resize or crop to the model's size")
    if array.dtype != np.dtype(spec.dtype):
        message = f"input '{spec.name}' is fed {array.dtype} and takes {spec.dtype}"
        return Finding("dtype", "error", message, expected, got, f"convert the data: x.astype('{spec.dtype}')")
    return None


def channel_axis(spec: TensorSpec, layout: str | None, channels: int = 0) -> int | None:
    """The axis of the channels of an image input of four axes; None where nothing says it.

    Args:
        layout, channels: the recipe's; the model has the last word where its shape says otherwise.
    """
    if len(spec.shape) != 4:
        return None
    if layout is not None:
        axes = (1, 3) if layout == "NCHW" else (3, 1)
        dims = [spec.shape[axis] for axis in axes]
        return next((axis for axis, dim in zip(axes, dims) if isinstance(dim, DynamicDim) or dim == channels), None)
    return next((axis for axis in (1, 3) if spec.shape[axis] in (1, 3, 4)), None)


class LayoutSums:
    """Roughness along the axes of one image input, over its first samples.

    Args:
        axis: of the channels, 1 or 3; 1 is assumed where nothing says it, as ONNX's Conv does.
    """

    def __init__(self, spec: TensorSpec, axis: int | None) -> None:
        self.spec, self.axis = spec, axis or 1
        self.count = 0
        self.rough = np.zeros(4)  # r(axis, 1)
        self.third = 0.0  # r(3, 3)
        self.is_ambiguous = True

    def add(self, array: np.ndarray) -> None:
        """Takes in one array of the input's own shape."""
        if self.count >= LOOKED_AT:
            return
        values = array.astype(np.float32)
        self.count += 1
        # Read in the other layout, these data would have this shape.
        other = (0, 3, 1, 2) if self.axis == 1 else (0, 2, 3, 1)
        self.is_ambiguous &= fits([array.shape[axis] for axis in other], self.spec)
        for axis in (1, 2, 3):
            if array.shape[axis] > 1:
                self.rough[axis] += float(np.abs(np.diff(values, axis=axis)).mean())
        if array.shape[3] > 3:
            self.third += float(np.abs(values[..., 3:] - values[..., :-3]).mean())
        self._last = array.shape

    def finding(self) -> Finding | None:
        """The layout that the data seem to have, if it is not the one that they should have."""
        if not self.count:
            return None
        rough = self.rough / self.count
        figures = f"neighbours differ by {rough[1]:.3g}, {rough[2]:.3g}, {rough[3]:.3g} along axes 1, 2, 3"
        name = self.spec.name
        if self.axis == 1 and self._last[1] == 3 and min(self._last[2:]) >= _SMALLEST and rough[3] > 0:
            third = self.third / self.count
            if third < _CLEARLY * rough[3] or rough[2] > _FAR_ROWS * rough[3]:
                return Finding(
                    "layout", "error", f"input '{name}' has its colours interleaved: HxWx3 reshaped to 3xHxW",
                    "neighbours along a row more alike than third neighbours, and rows as alike as columns",
                    f"{figures}, and third neighbours along axis 3 by {third:.3g}",
                    "transpose each picture, x.transpose(2, 0, 1), in place of the reshape",
                )  # fmt: skip
        spatial = 3 if self.axis == 1 else 1  # where the channels would lie in the other layout
        others = [axis for axis in (1, 2, 3) if axis != spatial]
        if self.is_ambiguous and all(rough[axis] < _HALF * rough[spatial] for axis in others):
            fed, wanted = ("NHWC", "NCHW") if self.axis == 1 else ("NCHW", "NHWC")
            return Finding(
                "layout", "error", f"input '{name}' seems to be fed {fed}, and its shape fits both",
                f"{wanted}: smooth along axes {'2 and 3' if self.axis == 1 else '1 and 2'}", figures,
                "transpose each sample, or set the recipe's layout",
            )  # fmt: skip
        return None
