"""Probing machines that are folders: an AGX Xavier, an x86 container, an empty one; and the real one under the test."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from hwc import targets
from hwc.artifacts import Fact
from hwc.errors import TargetError
from hwc.targets import probe as probing
from hwc.targets.compare_machine import compare, with_probed
from hwc.targets.required_facts import CPU_FACTS

XAVIER = {
    "proc/device-tree/model": "Jetson-AGX\x00",
    "proc/device-tree/compatible": "nvidia,p2972-0000\x00nvidia,p2888-0004\x00nvidia,tegra194\x00",
    "etc/nv_tegra_release": "# R35 (release), REVISION: 6.4, GCID: 1, BOARD: t186ref, EABI: aarch64\n",
    "proc/meminfo": "MemTotal:       31928000 kB\nMemFree: 1 kB\n",
    "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp\n\nprocessor\t: 1\n",
}
X86 = {
    "proc/cpuinfo": "".join(
        f"processor\t: {i}\nmodel name\t: Example CPU 9000\ncpu MHz\t\t: 2100.5\n"
        "flags\t\t: fpu avx2 avx512f avx512_vnni avx512_bf16 amx_int8 hypervisor\n\n"
        for i in range(8)
    ),
    "proc/meminfo": "MemTotal:       67108864 kB\n",
    "proc/1/cgroup": "0::/\n",
    ".dockerenv": "",
    "sys/devices/system/cpu/cpu0/cache/index0/level": "1\n",
    "sys/devices/system/cpu/cpu0/cache/index0/type": "Data\n",
    "sys/devices/system/cpu/cpu0/cache/index0/size": "48K\n",
    "sys/devices/system/cpu/cpu0/cache/index2/level": "2\n",
    "sys/devices/system/cpu/cpu0/cache/index2/type": "Unified\n",
    "sys/devices/system/cpu/cpu0/cache/index2/size": "2M\n",
}


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def answer(**outputs: str):
    """A stand-in for running commands: knows the output of a few programs by name."""
    return lambda command: outputs.get(command[0].replace("-", "_"))


@pytest.fixture
def xavier(tmp_path, monkeypatch) -> dict[str, Fact]:
    monkeypatch.setattr(probing.importlib.metadata, "version", {"tensorrt": "8.5.2.2"}.__getitem__)
    monkeypatch.setattr(probing.importlib.metadata, "PackageNotFoundError", KeyError)
    monkeypatch.setattr(probing.platform, "python_version", lambda: "3.8.10")
    return probing.probe(plant(tmp_path, XAVIER), run=answer(nvpmodel="NV Power Mode: MODE_15W\n2\n"))


def test_jetson_is_recognised(xavier):
    assert xavier["jetson.model"].value == "Jetson-AGX"
    assert xavier["jetson.soc"].value == "tegra194"
    assert xavier["jetson.module_part_numbers"].value == ("p2888-0004", "p2972-0000")
    assert xavier["software.l4t"].value == "35.6.4"
    assert xavier["jetson.power_mode"].value == "MODE_15W"
    assert xavier["memory.size_gb"].value == pytest.approx(30.45, abs=0.01)
    assert xavier["software.tensorrt"].value == "8.5.2.2"
    assert all(fact.source and fact.unit for fact in xavier.values())


def test_the_right_board_has_no_differences(xavier):
    assert compare(targets.load("agx-xavier-32gb"), xavier) == ()


def test_another_memory_size_is_seen(xavier):
    found = {difference.fact: difference for difference in compare(targets.load("agx-xavier-64gb"), xavier)}
    assert set(found) == {"memory.size_gb", "jetson.module_part_numbers"}
    assert "p2888-0005" in found["jetson.module_part_numbers"].expected


def test_another_board_is_other_hardware(xavier):
    found = {difference.fact: difference for difference in compare(targets.load("agx-orin"), xavier)}
    assert found["jetson.soc"].is_identity
    assert (found["jetson.soc"].expected, found["jetson.soc"].found) == ("tegra234", "tegra194")
    assert (found["software.tensorrt"].expected, found["software.tensorrt"].found) == ("10.3.0", "8.5.2.2")
    assert found["software.python"].source


def test_a_newer_python_or_l4t_is_a_difference(xavier):
    changed = {
        **xavier,
        "software.l4t": Fact("35.4.1", "version", "a file"),
        "software.python": Fact("3.80", "version", "x"),
    }
    found = {difference.fact for difference in compare(targets.load("agx-xavier"), changed)}
    assert found == {"software.l4t", "software.python"}


def test_an_unknown_power_mode_is_a_difference(xavier):
    changed = {**xavier, "jetson.power_mode": Fact("MODE_99W", "name", "nvpmodel -q")}
    assert [difference.fact for difference in compare(targets.load("agx-xavier"), changed)] == ["jetson.power_mode"]


def test_a_missing_runtime_is_a_difference(xavier):
    del xavier["software.tensorrt"]
    assert [difference.fact for difference in compare(targets.load("agx-xavier"), xavier)] == ["software.tensorrt"]


def test_nvidia_smi_is_read(tmp_path):
    rows = "NVIDIA H200, 9.0, 143771, 1980, 570.1, 700.00\nNVIDIA H200, 9.0, 143771, 1980, 570.1, 700.00\n"
    seen = probing.probe(tmp_path, run=answer(nvidia_smi=rows))
    assert seen["machine.gpu_count"].value == 2
    assert seen["gpu.compute_capability"].value == "9.0"
    assert seen["memory.size_gb"].value == pytest.approx(140.4)
    assert not any(difference.is_identity for difference in compare(targets.load("h200"), seen))
    assert {difference.fact for difference in compare(targets.load("h100"), seen)} >= {"memory.size_gb"}
    assert any(difference.is_identity for difference in compare(targets.load("rtx-4090"), seen))


def test_nvidia_smi_without_answers_gives_no_facts(tmp_path):
    seen = probing.probe(tmp_path, run=answer(nvidia_smi="Orin (nvgpu), [N/A], [N/A], [N/A], 540.2, [Not Supported]\n"))
    assert seen["gpu.name"].value == "Orin (nvgpu)"
    assert "gpu.compute_capability" not in seen and "memory.size_gb" not in seen
    assert "machine.gpu_count" not in probing.probe(tmp_path, run=answer(nvidia_smi="No devices were found\n"))


def test_a_machine_without_files_says_little(tmp_path):
    seen = probing.probe(tmp_path, run=answer())
    assert not [name for name in seen if name.startswith(("jetson.", "gpu.", "memory."))]
    assert {difference.fact for difference in compare(targets.load("agx-thor"), seen)} >= {"jetson.soc"}


def test_cpu_facts_are_read(tmp_path):
    facts = probing.probe_cpu(plant(tmp_path, X86), is_measured=False)
    assert set(facts) == set(CPU_FACTS)
    assert facts["cpu.model"].value == "Example CPU 9000"
    assert facts["cpu.isa"].value == ("amx", "avx2", "avx512", "bf16", "vnni")
    assert facts["cpu.cores"].value == 8
    assert facts["cpu.clock_mhz"].value == 2100.5
    assert facts["cpu.cache_l1d_kib"].value == 48
    assert facts["cpu.cache_l2_kib"].value == 2048
    assert facts["cpu.cache_l3_kib"].value is None
    assert facts["cpu.container"].value is True and facts["cpu.virtualized"].value is True
    assert facts["memory.size_gb"].value == 64
    assert facts["cpu.fp32_gflops"].value is None


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 1),
    ],
)
def test_a_cgroup_quota_limits_the_cores(tmp_path, files, cores):
    assert probing.probe_cpu(plant(tmp_path, {**X86, **files}), is_measured=False)["cpu.cores"].value == cores


def test_a_cgroup_limits_the_memory(tmp_path):
    root = plant(tmp_path, {**X86, "sys/fs/cgroup/memory.max": str(2 << 30)})
    memory = probing.probe_cpu(root, is_measured=False)["memory.size_gb"]
    assert memory.value == 2 and "cgroup" in memory.source


def test_arm_flags_and_cpufreq_are_read(tmp_path):
    root = plant(tmp_path, {**XAVIER, "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "2265600\n"})
    facts = probing.probe_cpu(root, is_measured=False)
    assert facts["cpu.isa"].value == ("dotprod", "fp16", "neon")
    assert facts["cpu.clock_mhz"].value == 2265.6
    assert facts["cpu.container"].value is False and facts["cpu.virtualized"].value is False


def test_an_empty_machine_is_unknown_not_default(tmp_path):
    facts = probing.probe_cpu(tmp_path, is_measured=False)
    for name in ("cpu.model", "cpu.isa", "cpu.clock_mhz", "cpu.virtualized", "memory.size_gb"):
        assert facts[name].value is None, name


def test_this_machine_is_measured():
    started = time.perf_counter()
    facts = probing.probe_cpu()
    seconds = time.perf_counter() - started
    target = with_probed(targets.load("cpu"), facts)
    # Wide on purpose: it only has to be a machine. 1 GFLOPS is a busy Cortex, 1e5 no CPU yet.
    assert 0.1 < target.number("cpu.fp32_gflops") < 1e5
    assert 0.1 < target.number("memory.bandwidth_gb_s") < 1e4
    assert target.number("cpu.cores") >= 1
    assert "measured here" in target.fact("cpu.fp32_gflops").source
    assert seconds < 5  # about 0.5 s when idle


def test_with_probed_leaves_the_original_alone():
    target = targets.load("cpu")
    filled = with_probed(target, {"cpu.cores": Fact(4, "count", "this test says so")})
    assert filled.number("cpu.cores") == 4
    assert not target.knows("cpu.cores")
    assert not with_probed(filled, {"cpu.model": Fact(None, "name", "not seen here")}).knows("cpu.model")


def test_with_probed_refuses_to_change_a_known_fact():
    with pytest.raises(TargetError) as caught:
        with_probed(targets.load("rtx-4090"), {"gpu.sm_count": Fact(127, "count", "this test says so")})
    assert caught.value.where == "gpu.sm_count" and caught.value.expected == "128 count"


def test_a_command_that_fails_or_is_missing_gives_none():
    assert probing.run_command(["hwc-has-no-such-command"]) is None
    assert probing.run_command([sys.executable, "-c", "raise SystemExit(3)"]) is None
    assert (probing.run_command([sys.executable, "-c", "print('yes')"]) or "").strip() == "yes"


def test_probe_loads_no_runtime():
    code = (
        "import sys; from hwc.targets.probe import probe; probe(); "
        "heavy = {'torch', 'openvino', 'onnxruntime', 'tensorrt', 'tensorrt_rtx', 'numpy'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
