import pytest

from hwc.errors import TargetError, UsageError
from hwc.estimate import EstimateRequest, estimate_model
from hwc.store import Store
from tests.e2e.tiny_models import write_onnx


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(write_onnx(tmp_path_factory.mktemp("model")))


def test_gpu_dla_both_and_energy_where_the_facts_allow(store, model):
    found = estimate_model(EstimateRequest(model, "agx-orin", "int8"), store=store)
    assert found.gpu.low < found.gpu.seconds < found.gpu.high
    assert found.dla is not None and found.together is not None
    assert found.together[0] == pytest.approx(max(1 / found.gpu.seconds, 1 / found.dla.seconds))
    assert found.together[1] == pytest.approx(1 / found.gpu.seconds + 2 / found.dla.seconds)
    assert len(found.energy) == 2 and len({e.power.scope for e in found.energy}) == 2
    for energy in found.energy:
        assert energy.low < energy.joules < energy.high
        assert energy.joules == pytest.approx(energy.power.watts * found.gpu.seconds)
        widest = max(found.gpu.high / found.gpu.seconds, energy.power.high / energy.power.watts)
        assert energy.high / energy.joules >= widest


def test_what_cannot_be_estimated_says_why(store, model):
    found = estimate_model(EstimateRequest(model, "orin-nx", "fp16"), store=store)
    assert found.dla is None and "dla.fp16_tflops" in found.dla_reason and found.together is None
    assert found.energy == () and "no published power" in found.energy_reason
    assert "has no DLA" in estimate_model(EstimateRequest(model, "orin-nano", "fp16"), store=store).dla_reason


def test_a_lower_mode_takes_longer(store, model):
    times = [estimate_model(EstimateRequest(model, "agx-orin", "fp16", mode), store=store).gpu.seconds
             for mode in ("MAXN", "MODE_50W", "MODE_15W")]  # fmt: skip
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("target", "precision", "mode", "error", "words"),
    [
        ("agx-thor", "int8", "", TargetError, "gpu.int8_tops"), ("jetson-nano", "int8", "", TargetError, "int8_tops"),
        ("thor-t4000", "fp16", "", TargetError, "unknown"), ("rtx-4090", "fp16", "", TargetError, "no estimate for"),
        ("orin-nx", "fp16", "15W", TargetError, "memory_clock_mhz"), ("orin", "fp16", "", UsageError, "no target"),
        ("agx-orin", "fp8", "", UsageError, "precision"),
    ],
)  # fmt: skip
def test_unknown_facts_are_named(store, model, target, precision, mode, error, words):
    with pytest.raises(error, match=words):
        estimate_model(EstimateRequest(model, target, precision, mode), store=store)


def test_a_dynamic_size_is_refused_and_a_larger_batch_noted(store, tmp_path):
    from hwc.frontend.input_shapes import parse_shapes

    dynamic = str(write_onnx(tmp_path, batch="N"))
    fixed = parse_shapes("x:4x3x8x8", "", "", "")
    found = estimate_model(EstimateRequest(dynamic, "agx-orin", "fp16", shapes=fixed), store=store)
    assert any("batch 1" in note for note in found.notes)
    with pytest.raises(UsageError):
        ranged = parse_shapes("", "x:1x3x8x8", "x:4x3x8x8", "x:8x3x8x8")
        estimate_model(EstimateRequest(dynamic, "agx-orin", "fp16", shapes=ranged), store=store)


def test_an_unfamiliar_architecture_is_marked(store, model):
    found = estimate_model(EstimateRequest(model, "agx-thor", "fp16"), store=store)
    assert found.gpu.basis == "none" and "no published figure of this compute capability" in found.notes[0]
