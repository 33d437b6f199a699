"""NVIDIA's management library by ctypes: the few calls that power and clocks need, without any package.

libnvidia-ml.so.1 comes with the driver. Each call returns a code that is 0 for success; a call that this driver or this
GPU does not have (a missing symbol, code 3 or 13) is told apart from one that failed.

Power in three forms: nvmlDeviceGetTotalEnergyConsumption, millijoules since the driver was loaded (Volta and newer);
the field NVML_FI_DEV_POWER_INSTANT (186), milliwatts now; nvmlDeviceGetPowerUsage, milliwatts, which is a mean over one
second on Ampere (GA100 left out) and newer. Bits of the throttle reasons: 0x1 idle, 0x2 application clocks,
0x4 power cap, 0x8 hardware slowdown, 0x10 sync boost, 0x20 software thermal, 0x40 hardware thermal, 0x80 power brake,
0x100 display.

Limit: with several GPUs, one must be named, by CUDA_VISIBLE_DEVICES or by index: CUDA and NVML count in different
orders unless CUDA_DEVICE_ORDER=PCI_BUS_ID. Source: NVML API reference, texts of the calls named.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any, Dict, Optional, Tuple

from hwc.errors import EngineError, TargetError, UsageError

LIBRARY = "libnvidia-ml.so.1"
POWER_INSTANT = 186
CLOCKS = {"gpu sm": 1, "gpu memory": 2}  # nvmlClockType_t: graphics 0, SM 1, memory 2
THROTTLES = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
_NOT_SUPPORTED = (3, 13)  # NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_FUNCTION_NOT_FOUND
_NO_PERMISSION = 4
_GPU_TEMPERATURE = 0
# nvmlValueType_t -> member of the union
_VALUE_TYPES = {0: "double", 1: "uint", 2: "ulong", 3: "ulonglong", 4: "longlong", 5: "int"}


class _Value(ctypes.Union):
    _fields_ = [
        ("double", ctypes.c_double), ("uint", ctypes.c_uint), ("ulong", ctypes.c_ulong), ("int", ctypes.c_int),
        ("ulonglong", ctypes.c_ulonglong), ("longlong", ctypes.c_longlong),
    ]  # fmt: skip


class _FieldValue(ctypes.Structure):
    _fields_ = [
        ("field_id", ctypes.c_uint), ("scope_id", ctypes.c_uint), ("timestamp_us", ctypes.c_longlong),
        ("latency_us", ctypes.c_longlong), ("value_type", ctypes.c_uint), ("result", ctypes.c_uint), ("value", _Value),
    ]  # fmt: skip


class NotSupported(EngineError):
    """This driver or this GPU does not have that call."""


class Gpu:
    """One GPU. A context manager, because NVML counts its users.

    Args:
        index: NVML's number; None takes the only GPU, or the one that CUDA_VISIBLE_DEVICES names.

    Raises:
        TargetError: no NVML or no GPU here.
        UsageError: several GPUs, and none is named.
    """

    def __init__(self, index: Optional[int] = None, *, library: str = LIBRARY) -> None:
        try:
            self._nvml = ctypes.CDLL(library)
        except OSError as error:
            raise TargetError(
                "there is no NVML on this machine", where=library, got=str(error),
                expected="the driver of an NVIDIA GPU", do="choose another meter (--power)",
            ) from None  # fmt: skip
        try:
            self._call("nvmlInit_v2")
        except EngineError as error:
            raise TargetError("NVML does not start", got=error.got, do="check the driver with nvidia-smi") from None
        self._is_open = True
        try:
            self._handle = self._find(index)
            self.name = self._string("nvmlDeviceGetName")
            self.uuid = self._string("nvmlDeviceGetUUID")
        except BaseException:
            self.close()
            raise

    def energy_mj(self) -> int:
        """Millijoules since the driver was loaded. Raises NotSupported before Volta."""
        return self._unsigned("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong)

    def power_mw(self) -> int:
        """Milliwatts; on Ampere (not GA100) and newer a mean over the last second."""
        return self._unsigned("nvmlDeviceGetPowerUsage", ctypes.c_uint)

    def power_instant_mw(self) -> float:
        """Milliwatts now. Raises NotSupported on older drivers and GPUs."""
        field = _FieldValue(field_id=POWER_INSTANT)
        self._call("nvmlDeviceGetFieldValues", self._handle, ctypes.c_int(1), ctypes.byref(field))
        self._check("nvmlDeviceGetFieldValues(NVML_FI_DEV_POWER_INSTANT)", field.result)
        kind = _VALUE_TYPES.get(field.value_type)
        if kind is None:
            raise EngineError("NVML gave a value of an unknown type", got=str(field.value_type))
        return float(getattr(field.value, kind))

    def clocks_mhz(self) -> Dict[str, Optional[int]]:
        """Current SM and memory clock; None where the GPU does not tell."""
        clocks: Dict[str, Optional[int]] = {}
        for name, kind in CLOCKS.items():
            try:
                clocks[name] = self._unsigned("nvmlDeviceGetClockInfo", ctypes.c_uint, ctypes.c_uint(kind))
            except NotSupported:
                clocks[name] = None
        return clocks

    def temperature_c(self) -> Optional[int]:
        """Temperature of the GPU, or None where it is not told."""
        try:
            return self._unsigned("nvmlDeviceGetTemperature", ctypes.c_uint, ctypes.c_uint(_GPU_TEMPERATURE))
        except NotSupported:
            return None

    def throttle_bits(self) -> int:
        """Why the clocks are what they are: bits of the docstring."""
        try:
            return self._unsigned("nvmlDeviceGetCurrentClocksThrottleReasons", ctypes.c_ulonglong)
        except NotSupported:  # renamed in driver 535
            return self._unsigned("nvmlDeviceGetCurrentClocksEventReasons", ctypes.c_ulonglong)

    def driver(self) -> str:
        """Version of the driver."""
        text = ctypes.create_string_buffer(96)
        self._call("nvmlSystemGetDriverVersion", text, ctypes.c_uint(96))
        return text.value.decode("ascii", errors="replace")

    def close(self) -> None:
        """May be called twice."""
        if self._is_open:
            self._is_open = False
            self._call("nvmlShutdown")

    def __enter__(self) -> "Gpu":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _find(self, index: Optional[int]) -> ctypes.c_void_p:
        count = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        if count.value == 0:
            raise TargetError("NVML sees no GPU on this machine", do="choose another meter (--power)")
        handle = ctypes.c_void_p()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        if index is None and visible.startswith("GPU-") and "," not in visible:
            self._call("nvmlDeviceGetHandleByUUID", ctypes.c_char_p(visible.encode()), ctypes.byref(handle))
            return handle
        if index is None and visible.isdigit() and os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":
            index = int(visible)
        if index is None and count.value > 1:
            raise UsageError(
                f"this machine has {count.value} GPUs, and which one runs the engine is not said",
                expected="CUDA_VISIBLE_DEVICES=GPU-<uuid>, or a number with CUDA_DEVICE_ORDER=PCI_BUS_ID",
                got=f"CUDA_VISIBLE_DEVICES={visible!r}", do="nvidia-smi -L prints the identifiers",
            )  # fmt: skip
        index = index or 0
        if not 0 <= index < count.value:
            raise UsageError("no such GPU", expected=f"0 to {count.value - 1}", got=str(index))
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
        return handle

    def _unsigned(self, name: str, kind: Any, *before: Any) -> int:
        value = kind()
        self._call(name, self._handle, *before, ctypes.byref(value))
        return int(value.value)

    def _string(self, name: str) -> str:
        text = ctypes.create_string_buffer(96)
        self._call(name, self._handle, text, ctypes.c_uint(96))
        return text.value.decode("utf-8", errors="replace")

    def _call(self, name: str, *args: Any) -> None:
        try:
            function = getattr(self._nvml, name)
        except AttributeError:
            raise NotSupported(f"this driver's NVML has no {name}", do="update the driver") from None
        self._check(name, function(*args))

    def _check(self, name: str, code: int) -> None:
        if code == 0:
            return
        if code in _NOT_SUPPORTED:
            raise NotSupported(f"this GPU does not answer {name}", got=self._error_text(code))
        do = "run as root, or as a user who may read the GPU" if code == _NO_PERMISSION else "check with nvidia-smi"
        raise EngineError(f"{name} failed", got=self._error_text(code), do=do)

    def _error_text(self, code: int) -> str:
        try:
            function = self._nvml.nvmlErrorString
        except AttributeError:
            return f"code {code}"
        function.restype = ctypes.c_char_p
        return f"code {code}: {(function(code) or b'?').decode('ascii', errors='replace')}"


def find_throttles(bits: int) -> Tuple[str, ...]:
    """Names of the bits that mean that the clocks were lowered against the user's will."""
    return tuple(name for bit, name in THROTTLES.items() if bits & bit)
