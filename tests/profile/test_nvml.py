"""NVML over ctypes, against a fake library in C that answers as the API reference says."""

import pytest

from hwc.errors import EngineError, TargetError, UsageError
from hwc.profile.nvml import Gpu, NotSupported, find_throttles
from tests.profile.fake_nvml import build_fake_nvml


@pytest.fixture(params=["", "-DOLD_NAME"], ids=["driver 535 and newer", "older driver"])
def library(request) -> str:
    return build_fake_nvml(*filter(None, [request.param]))


def test_what_a_gpu_tells(library, monkeypatch):
    monkeypatch.setenv("FAKE_NVML_BITS", str(0x4 | 0x2 | 0x40))
    with Gpu(library=library) as gpu:
        assert (gpu.name, gpu.uuid, gpu.driver()) == ("Fake H100", "GPU-fake-0", "550.00")
        assert gpu.clocks_mhz() == {"gpu sm": 1980, "gpu memory": 2619} and gpu.temperature_c() == 41
        assert gpu.power_instant_mw() in (100000.0, 300000.0)
        assert 150_000 < gpu.power_mw() < 250_000
        first = gpu.energy_mj()
        assert first <= gpu.energy_mj()
        assert find_throttles(gpu.throttle_bits()) == ("power cap", "hardware thermal slowdown")
    gpu.close()  # twice is allowed


def test_what_a_gpu_lacks_is_told_apart_from_a_failure(library, monkeypatch):
    monkeypatch.setenv("FAKE_NVML_LACKS", "all")
    with Gpu(library=library) as gpu:
        for call in (gpu.energy_mj, gpu.power_instant_mw, gpu.power_mw, gpu.throttle_bits):
            with pytest.raises(NotSupported):
                call()
        assert gpu.temperature_c() is None and set(gpu.clocks_mhz().values()) == {None}
        monkeypatch.setenv("FAKE_NVML_CODE", "4")
        with pytest.raises(EngineError, match="failed") as caught:
            gpu.energy_mj()
        assert not isinstance(caught.value, NotSupported) and "root" in caught.value.do
        monkeypatch.delenv("FAKE_NVML_CODE")


def test_no_library_and_no_driver(library, monkeypatch, tmp_path):
    with pytest.raises(TargetError, match="no NVML"):
        Gpu(library=str(tmp_path / "libnvidia-ml.so.1"))
    monkeypatch.setenv("FAKE_NVML_NO_DRIVER", "1")
    with pytest.raises(TargetError, match="does not start") as caught:
        Gpu(library=library)
    assert "Driver Not Loaded" in caught.value.got
    monkeypatch.delenv("FAKE_NVML_NO_DRIVER")
    monkeypatch.setenv("FAKE_NVML_GPUS", "0")
    with pytest.raises(TargetError, match="sees no GPU"):
        Gpu(library=library)


def test_one_of_several_gpus_must_be_named(library, monkeypatch):
    monkeypatch.setenv("FAKE_NVML_GPUS", "3")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(UsageError, match="3 GPUs"):
        Gpu(library=library)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(UsageError, match="3 GPUs"):  # CUDA's own order is another one
        Gpu(library=library)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    with Gpu(library=library) as gpu:
        assert gpu.uuid == "GPU-fake-1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-fake-2")
    with Gpu(library=library) as gpu:
        assert gpu.uuid == "GPU-fake-2"
    with pytest.raises(UsageError, match="no such GPU"):
        Gpu(3, library=library)


def test_a_library_of_something_else_is_refused():
    with pytest.raises(TargetError, match="does not start"):
        Gpu(library="libm.so.6")
