"""Opset conversion: what each operator means survives, and what cannot be said is refused by name."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx
import onnx.defs
import onnx_ir as ir
import onnxruntime as ort
import pytest

from hwc.errors import UsageError
from hwc.frontend.convert_opset import convert_opset
from hwc.frontend.onnx_file import import_model
from hwc.frontend.opset_adapters import UP
from hwc.graph.model import opset
from hwc.graph.shapes import infer_shapes
from hwc.graph.verify import verify_model
from tests.frontend import small_models

# Changes of signature that need no adapter upwards: each was read in onnx's Changelog.md.
COMPATIBLE = {
    ("Constant", 11), ("Gemm", 11), ("Loop", 11), ("OptionalHasElement", 18), ("Attention", 24),
    ("Resize", 13), ("Pad", 18),
}  # fmt: skip


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, feeds)


def imported(model: onnx.ModelProto) -> ir.Model:
    # A copy: onnx_ir's tensors are views of the message, names included.
    return import_model(ir.from_proto(onnx.ModelProto.FromString(model.SerializeToString()))).model


@pytest.mark.parametrize("version", [17, 18, 20, 21])
@pytest.mark.parametrize("name", small_models.ALL)
def test_models_mean_the_same_in_other_opsets(name: str, version: int) -> None:
    original = small_models.ALL[name]()
    model = imported(original)
    convert_opset(model, version)
    infer_shapes(model, "converted")
    verify_model(model, "converted")
    assert opset(model) == version
    feeds = small_models.feeds_for(original)
    for old, new in zip(run(original, feeds), run(ir.to_proto(model), feeds), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-6)


DOWN = {
    "reduce": "float[2, 3, 4] x) => (float[2, 1, 4] y) { y = ReduceMax (x, axes) }",
    "reduce_all": "float[2, 3, 4] x) => (float[1, 1, 1] y) { y = ReduceMin (x) }",
    "split": "float[7, 2] x) => (float[3, 2] y, float[3, 2] z, float[1, 2] u) "
    "{ y, z, u = Split <num_outputs = 3> (x) }",
    "pad": "float[2, 3, 4] x) => (float[2, 5, 4] y) { y = Pad (x, pads, , axes) }",
    "resize": "float[1, 2, 4, 4] x) => (float[1, 2, 8, 8] y) { y = Resize <antialias = 0, mode = \"linear\", "
    "keep_aspect_ratio_policy = \"stretch\"> (x, , scales) }",
    "scatter": "float[2, 3] x) => (float[2, 3] y) { y = ScatterND <reduction = \"add\"> (x, at, up) }",
}  # fmt: skip
OPERANDS = {"axes": np.array([1]), "pads": np.array([1, 1]), "scales": np.array([1, 1, 2, 2], np.float32),
            "at": np.array([[0, 1]]), "up": np.array([2], np.float32)}  # fmt: skip


@pytest.mark.parametrize("name", DOWN)
def test_operands_become_attributes_again(name: str) -> None:
    body = DOWN[name]
    used = {key: array for key, array in OPERANDS.items() if f" {key}" in body.split("{")[1]}
    original = small_models.with_weights('<ir_version: 8, opset_import: ["" : 18]> g (' + body, **used)
    model = imported(original)
    convert_opset(model, 17)
    infer_shapes(model, "converted")
    feeds = small_models.feeds_for(original)
    for old, new in zip(run(original, feeds), run(ir.to_proto(model), feeds), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-6)


@pytest.mark.parametrize(
    ("body", "version", "message"),
    [
        ("float[2, 3] x, int64[1] a) => (float[1, 3] y) { y = ReduceMax (x, a) }", 17, "computed at run time"),
        ("float[2, 3] x) => (float[2, 3] y) { y = Mish (x) }", 17, "new in opset 18"),
        ("float[1, 1, 4, 4] x, float[4] s) => (float[1, 1, 2, 2] y) { y = Resize <antialias = 1, mode = \"linear\"> "
         "(x, , s) }", 17, "antialias"),
        ("float[2, 3] x, int64[1, 2] i, float[1] u) => (float[2, 3] y) { y = ScatterND <reduction = \"max\"> "
         "(x, i, u) }", 17, "reduction max"),
    ],
)  # fmt: skip
def test_what_an_older_opset_cannot_say_is_refused(body: str, version: int, message: str) -> None:
    model = imported(onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 18]> g (' + body))
    with pytest.raises(UsageError, match=message) as caught:
        convert_opset(model, version)
    assert "node '" in caught.value.where


@pytest.mark.parametrize(
    ("version", "body", "message"),
    [
        (9, "float[2, 3, 4, 4] x, float[3] s) => (float[2, 3, 4, 4] y) { y, m, v, a, b = BatchNormalization "
            "(x, s, s, s, s) z = Add (m, v) }", "training mode"),
        (10, "float[1, 1, 4, 4] x, float[4] s) => (float[N, M, H, W] y) { y = Resize (x, s) }", "on its scales"),
    ],
)  # fmt: skip
def test_what_a_newer_opset_cannot_say_is_refused(version: int, body: str, message: str) -> None:
    text = f'<ir_version: 4, opset_import: ["" : {version}]> g (' + body
    with pytest.raises(UsageError, match=message):
        import_model(ir.from_proto(onnx.parser.parse_model(text)))


def test_resize_of_opset_10_rounds_as_onnx_runtime_does() -> None:
    for scale, size in ((2.0, 10), (0.6, 3)):
        text = (f'<ir_version: 5, opset_import: ["" : 10]> g (float[1, 1, 5, 5] x) => (float[1, 1, {size}, {size}] y) '
                "{ y = Resize <mode = \"nearest\"> (x, s) }")  # fmt: skip
        original = small_models.with_weights(text, s=np.array([1, 1, scale, scale], np.float32))
        feeds = small_models.feeds_for(original)
        np.testing.assert_array_equal(run(ir.to_proto(imported(original)), feeds)[0], run(original, feeds)[0])


def test_every_changed_signature_is_covered() -> None:
    """Fails when a new onnx changes an operator in a way that neither an adapter nor the signatures settle."""
    versions: dict[str, set[int]] = defaultdict(set)
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            versions[schema.name].add(schema.since_version)
    open_changes = []
    for name, found in versions.items():
        steps = sorted(found)
        for older, newer in zip(steps, steps[1:]):
            if newer <= 7 or (name, newer) in UP or (name, newer) in COMPATIBLE:
                continue
            old, new = onnx.defs.get_schema(name, older, ""), onnx.defs.get_schema(name, newer, "")
            lost = set(old.attributes) - set(new.attributes)
            moved = [a.name for a in old.inputs] != [b.name for b in new.inputs][: len(old.inputs)]
            fewer = new.max_output < old.max_output or new.min_input > old.min_input
            if new.deprecated or lost or moved or fewer:
                open_changes.append((name, older, newer))
    assert open_changes == []


def test_the_coverage_check_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(UP, ("Unsqueeze", 13))
    with pytest.raises(AssertionError, match="Unsqueeze"):
        test_every_changed_signature_is_covered()


def test_unknown_versions_are_refused() -> None:
    with pytest.raises(UsageError, match="no such opset"):
        convert_opset(imported(small_models.conv_net()), 99)
