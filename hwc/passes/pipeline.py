"""The ordered list of passes, and the one loop that runs it.

The order matters, and each line that depends on another says so. Passes run once, top to bottom; a pass that must see
what a later one leaves is listed twice, by name, rather than iterated to a fixed point of unknown length.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from hwc.artifacts import FusionGroup, Step
from hwc.errors import UsageError
from hwc.graph.text import digest_model
from hwc.passes.base import Pass, PassContext, run_pass
from hwc.passes.canonicalize_arithmetic import canonicalize_arithmetic
from hwc.passes.canonicalize_clip import canonicalize_clip
from hwc.passes.canonicalize_gemm import canonicalize_gemm
from hwc.passes.canonicalize_global_pool import canonicalize_global_pool
from hwc.passes.canonicalize_operand_order import canonicalize_operand_order
from hwc.passes.cascade_average_pool import cascade_average_pool
from hwc.passes.cascade_max_pool import cascade_max_pool
from hwc.passes.chunk_lstm import chunk_lstm
from hwc.passes.commute_average_pool import commute_average_pool
from hwc.passes.commute_relu_max_pool import commute_relu_max_pool
from hwc.passes.convert_float16 import convert_float16
from hwc.passes.convolve_gemm import convolve_gemm
from hwc.passes.convolve_pad import convolve_pad
from hwc.passes.convolve_slice import convolve_slice
from hwc.passes.count_pool_padding import count_pool_padding
from hwc.passes.crop_deconv import crop_deconv
from hwc.passes.decompose_hardswish import decompose_hardswish
from hwc.passes.decompose_scatter_add import decompose_scatter_add
from hwc.passes.eliminate_cast import eliminate_cast
from hwc.passes.eliminate_duplicate import eliminate_duplicate
from hwc.passes.eliminate_identity import eliminate_identity
from hwc.passes.eliminate_nan_guard import eliminate_nan_guard
from hwc.passes.eliminate_reshape import eliminate_reshape
from hwc.passes.eliminate_transpose import eliminate_transpose
from hwc.passes.fold_affine import fold_affine
from hwc.passes.fold_batchnorm import fold_batchnorm
from hwc.passes.fold_constants import fold_constants
from hwc.passes.fold_input_normalization import fold_input_normalization
from hwc.passes.fold_pads import fold_pads
from hwc.passes.form_fusion_groups import form_fusion_groups
from hwc.passes.merge_conv_average_pool import merge_conv_average_pool
from hwc.passes.merge_linear import merge_linear
from hwc.passes.merge_parallel_convs import merge_parallel_convs
from hwc.passes.merge_parallel_matmuls import merge_parallel_matmuls
from hwc.passes.narrow_int64 import narrow_int64
from hwc.passes.permute_flatten_gemm import permute_flatten_gemm
from hwc.passes.recompose_gelu import recompose_gelu
from hwc.passes.recompose_gemm import recompose_gemm
from hwc.passes.recompose_hardsigmoid import recompose_hardsigmoid
from hwc.passes.recompose_hardswish import recompose_hardswish
from hwc.passes.recompose_instancenorm import recompose_instancenorm
from hwc.passes.recompose_layernorm import recompose_layernorm
from hwc.passes.recompose_prelu import recompose_prelu
from hwc.passes.recompose_silu import recompose_silu
from hwc.passes.shift_clip import shift_clip
from hwc.passes.split_instancenorm import split_instancenorm
from hwc.passes.symmetrize_padding import symmetrize_padding
from hwc.passes.transpose_attention import transpose_attention
from hwc.passes.widen_integers import widen_integers

# Structure, in FP32.
PASSES: tuple[Pass, ...] = (
    fold_constants,  # first: weights that a graph computes (ConstantOfShape, slices) are constants to all below
    eliminate_identity,
    eliminate_cast,
    canonicalize_clip,  # before the hard activations, which look for Clip
    recompose_hardsigmoid,  # before fold_affine, which would swallow its + 3 and / 6
    recompose_hardswish,
    recompose_silu,
    recompose_gelu,
    recompose_layernorm,  # before canonicalize_global_pool: their means look alike
    recompose_instancenorm,
    recompose_prelu,
    canonicalize_arithmetic,  # after the recompositions, which want the arithmetic as exporters write it
    canonicalize_global_pool,
    fold_input_normalization,  # before fold_pads, which changes what lies at the border of the first Conv
    fold_pads,
    recompose_gemm,
    canonicalize_gemm,
    fold_affine,  # before fold_batchnorm: a bias Add between Conv and BatchNormalization must be gone
    fold_batchnorm,  # after fold_pads: a shift folds forward only where it can see the padding
    fold_affine,  # again: what fold_batchnorm moved behind a Conv
    commute_relu_max_pool,  # after BatchNormalization is gone, so that the pool stands right behind the Conv
    commute_average_pool,  # before the next: moving a pool over a 1x1 saves more than merging it
    merge_conv_average_pool,
    chunk_lstm,  # after fold_constants: it needs constant weights
    merge_linear,  # after chunk_lstm, whose hoisted projection it may join
    merge_parallel_convs,
    eliminate_nan_guard,  # after the recompositions: it bounds LayerNormalization and Gelu, not their parts
    transpose_attention,  # before the next, which would merge Q, K and V in a form that still copies every head
    merge_parallel_matmuls,
    permute_flatten_gemm,  # before split_instancenorm: it stays away from InstanceNormalization and must still see it
    split_instancenorm,
    eliminate_transpose,
    eliminate_reshape,
    widen_integers,  # from here on, integers: ranges are proved on the final structure
    decompose_scatter_add,
    narrow_int64,
    canonicalize_operand_order,
    fold_constants,  # again: the rewrites above made constant arithmetic of their own
    eliminate_cast,  # again: narrow_int64 leaves pairs of casts
    eliminate_duplicate,
    eliminate_identity,  # again: eliminate_duplicate and fold_constants may leave one-input nodes
)
# What keeps layers on a DLA; run after PASSES, only for a plan that uses one. Each does nothing for other targets.
DLA: tuple[Pass, ...] = (
    decompose_hardswish,
    shift_clip,
    cascade_average_pool,
    cascade_max_pool,
    count_pool_padding,
    crop_deconv,
    convolve_pad,
    convolve_slice,
    convolve_gemm,  # after the pools, which leave the 1x1 maps that are flattened
    symmetrize_padding,
    fold_affine,  # again: scales of decompose_hardswish and shift_clip that a Conv can swallow
    eliminate_duplicate,
)
# Then types: ranges were measured on the graph that the passes above left.
PRECISION: tuple[Pass, ...] = (convert_float16,)
# Last, because every rewrite would break up groups again.
GROUPING: tuple[Pass, ...] = (form_fusion_groups,)
ALL: tuple[Pass, ...] = PASSES + PRECISION + GROUPING


def pass_names(passes: tuple[Pass, ...] = ALL) -> tuple[str, ...]:
    """Their names in order, each once."""
    return tuple(dict.fromkeys(p.__name__ for p in passes))


def select_passes(without: tuple[str, ...], passes: tuple[Pass, ...] = ALL) -> tuple[Pass, ...]:
    """The list without the named passes.

    Raises:
        UsageError: no pass has that name.
    """
    known = pass_names(passes)
    for name in without:
        if name not in known:
            raise UsageError(f"no pass is called '{name}'", expected=", ".join(known), got=name)
    return tuple(p for p in passes if p.__name__ not in without)


def run_passes(
    model: ir.Model,
    context: PassContext,
    *,
    passes: tuple[Pass, ...] = PASSES,
    progress: Callable[[str, float], None] = lambda what, fraction: None,
) -> tuple[ir.Model, tuple[Step, ...], tuple[FusionGroup, ...]]:
    """Every pass in order; returns the new model, what each step did, and the fusion groups of the last one."""
    steps: list[Step] = []
    groups: tuple[FusionGroup, ...] = ()
    digest = digest_model(model)
    for index, graph_pass in enumerate(passes):
        progress(graph_pass.__name__, index / len(passes))
        model, step, report = run_pass(model, graph_pass, context, digest=digest)
        digest = step.digest_after
        steps.append(step)
        groups = report.groups or groups
    progress("passes", 1.0)
    return model, tuple(steps), groups
