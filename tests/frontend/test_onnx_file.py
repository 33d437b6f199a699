"""Files load into the canonical form with their meaning unchanged; every broken file gives one UsageError."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwc.errors import UsageError
from hwc.frontend.onnx_file import WORKING_OPSET, load_onnx
from hwc.graph.model import opset
from hwc.graph.verify import verify_model
from tests.frontend import small_models

RTOL, ATOL = 1e-5, 1e-6  # the same kernels in the same order: only the opset differs


def run(content: str | bytes, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"]).run(None, feeds)


def save(model: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def assert_same(path: Path, *, seeds: tuple[int, ...] = (0, 1)) -> ir.Model:
    imported = load_onnx(path)
    verify_model(imported.model, "loaded")
    whole = ir.external_data.load_to_model(imported.model.clone())
    content = ir.to_proto(whole).SerializeToString()
    onnx.checker.check_model(onnx.ModelProto.FromString(content), full_check=True)
    original = onnx.load(path, load_external_data=False)
    for seed in seeds:
        feeds = small_models.feeds_for(original, seed)
        for old, new in zip(run(str(path), feeds), run(content, feeds), strict=True):
            np.testing.assert_allclose(new, old, rtol=RTOL, atol=ATOL)
    return imported.model


@pytest.mark.parametrize("name", small_models.ALL)
def test_small_models_keep_their_meaning(name: str, tmp_path: Path) -> None:
    model = assert_same(save(small_models.ALL[name](), tmp_path), seeds=(0, 1, 2, 3))
    assert opset(model) == WORKING_OPSET
    assert not any(node.op_type == "Constant" for node in model.graph.all_nodes())
    assert not model.functions
    names = [node.name for node in model.graph.all_nodes()]
    assert all(names) and len(set(names)) == len(names)


@pytest.mark.parametrize("path", sorted(small_models.LIGHT.glob("light_*.onnx")), ids=lambda path: path.stem)
def test_light_models_keep_their_meaning(path: Path) -> None:
    model = assert_same(path, seeds=(0,))
    assert opset(model) == WORKING_OPSET
    assert not any(value.is_initializer() for value in model.graph.inputs)


def test_notes_say_what_was_done(tmp_path: Path) -> None:
    notes = load_onnx(save(small_models.paddle_like(), tmp_path)).notes
    assert "input dimensions of -1 are open" in notes
    assert any("Constant nodes became initializers" in note for note in notes)
    assert any(note.startswith("opset 11 -> 18") for note in notes)
    assert "2 function calls inlined" in load_onnx(save(small_models.with_function(), tmp_path)).notes


def test_a_branch_may_reuse_the_names_of_its_sibling(tmp_path: Path) -> None:
    model = load_onnx(save(small_models.speech_like(), tmp_path)).model
    values = [value.name for node in model.graph.all_nodes() for value in node.outputs] + list(model.graph.initializers)
    assert len(set(values)) == len(values)


def test_unordered_nodes_are_sorted(tmp_path: Path) -> None:
    model = small_models.conv_net()
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    imported = load_onnx(save(model, tmp_path))
    assert imported.notes == ("nodes were not in order: sorted",)
    assert [node.op_type for node in imported.model.graph] == ["Conv", "Relu", "MaxPool", "ReduceMean", "Gemm"]


def test_stale_declared_shapes_are_recomputed(tmp_path: Path) -> None:
    model = small_models.conv_net()
    model.graph.value_info.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 9, 9, 9]))
    imported = load_onnx(save(model, tmp_path))
    assert imported.notes == ("shapes declared in the file contradict its operators: recomputed",)
    (conv,) = [node for node in imported.model.graph if node.op_type == "Conv"]
    assert list(conv.outputs[0].shape)[1:] == [4, 16, 16]


def test_custom_operators_are_named_and_kept(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18, "acme" : 1]> g (float[2] x) => (float[2] y) '
        "{ a = acme.Magic (x)  y = Relu (a) }"
    )
    assert load_onnx(save(model, tmp_path)).notes == ("custom operator acme::Magic (1 node: Magic)",)


# --- external data ----------------------------------------------------------------------------------------------------


def external(folder: Path, *, location: str = "w.bin", size: int = 4096, offset: int = 0, length: int | None = None,
             write: bool = True) -> Path:  # fmt: skip
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 18]> g (float[2, 32] x) => (float[2, 32] y) '
                                    "{ y = MatMul (x, w) }")  # fmt: skip
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[32, 32], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="offset", value=str(offset))
    if length is not None:
        tensor.external_data.add(key="length", value=str(length))
    model.graph.initializer.append(tensor)
    if write:
        (folder / "w.bin").write_bytes(small_models.weights(1024).tobytes()[:size])
    return save(model, folder)


def test_external_data_are_mapped_not_copied(tmp_path: Path) -> None:
    model = assert_same(external(tmp_path))
    assert isinstance(model.graph.initializers["w"].const_value, ir.ExternalTensor)


def test_more_than_2_gib_of_external_data(tmp_path: Path) -> None:
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 18]> g (float[1, 32768] x) => '
                                    "(float[1, 32768] y) { y = MatMul (x, w) }")  # fmt: skip
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[32768, 32768])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    model.graph.initializer.append(tensor)
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(4 * 2**30)  # sparse: 4 GiB that take no disk
    loaded = load_onnx(save(model, tmp_path)).model
    assert loaded.graph.initializers["w"].const_value.nbytes == 4 * 2**30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"location": "../w.bin"}, "outside the model's folder"),
        ({"location": "/etc/passwd"}, "outside the model's folder"),
        ({"location": "a/../../w.bin"}, "outside the model's folder"),
        ({"location": ""}, "outside the model's folder"),
        ({"location": "C:\\w.bin"}, "outside the model's folder"),
        ({"location": "missing.bin"}, "in a file that is not there"),
        ({"size": 4095}, "does not fit its external data"),
        ({"offset": 1}, "does not fit its external data"),
        ({"offset": 2**62}, "does not fit its external data"),
        ({"length": 4}, "does not fit its external data"),
        ({"offset": -1}, "is no number"),
    ],
)
def test_bad_external_data_are_refused(change: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        load_onnx(external(tmp_path, **change))


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(bytes(4096))
    for name, link in (("soft", os.symlink), ("hard", os.link)):
        folder = tmp_path / name
        folder.mkdir()
        link(tmp_path / "elsewhere", folder / "w.bin")
        with pytest.raises(UsageError, match="link"):
            load_onnx(external(folder, write=False))


# --- broken files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x00" * 100, "not an ONNX file"),
        (b"PK\x03\x04" + b"\xff" * 50, "zip archive"),
        (b"\x80\x04\x95" + b"\xff" * 50, "pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git LFS"),
        (b"<html>not found</html>", "web page"),
        (b"\x08\x08", "holds no graph"),
    ],
)
def test_what_is_no_onnx_file(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        load_onnx(path)
    assert str(path) in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        load_onnx(tmp_path / "none.onnx")
    with pytest.raises(UsageError, match="is not a file"):
        load_onnx(tmp_path)


def no_opset(m: onnx.ModelProto) -> None:
    del m.opset_import[:]


def bad_ir(m: onnx.ModelProto) -> None:
    m.ir_version = 99


def old_opset(m: onnx.ModelProto) -> None:
    m.opset_import[0].version = 6


def future_opset(m: onnx.ModelProto) -> None:
    m.opset_import[0].version = 2**40


def cycle(m: onnx.ModelProto) -> None:
    m.graph.node[0].input[0] = "r"


def undefined(m: onnx.ModelProto) -> None:
    m.graph.node[1].input[0] = "nowhere"


def twice(m: onnx.ModelProto) -> None:
    m.graph.node[1].output[0] = "c"


def unknown_op(m: onnx.ModelProto) -> None:
    m.graph.node[1].op_type = "Blorp"
    m.graph.node[1].name = "blorp7"


def no_domain(m: onnx.ModelProto) -> None:
    m.graph.node[1].domain = "acme"


def short_weights(m: onnx.ModelProto) -> None:
    m.graph.initializer[0].raw_data = m.graph.initializer[0].raw_data[:-1]


def negative_dim(m: onnx.ModelProto) -> None:
    m.graph.initializer[0].dims[0] = -4


def huge_dims(m: onnx.ModelProto) -> None:
    del m.graph.initializer[0].dims[:]
    m.graph.initializer[0].dims.extend([2**40, 2**40])


def wrong_dtype(m: onnx.ModelProto) -> None:
    m.graph.initializer[0].data_type = 77


def wrong_attribute(m: onnx.ModelProto) -> None:
    m.graph.node[0].attribute[0].CopyFrom(helper.make_attribute("kernel_shape", "three"))


def no_output(m: onnx.ModelProto) -> None:
    m.graph.output[0].name = "nothing"


def size_clash(m: onnx.ModelProto) -> None:
    m.graph.initializer[2].CopyFrom(numpy_helper.from_array(small_models.weights(5, 3), "g"))


def sparse(m: onnx.ModelProto) -> None:
    m.graph.sparse_initializer.add()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_opset, "imports no opset"), (bad_ir, "IR version"), (old_opset, "opset 6 cannot be read"),
        (future_opset, "cannot be read"), (cycle, "has a cycle"), (undefined, "nothing makes 'nowhere'"),
        (twice, "two values are called 'c'"), (unknown_op, "(?s)no such operator: Blorp.*blorp7"),
        (no_domain, "imports no opset for domain 'acme'"), (short_weights, "wrong amount of data"),
        (negative_dim, "impossible dimensions"), (huge_dims, "impossible dimensions"),
        (wrong_dtype, "unknown data type"), (wrong_attribute, "wrong type"), (no_output, "nothing makes the output"),
        (size_clash, "types or shapes do not fit"), (sparse, "sparse initializers"),
    ],
)  # fmt: skip
def test_illegal_models_are_refused(change, message: str, tmp_path: Path) -> None:  # noqa: ANN001
    model = small_models.conv_net()
    change(model)
    with pytest.raises(UsageError, match=message) as caught:
        load_onnx(save(model, tmp_path))
    assert "please report this" not in str(caught.value)


def test_functions_that_call_each_other_are_refused(tmp_path: Path) -> None:
    model = small_models.with_function()
    model.functions[0].node[0].CopyFrom(helper.make_node("twice", ["v"], ["w"], domain="own"))
    with pytest.raises(UsageError, match="in a circle"):
        load_onnx(save(model, tmp_path))


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("o", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["o"])], "leaf", [], [value])
    for _ in range(20):
        graph = helper.make_graph(
            [helper.make_node("If", ["c"], ["o"], then_branch=graph, else_branch=helper.make_graph(
                [helper.make_node("Identity", ["x"], ["o"])], "else", [], [value]))], "level", [], [value])  # fmt: skip
    graph.input.extend([helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
                        helper.make_tensor_value_info("c", TensorProto.BOOL, [])])  # fmt: skip
    with pytest.raises(UsageError, match="nested deeper|not an ONNX file"):
        load_onnx(save(helper.make_model(graph), tmp_path))
