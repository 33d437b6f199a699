"""What MODEL may be, and what is refused without being unpickled."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from hwc.errors import UsageError
from hwc.frontend.model_source import ModelSource, load_source, parse_source
from tests.frontend import networks, small_models

FILE = Path(networks.__file__)


class Boom:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_onnx_file() -> None:
    path = small_models.LIGHT / "light_zfnet512.onnx"
    source = parse_source(str(path))
    assert source == ModelSource("onnx", path)
    assert load_source(source).onnx == path


@pytest.mark.parametrize("place", [str(FILE), "tests.frontend.networks"])
@pytest.mark.parametrize("attribute", ["build", "Net"])
def test_callables(place: str, attribute: str) -> None:
    source = parse_source(f"{place}:{attribute}")
    assert source.kind == "python" and source.attribute == attribute and str(source) == f"{place}:{attribute}"
    loaded = load_source(source)
    assert type(loaded.module).__name__ == "Net"
    assert loaded.example_inputs["image"].shape == (2, 3, 8, 8)


def test_a_callable_may_give_an_onnx_file() -> None:
    loaded = load_source(parse_source(f"{FILE}:build_onnx"))
    assert loaded.onnx is not None and loaded.onnx.name == "light_zfnet512.onnx" and loaded.module is None


def test_a_file_may_import_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_net.py").write_text("import torch\nmake = torch.nn.ReLU\n")
    (tmp_path / "net.py").write_text("from neighbour_of_net import make\nnet = make()\n"
                                     "def example_inputs(): return (1,)\n")  # fmt: skip
    loaded = load_source(parse_source(f"{tmp_path}/net.py:net"))
    assert isinstance(loaded.module, torch.nn.ReLU) and loaded.example_inputs == (1,)


def test_torchscript_and_exported_programs(tmp_path: Path) -> None:
    net = torch.nn.Linear(3, 2).eval()
    torch.jit.script(net).save(tmp_path / "script.pt")
    torch.export.save(torch.export.export(net, (torch.ones(1, 3),)), tmp_path / "net.pt2")
    for name, kind in (("script.pt", "torchscript"), ("net.pt2", "exported_program")):
        source = parse_source(str(tmp_path / name))
        assert source.kind == kind
        module = load_source(source).module
        run = module.module() if kind == "exported_program" else module
        torch.testing.assert_close(run(torch.ones(1, 3)), net(torch.ones(1, 3)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("missing.onnx", "there is no file"),
        ("missing.py:net", "there is no file"),
        (str(FILE), "needs the name of a callable"),
        (f"{FILE}:9x", "is not the name of a callable"),
        ("a b:c", "cannot tell what"),
        (str(FILE.parent), "is a folder"),
    ],
)
def test_bad_names(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_source(text)


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("nothing", "(?s)has no 'nothing'.*build"),
        ("build_wrong", "(?s)did not give a model.*int"),
        ("build_failing", "(?s)build_failing.. failed.*networks.py:.*weights are not there"),
    ],
)
def test_bad_callables(attribute: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_source(parse_source(f"{FILE}:{attribute}"))


def test_a_file_that_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("x = 1\ny = x.nothing\n")
    with pytest.raises(UsageError, match=r"(?s)net.py:2.*AttributeError"):
        load_source(parse_source(f"{tmp_path}/net.py:net"))
    with pytest.raises(UsageError, match="cannot import"):
        load_source(parse_source("no_such_package_anywhere:net"))


def test_weights_without_a_network(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(3, 2).state_dict(), tmp_path / "net.pth")
    with pytest.raises(UsageError, match="(?s)holds weights .2 entries. but no network.*file.py:function"):
        parse_source(str(tmp_path / "net.pth"))


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_modules_are_refused_and_not_run(legacy: bool, tmp_path: Path) -> None:
    torch.save({"net": Boom(tmp_path / "ran")}, tmp_path / "net.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UsageError, match="could run any code"):
        parse_source(str(tmp_path / "net.pt"))
    torch.save(torch.nn.Linear(3, 2), tmp_path / "net.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UsageError, match="could run any code"):
        parse_source(str(tmp_path / "net.pt"))
    assert not (tmp_path / "ran").exists()


def test_garbage_is_refused(tmp_path: Path) -> None:
    for name in ("net.pt", "net.pt2", "net.torchscript"):
        (tmp_path / name).write_bytes(b"garbage" * 9)
        with pytest.raises(UsageError):
            parse_source(str(tmp_path / name))


def test_pickles_inside_an_exported_program_are_not_run(tmp_path: Path) -> None:
    good = tmp_path / "good.pt2"
    torch.export.save(torch.export.export(torch.nn.Linear(3, 2), (torch.ones(1, 3),)), good)
    bomb = pickle.dumps(Boom(tmp_path / "ran"))
    for place in ("sample_inputs/model.pt", "constants"):
        bad = tmp_path / "bad.pt2"
        with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w", zipfile.ZIP_STORED) as target:
            for name in source.namelist():
                content = source.read(name)
                if place == "sample_inputs/model.pt" and name.endswith(place):
                    content = bomb
                if place == "constants" and name.endswith("_constants_config.json"):
                    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
                    content = json.dumps({"config": {"c": entry}}).encode()
                target.writestr(name.replace("good/", "bad/"), content)
            target.writestr("bad/data/constants/opaque_obj_0", bomb)
        with pytest.raises(UsageError):
            load_source(parse_source(str(bad)))
    assert not (tmp_path / "ran").exists()
