"""The facts that every target of a kind has to state, if only as unknown, and the unit of each.

A reader of a target never has to guess whether a fact was forgotten, and two targets cannot disagree about what a
number means. A target may state more facts than these. `gpu.fp16_tflops` and `gpu.int8_tops` are dense rates (the
headline figures of vendors count sparse ones); for a GPU without tensor cores the FP16 rate is that of its CUDA cores.
"""

from __future__ import annotations

from typing import Dict

from hwc.artifacts import Value

CPU_FACTS = {
    "cpu.architecture": "name",
    "cpu.cache_l1d_kib": "KiB",
    "cpu.cache_l2_kib": "KiB",
    "cpu.cache_l3_kib": "KiB",
    "cpu.clock_mhz": "MHz",
    "cpu.container": "yes/no",
    "cpu.cores": "count",
    "cpu.fp32_gflops": "GFLOPS",
    "cpu.isa": "names",
    "cpu.model": "name",
    "cpu.virtualized": "yes/no",
    "memory.bandwidth_gb_s": "GB/s",
    "memory.size_gb": "GB",
}

GPU_FACTS = {
    "dla.count": "count",
    "engine.tensorrt_rtx_compute_capability": "name",
    "engine.tensorrt_rtx_supported": "yes/no",
    "gpu.clock_max_mhz": "MHz",
    "gpu.compute_capability": "version",
    "gpu.cuda_cores": "count",
    "gpu.fp16_tflops": "TFLOPS",
    "gpu.fp32_tflops": "TFLOPS",
    "gpu.int8_tops": "TOPS",
    "gpu.l2_kib": "KiB",
    "gpu.shared_memory_per_sm_kib": "KiB",
    "gpu.sm_count": "count",
    "gpu.tensor_cores": "count",
    "kernel.channel_step_fp16": "channels",
    "kernel.channel_step_int8": "channels",
    "memory.bandwidth_gb_s": "GB/s",
    "memory.size_gb": "GB",
    "memory.unified": "yes/no",
    "power.rails": "names",
    "power.sysfs": "paths",
    "power.tdp_w": "W",
    "power.total_rail": "name",
    "precision.bf16": "yes/no",
    "precision.fp16_fast": "yes/no",
    "precision.fp8": "yes/no",
    "precision.int8_tensor": "yes/no",
    "software.containers": "images",
    "software.cuda": "version",
    "software.onnx_opset_max": "version",
    "software.python": "version",
    "software.tensorrt": "version",
    "software.ubuntu": "version",
    "tensorrt.dla_supported": "yes/no",
}

JETSON_FACTS = {
    "jetson.module_part_numbers": "names",
    "jetson.soc": "name",
    "power.omits": "text",
    "power.sum_rails": "names",
    "software.cudnn": "version",
    "software.jetpack": "version",
    "software.l4t": "version",
}

# Only where dla.count > 0. Limits are closed: a convolution kernel of 32 is the largest that fits.
DLA_FACTS = {
    "dla.activation_ops": "names",
    "dla.asymmetric_padding": "yes/no",
    "dla.average_exclusive": "yes/no",
    "dla.batch_max": "count",
    "dla.cbuf_bank_bytes": "bytes",
    "dla.cbuf_banks": "count",
    "dla.clip_upper_max": "value",
    "dla.clip_upper_min": "value",
    "dla.clock_max_mhz": "MHz",
    "dla.concat_axis": "name",
    "dla.constant_weights": "yes/no",
    "dla.conv_dilation_max": "pixels",
    "dla.conv_groups_max": "count",
    "dla.conv_kernel_max": "pixels",
    "dla.conv_maps_max": "count",
    "dla.conv_padding_max": "pixels",
    "dla.conv_stride_max": "pixels",
    "dla.deconv_dilation_max": "pixels",
    "dla.deconv_groups_max": "count",
    "dla.deconv_kernel_long": "pixels",
    "dla.deconv_kernel_max": "pixels",
    "dla.deconv_padding_max": "pixels",
    "dla.deconv_square_off_min": "pixels",
    "dla.deconv_stride_max": "pixels",
    "dla.dim_max": "count",
    "dla.elementwise_broadcast": "yes/no",
    "dla.elementwise_ops": "rows",
    "dla.explicit_quantization": "rows",
    "dla.fp16_tflops": "TFLOPS",
    "dla.generation": "version",
    "dla.global_dram_bytes": "bytes",
    "dla.int8_equal_scales": "names",
    "dla.int8_tops": "TOPS",
    "dla.layer_types": "names",
    "dla.loadables_by_version": "rows",
    "dla.loadables_per_core": "count",
    "dla.local_dram_bytes": "bytes",
    "dla.lrn_windows": "pixels",
    "dla.managed_sram_bytes": "bytes",
    "dla.pool_padding_max": "pixels",
    "dla.pool_stride_max": "pixels",
    "dla.pool_types": "names",
    "dla.pool_window_max": "pixels",
    "dla.precisions": "names",
    "dla.reduce_ops": "rows",
    "dla.resize_bilinear_max": "factor",
    "dla.resize_nearest_max": "factor",
    "dla.shuffle": "yes/no",
    "dla.slice_precisions": "rows",
    "dla.softmax": "yes/no",
    "dla.softmax_axis_max": "count",
    "dla.softmax_axis_wide_max": "count",
    "dla.sram": "text",
    "dla.static_shapes": "yes/no",
    "dla.unary_ops": "names",
    "tensorrt.dla_by_version": "rows",
}


def required_facts(family: str, dla_count: Value) -> Dict[str, str]:
    """Name -> unit of every fact that a target of this family has to state, if only as unknown."""
    if family == "cpu":
        return CPU_FACTS
    required = dict(GPU_FACTS)
    if family == "jetson":
        required.update(JETSON_FACTS)
    if dla_count:
        required.update(DLA_FACTS)
    return required
