"""Asks the CUDA driver what the first GPU is, and prints the answer as one line of JSON; `{}` where there is no driver.

Run as a process of its own (`probe_board` hands this very text to `python3 -c`), because a driver that does not fit its
kernel module may crash whoever calls it. So it imports nothing of `hwc`. Attribute numbers are those of
CUdevice_attribute in cuda.h: 16 MULTIPROCESSOR_COUNT, 75 and 76 COMPUTE_CAPABILITY_MAJOR and _MINOR, 18 INTEGRATED.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import ctypes
import json
from typing import Dict, Union


def ask_cuda() -> Dict[str, Union[int, str]]:
    """{"name", "compute_capability", "sm_count", "memory_bytes", "driver_cuda", "count"}, or {} without a GPU."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return {}
    number, name, size = ctypes.c_int(0), ctypes.create_string_buffer(256), ctypes.c_size_t(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(number)) or number.value < 1:
        return {}
    answer: Dict[str, Union[int, str]] = {"count": number.value}

    def attribute(which: int) -> int:
        failed = driver.cuDeviceGetAttribute(ctypes.byref(number), which, 0)
        return -1 if failed else number.value

    if not driver.cuDeviceGetName(name, len(name), 0):
        answer["name"] = name.value.decode(errors="replace")
    if not driver.cuDeviceTotalMem_v2(ctypes.byref(size), 0):
        answer["memory_bytes"] = size.value
    if not driver.cuDriverGetVersion(ctypes.byref(number)):
        answer["driver_cuda"] = "%d.%d" % (number.value // 1000, number.value % 1000 // 10)
    major, minor = attribute(75), attribute(76)
    if major >= 0 and minor >= 0:
        answer["compute_capability"] = "%d.%d" % (major, minor)
    if attribute(16) > 0:
        answer["sm_count"] = attribute(16)
    return answer


if __name__ == "__main__":
    print(json.dumps(ask_cuda(), sort_keys=True))  # noqa: T201 - its output is its result
