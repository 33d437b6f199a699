"""The target files obey their rules, the reader refuses files that do not, and known values are where they belong."""

import copy
import dataclasses
import time

import pytest

from hwc import targets
from hwc.artifacts import Target
from hwc.errors import InternalError, UsageError
from hwc.serialize import from_json, to_json
from hwc.targets.read_target import target_from_dict
from hwc.targets.required_facts import DLA_FACTS, GPU_FACTS, required_facts

ASKED_FOR = [
    "cpu",
    *("rtx-3080", "rtx-3090", "rtx-4090", "rtx-5090"),
    *("t4", "a10", "a100", "a100-40gb", "l4", "h100", "h200"),
    *("agx-xavier-16gb", "agx-xavier-32gb", "agx-xavier-64gb", "xavier-nx-8gb", "xavier-nx-16gb"),
    *("agx-orin-32gb", "agx-orin-64gb", "orin-nx-8gb", "orin-nx-16gb"),
    *("orin-nano-4gb", "orin-nano-8gb", "orin-nano-8gb-super"),
    *("agx-thor", "thor-t4000", "jetson-nano", "tx2"),
]


@pytest.fixture(scope="module")
def all_targets() -> dict[str, Target]:
    return {name: targets.load(name) for name in targets.names()}


@pytest.fixture
def sound_file() -> dict:
    """The smallest content that the reader accepts: a cpu whose facts are all unknown."""
    unknown = {"unknown": True, "source": "measured on the machine by probe"}
    return {
        "name": "cpu",
        "title": "A CPU",
        "family": "cpu",
        "engine": "openvino",
        "notes": [],
        "facts": {name: {**unknown, "unit": unit} for name, unit in required_facts("cpu", None).items()},
        "power_modes": [{"id": "0", "name": "MAXN", "source": "a made-up table for this test"}],
    }


def test_names_are_the_ones_asked_for_and_unique():
    assert sorted(targets.names()) == sorted(ASKED_FOR)
    assert len(set(targets.names())) == len(targets.names())
    assert not set(targets.names()) & set(targets.ALIASES)


@pytest.mark.parametrize("name", ASKED_FOR)
def test_every_fact_has_a_source_and_a_unit(name, all_targets):
    target = all_targets[name]
    assert target.name == name
    for fact_name, fact in target.facts.items():
        assert fact.unit.strip(), fact_name
        assert "://" in fact.source or len(fact.source.split()) >= 2, fact_name
    for mode in target.power_modes:
        assert mode.source.strip()


@pytest.mark.parametrize("name", ASKED_FOR)
def test_survives_the_manifest(name, all_targets):
    assert from_json(Target, to_json(all_targets[name])) == all_targets[name]


def test_gpu_targets_state_the_same_facts(all_targets):
    for target in all_targets.values():
        if target.family != "cpu":
            assert set(GPU_FACTS) <= set(target.facts), target.name
        if "dla.count" in target.facts and target.number("dla.count") > 0:
            assert set(DLA_FACTS) <= set(target.facts), target.name


def test_engine_follows_the_family(all_targets):
    engines = {"cpu": "openvino", "geforce": "tensorrt_rtx", "datacenter": "tensorrt", "jetson": "tensorrt"}
    for target in all_targets.values():
        assert target.engine == engines[target.family]
        if target.engine == "tensorrt_rtx":
            assert target.fact("engine.tensorrt_rtx_supported").value is True
        if target.family == "jetson":
            assert target.fact("engine.tensorrt_rtx_supported").value is False


def test_spot_values_agx_xavier(all_targets):
    target = all_targets["agx-xavier-32gb"]
    assert target.fact("gpu.compute_capability").value == "7.2"
    assert target.number("gpu.sm_count") == 8
    assert target.number("memory.bandwidth_gb_s") == 136.5
    assert target.fact("memory.unified").value is True
    assert target.fact("software.tensorrt").value == "8.5.2"
    assert target.fact("software.python").value == "3.8"
    assert target.number("dla.count") == 2
    assert target.fact("dla.generation").value == "1.0"
    assert target.number("dla.conv_kernel_max") == 32
    assert target.fact("dla.softmax").value is False
    default = [mode for mode in target.power_modes if mode.is_default]
    assert [(mode.name, mode.watts, mode.gpu_clock_mhz) for mode in default] == [("MODE_15W", 15, 670)]
    assert target.power_modes[0].watts == 0  # MAXN is uncapped


def test_spot_values_of_others(all_targets):
    card = all_targets["rtx-4090"]
    assert card.fact("gpu.compute_capability").value == "8.9"
    assert card.number("gpu.sm_count") == 128
    assert card.number("memory.bandwidth_gb_s") == 1008
    assert card.fact("engine.tensorrt_rtx_compute_capability").value == "SM89"
    assert all_targets["jetson-nano"].number("gpu.int8_tops") == 0
    assert all_targets["agx-orin-64gb"].fact("dla.generation").value == "2.0"
    assert all_targets["orin-nx-8gb"].number("dla.count") == 1
    assert {"MAXN_SUPER", "40W"} <= {mode.name for mode in all_targets["orin-nx-16gb"].power_modes}
    assert all_targets["h200"].fact("engine.tensorrt_rtx_supported").value is False


def test_fp32_rates_agree_with_cores_and_clock(all_targets):
    # FP32 = 2 operations per CUDA core and clock; 2 % covers the rounding of published figures.
    for target in all_targets.values():
        names = ("gpu.cuda_cores", "gpu.clock_max_mhz", "gpu.fp32_tflops")
        if all(target.knows(name) for name in names):
            cores, clock_mhz, tflops = (target.number(name) for name in names)
            assert tflops == pytest.approx(cores * 2 * clock_mhz / 1e6, rel=0.02), target.name


def test_unknown_stays_none(all_targets):
    thor = all_targets["agx-thor"]
    assert thor.fact("gpu.int8_tops").value is None
    assert not thor.knows("gpu.int8_tops")
    # What the reader of ONNX files takes is a fact of the software; the machine itself is left to the probe.
    known = {name for name, fact in all_targets["cpu"].facts.items() if fact.is_known}
    assert known == {"software.onnx_opset_max"}


@pytest.mark.parametrize("alias", sorted(targets.ALIASES))
def test_aliases_lead_to_targets(alias):
    assert targets.load(alias).name == targets.ALIASES[alias]


def test_agx_xavier_means_32gb():
    assert targets.resolve_name("agx-xavier") == "agx-xavier-32gb"


def test_unknown_name_lists_the_closest():
    with pytest.raises(UsageError) as caught:
        targets.load("rtx-4080")
    assert "rtx-4090" in caught.value.expected
    with pytest.raises(UsageError, match="one of: .*agx-thor"):
        targets.load("zzzzzz")


def test_case_is_not_forgiven():
    with pytest.raises(UsageError) as caught:
        targets.load("RTX-4090")
    assert "rtx-4090" in caught.value.expected


def test_loading_is_quick():
    best = min(_seconds_to_load("agx-orin-64gb") for _ in range(5))
    assert best < 0.05  # about 7 ms on an idle 2-core machine; the margin is for a busy one


def _seconds_to_load(name: str) -> float:
    started = time.perf_counter()
    targets.load(name)
    return time.perf_counter() - started


@pytest.mark.parametrize(
    ("target", "tensorrt", "expected"),
    [
        ("agx-xavier", "8.5.2.2", True),
        ("agx-xavier", "10.3.0", None),
        ("agx-orin", "10.3.0.30", True),
        ("agx-orin", "10.7.0.23", True),
        ("agx-orin", "10.8", False),
        ("agx-orin", "10.16.0.72", False),
        ("agx-orin", "11.3.1", False),
        ("agx-orin", "11.4.0", False),
        ("agx-orin", "11.4.1", True),
        ("agx-orin", "12.0", None),
        ("orin-nx", "11.4.1", None),
        ("orin-nano", "10.3.0", False),
        ("rtx-4090", "10.3.0", False),
        ("cpu", "10.3.0", False),
    ],
)
def test_dla_support_is_a_table(target, tensorrt, expected):
    assert targets.find_dla_support(targets.load(target), tensorrt) is expected


def test_dla_support_agrees_with_the_stated_version(all_targets):
    for target in all_targets.values():
        if target.family == "jetson":
            stated = str(target.fact("software.tensorrt").value)
            assert targets.find_dla_support(target, stated) == target.fact("tensorrt.dla_supported").value


def test_dla_support_refuses_a_word():
    with pytest.raises(UsageError, match="not a TensorRT version"):
        targets.find_dla_support(targets.load("agx-orin"), "newest")


def test_reader_accepts_the_sound_file(sound_file):
    assert target_from_dict(sound_file, where="here").name == "cpu"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": ""}, "'source' is missing or empty"),
        ({"source": "DQ_XAV"}, "a URL or a sentence"),
        ({"source": None}, "'source' is missing or empty"),
        ({"unit": " "}, "'unit' is missing or empty"),
        ({"unit": "MHz"}, "wrong unit"),
        ({"value": 4}, "either a value or"),
        ({"unknown": False}, "either a value or"),
        ({"unknown": False, "value": -4}, "finite and not negative"),
        ({"unknown": False, "value": float("nan")}, "finite and not negative"),
        ({"unknown": False, "value": ""}, "is not empty"),
        ({"unknown": False, "value": [1, 2]}, "a list of texts"),
        ({"guess": 4}, "unknown key 'guess'"),
    ],
)
def test_reader_refuses_a_broken_fact(sound_file, change, message):
    broken = copy.deepcopy(sound_file)
    broken["facts"]["cpu.cores"].update(change)
    with pytest.raises(InternalError, match=message):
        target_from_dict(broken, where="here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "fpga"}, "unknown family"),
        ({"engine": "tvm"}, "unknown engine"),
        ({"title": ""}, "'title' is missing"),
        ({"colour": "green"}, "unknown key 'colour'"),
        ({"facts": {}}, "fact 'cpu.architecture' is missing"),
        ({"power_modes": [{"id": "0", "name": "MAXN", "source": "x"}]}, "a URL or a sentence"),
        ({"power_modes": [{"id": "0", "name": "A", "source": "a table"}] * 2}, "share one id"),
        ({"power_modes": [{"id": "0", "name": "A", "source": "a table", "watts": "ten"}]}, "'watts' must be a number"),
        (
            {"power_modes": [{"id": i, "name": i, "source": "a table", "is_default": True} for i in "01"]},
            "two power modes are the default",
        ),
    ],
)
def test_reader_refuses_a_broken_file(sound_file, change, message):
    with pytest.raises(InternalError, match=message):
        target_from_dict({**sound_file, **change}, where="here")


def test_a_file_under_another_name_is_refused(tmp_path, monkeypatch):
    text = (targets.DATA / "cpu.toml").read_text()
    (tmp_path / "gpu.toml").write_text(text)
    (tmp_path / "torn.toml").write_text(text + 'name = "torn')
    monkeypatch.setattr(targets, "DATA", tmp_path)
    with pytest.raises(InternalError, match="must be its file's name"):
        targets.load("gpu")
    with pytest.raises(InternalError, match="is not TOML"):
        targets.load("torn")


def test_a_target_is_frozen(all_targets):
    with pytest.raises(dataclasses.FrozenInstanceError):
        all_targets["cpu"].name = "gpu"


def test_the_rails_that_are_summed_are_rails_of_the_board(all_targets):
    for name, target in all_targets.items():
        if target.family != "jetson" or not target.knows("power.sum_rails"):
            continue
        rails, total = target.fact("power.sum_rails").value, target.fact("power.total_rail").value
        assert set(rails) <= {*target.fact("power.rails").value, total}, name
        # One rail that holds all, or several that hold each other in no part; never both.
        assert rails == (total,) if total != "none" else len(rails) > 1, name
        if total == "none":
            assert target.knows("power.omits"), name
