"""Breaks ONNX files on purpose: at random in the bytes, and field by field in the message."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import onnx
from onnx import TensorProto, helper

_NUMBERS = (-1, 0, 1, 2, 7, 255, 2**31 - 1, -(2**31), 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
_OPERATORS = (
    "Add", "Reshape", "Loop", "If", "Scan", "ConstantOfShape", "Range", "Tile", "Expand", "Slice", "Gather", "Concat",
    "Split", "Resize", "Upsample", "LSTM", "TopK", "Constant", "NonMaxSuppression", "Pad", "Einsum", "MaxPool", "Conv",
    "ConvTranspose", "Unsqueeze", "Squeeze", "Transpose", "Shape", "Size", "SequenceAt", "Optional", "Blorp", "",
)  # fmt: skip


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """Truncation, or a few flipped, inserted, removed or repeated bytes."""
    data = bytearray(content)
    kind = rng.randrange(5)
    if kind == 0:
        return bytes(data[: rng.randrange(len(data))])
    for _ in range(rng.choice((1, 1, 2, 5, 30))):
        at = rng.randrange(len(data))
        if kind == 1:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            data[at] = rng.randrange(256)
        elif kind == 3:
            data[at:at] = rng.randbytes(rng.randint(1, 9))
        else:
            start = rng.randrange(len(data))
            data[at:at] = data[start : start + rng.randint(1, 64)]
    return bytes(data)


def mutate_message(content: bytes, rng: random.Random) -> bytes:
    """One to three changes of the message; the result parses, unless a change made it too deep."""
    model = onnx.ModelProto.FromString(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        try:
            rng.choice(_CHANGES)(model, rng)
        except (ValueError, TypeError, IndexError):
            continue  # This field does not take that value, or there is none to change.
    return model.SerializeToString()


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _node(model: onnx.ModelProto, rng: random.Random) -> onnx.NodeProto:
    return rng.choice([node for graph in _graphs(model.graph) for node in graph.node])


def _names(model: onnx.ModelProto) -> list[str]:
    names = ["", "nowhere"]
    for graph in _graphs(model.graph):
        names += [name for node in graph.node for name in [*node.input, *node.output]]
        names += [tensor.name for tensor in graph.initializer] + [value.name for value in graph.input]
    return names


def _tensor(model: onnx.ModelProto, rng: random.Random) -> onnx.TensorProto:
    tensors = [tensor for graph in _graphs(model.graph) for tensor in graph.initializer]
    for graph in _graphs(model.graph):
        tensors += [a.t for node in graph.node for a in node.attribute if a.HasField("t")]
    return rng.choice(tensors)


def rewire(model: onnx.ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    names = node.input if rng.random() < 0.7 else node.output
    names[rng.randrange(len(names))] = rng.choice(_names(model))


def count_operands(model: onnx.ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    names = rng.choice((node.input, node.output))
    if rng.random() < 0.5:
        del names[rng.randrange(len(names)) :]
    else:
        names.extend(rng.choice(_names(model)) for _ in range(rng.choice((1, 3, 40))))


def operator(model: onnx.ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    node.op_type = rng.choice(_OPERATORS)
    if rng.random() < 0.2:
        del node.attribute[:]


def domain(model: onnx.ModelProto, rng: random.Random) -> None:
    _node(model, rng).domain = rng.choice(("", "ai.onnx", "ai.onnx.ml", "acme", "com.microsoft"))


def attribute(model: onnx.ModelProto, rng: random.Random) -> None:
    node = rng.choice([node for graph in _graphs(model.graph) for node in graph.node if node.attribute])
    entry = rng.choice(node.attribute)
    kind = rng.randrange(6)
    if kind == 0:
        entry.type = rng.choice(list(onnx.AttributeProto.AttributeType.values()))
    elif kind == 1:
        entry.i = rng.choice(_NUMBERS)
    elif kind == 2:
        entry.ints[rng.randrange(len(entry.ints))] = rng.choice(_NUMBERS)
    elif kind == 3:
        entry.CopyFrom(helper.make_attribute(entry.name, rng.choice((rng.choice(_NUMBERS), 1e38, "x" * 99, [1, -2]))))
    elif kind == 4:
        entry.name = rng.choice(("", "axis", "to", "value", "body", entry.name + "x"))
    else:
        entry.ref_attr_name = rng.choice(("", "axis"))


def declared_type(model: onnx.ModelProto, rng: random.Random) -> None:
    value = rng.choice([*model.graph.input, *model.graph.output])
    kind = value.type.tensor_type
    if rng.random() < 0.4:
        kind.elem_type = rng.choice((*range(24), 99, -3))
    elif rng.random() < 0.3:
        value.type.sequence_type.elem_type.tensor_type.elem_type = 1
    else:
        rng.choice(kind.shape.dim).dim_value = rng.choice(_NUMBERS)


def tensor_dims(model: onnx.ModelProto, rng: random.Random) -> None:
    tensor = _tensor(model, rng)
    if rng.random() < 0.4:
        tensor.dims.append(rng.choice((1, *_NUMBERS)))
    else:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(_NUMBERS)


def tensor_data(model: onnx.ModelProto, rng: random.Random) -> None:
    tensor = _tensor(model, rng)
    kind = rng.randrange(4)
    if kind == 0:
        tensor.data_type = rng.choice((*range(24), 77, -1))
    elif kind == 1:
        tensor.raw_data = rng.randbytes(rng.choice((0, 1, len(tensor.raw_data), len(tensor.raw_data) + 3)))
    elif kind == 2:
        tensor.data_location = TensorProto.EXTERNAL
        location = rng.choice(("model.onnx", "../x", "/dev/zero", "", "a\0b", "."))
        tensor.external_data.add(key="location", value=location)
        tensor.external_data.add(key=rng.choice(("offset", "length")), value=str(rng.choice((*_NUMBERS, "1e3", ""))))
    else:
        tensor.int64_data.append(rng.choice(_NUMBERS))


def small_values(model: onnx.ModelProto, rng: random.Random) -> None:
    """Operands of Reshape, Slice, ConstantOfShape: shape inference computes with these."""
    tensors = [t for graph in _graphs(model.graph) for t in graph.initializer if t.data_type == TensorProto.INT64]
    tensors += [a.t for graph in _graphs(model.graph) for n in graph.node for a in n.attribute
                if a.HasField("t") and a.t.data_type == TensorProto.INT64]  # fmt: skip
    tensor = rng.choice(tensors)
    count = max(1, len(tensor.raw_data) // 8 + len(tensor.int64_data))
    tensor.ClearField("int64_data")
    tensor.raw_data = b"".join(rng.choice(_NUMBERS).to_bytes(8, "little", signed=True) for _ in range(count))


def names(model: onnx.ModelProto, rng: random.Random) -> None:
    new = rng.choice(("", "x" * 5000, "a/b:0", "\u2603", "y"))
    target = rng.choice((_node(model, rng), _tensor(model, rng), model.graph.input[0], model.graph.output[0]))
    target.name = new


def duplicate(model: onnx.ModelProto, rng: random.Random) -> None:
    graph = rng.choice(list(_graphs(model.graph)))
    items = rng.choice((graph.node, graph.initializer, graph.input, graph.output, model.opset_import))
    items.add().CopyFrom(rng.choice(items))


def remove(model: onnx.ModelProto, rng: random.Random) -> None:
    graph = rng.choice(list(_graphs(model.graph)))
    items = rng.choice((graph.node, graph.initializer, graph.input, graph.output, model.opset_import))
    del items[rng.randrange(len(items))]


def versions(model: onnx.ModelProto, rng: random.Random) -> None:
    if rng.random() < 0.3:
        model.ir_version = rng.choice((*range(15), *_NUMBERS))
    else:
        model.opset_import[0].version = rng.choice((*range(6, 29), *_NUMBERS))


def nest(model: onnx.ModelProto, rng: random.Random) -> None:
    """The whole graph inside a branch of its own, several times over."""
    for _ in range(rng.choice((1, 3, 12))):
        inner = onnx.GraphProto()
        inner.CopyFrom(model.graph)
        outer = _node(model, rng)
        outer.attribute.add(name=rng.choice(("then_branch", "body")), type=onnx.AttributeProto.GRAPH).g.CopyFrom(inner)
        if model.ByteSize() > 200_000:
            return


def sparse(model: onnx.ModelProto, rng: random.Random) -> None:
    if rng.random() < 0.5:
        model.graph.sparse_initializer.add().values.CopyFrom(_tensor(model, rng))
    else:
        _node(model, rng).attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)


def giant(model: onnx.ModelProto, rng: random.Random) -> None:
    """A node that would make a tensor beyond all memory."""
    size = helper.make_tensor("giant_size", TensorProto.INT64, [2], [rng.choice((2**20, 2**30)), 2**30])
    model.graph.initializer.append(size)
    kind = rng.choice(("ConstantOfShape", "Tile", "Expand", "RandomNormal", "Range"))
    out = "giant_out"
    if kind == "ConstantOfShape":
        made = [helper.make_node(kind, ["giant_size"], [out])]
    elif kind == "RandomNormal":
        made = [helper.make_node(kind, [], [out], shape=[2**40, 2**20])]
    elif kind == "Range":
        for name, number in (("g0", 0), ("g1", 2**62), ("g2", 1)):
            model.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [], [number]))
        made = [helper.make_node(kind, ["g0", "g1", "g2"], [out])]
    else:
        made = [helper.make_node(kind, ["giant_size", "giant_size"], [out])]
    made.append(helper.make_node("Shape", [out], ["giant_shape"]))
    model.graph.node.extend(made)
    model.graph.output.add().name = rng.choice((out, "giant_shape"))


_CHANGES: tuple[Callable[[onnx.ModelProto, random.Random], None], ...] = (
    rewire, rewire, count_operands, operator, operator, domain, attribute, attribute, attribute, declared_type,
    tensor_dims, tensor_data, small_values, small_values, names, duplicate, remove, versions, versions, nest, sparse,
    giant,
)  # fmt: skip


def corrupt_text(content: bytes, rng: random.Random) -> bytes:
    """A name that is no UTF-8: same length, so that every length prefix still fits."""
    model = onnx.ModelProto.FromString(content)
    long = [name for name in _names(model) if len(name) > 1 and name != "nowhere"]
    name = rng.choice(long or ["own"]).encode()
    at = content.find(name)
    return content[:at] + b"\xff\xc0"[: len(name)] + content[at + 2 :] if at >= 0 else content[:-1]
