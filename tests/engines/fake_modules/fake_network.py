"""The stand-in's networks: what the parser makes of an ONNX file, with the types and names that a builder sees."""

import base64
import weakref

from fake_onnx import read_graph
from fake_strict import Strict, require, typed

KINDS = {1: "FLOAT", 2: "UINT8", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "HALF", 16: "BF16"}
OPERATORS = {
    "Conv": "CONVOLUTION", "ConvTranspose": "DECONVOLUTION", "Relu": "ACTIVATION", "MaxPool": "POOLING",
    "QuantizeLinear": "QUANTIZE", "DequantizeLinear": "DEQUANTIZE", "Gather": "GATHER", "Add": "ELEMENTWISE",
    "Mul": "ELEMENTWISE", "NonZero": "NON_ZERO", "Clip": "ACTIVATION", "AveragePool": "POOLING",
    "Reshape": "SHUFFLE",
}  # fmt: skip


class ITensor(Strict):
    name = typed("name", str)
    dtype = typed("dtype", object)
    shape = typed("shape", tuple)
    dynamic_range = typed("dynamic_range", tuple, readonly=True)

    def __init__(self, name, dtype, shape=()):
        self._name, self._dtype, self._shape = name, dtype, tuple(shape)

    def set_dynamic_range(self, low, high):
        self._dynamic_range = (require(low, float, "set_dynamic_range"), require(high, float, "set_dynamic_range"))
        return low < high


class ILayer(Strict):
    name = typed("name", str)
    type = typed("type", object, readonly=True)
    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))

    def __init__(self, name, kind, inputs, outputs, operator):
        self._name, self._type, self._inputs, self._outputs = name, kind, inputs, outputs
        self._operator = operator

    def get_input(self, index):
        return self._inputs[index]

    def get_output(self, index):
        return self._outputs[index]


class INetworkDefinition(Strict):
    name = typed("name", str, "")
    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))
    num_layers = property(lambda self: len(self._layers))

    def __init__(self, flags, is_strong):
        self._flags, self._is_strong = flags, is_strong
        self._inputs, self._outputs, self._layers = [], [], []
        self._parser = self._model = None
        self._open_names = {}

    def get_input(self, index):
        return self._inputs[index]

    def get_output(self, index):
        return self._outputs[index]

    def get_layer(self, index):
        return self._layers[index]

    def _weights_are_alive(self):
        return self._parser is not None and self._parser() is not None


class ParserError(Strict):
    def __init__(self, index, node):
        self._index, self._node = index, node

    def node(self):
        return self._index

    def node_name(self):
        return self._node.name

    def node_operator(self):
        return self._node.operator

    def desc(self):
        return f"No importer registered for op: {self._node.operator}"


class OnnxParser(Strict):
    num_errors = property(lambda self: len(self._errors))

    def __init__(self, network, logger):
        self._network, self._errors = require(network, INetworkDefinition, "OnnxParser"), []
        network._parser = weakref.ref(self)

    def get_error(self, index):
        return self._errors[index]

    def parse_from_file(self, path):
        require(path, str, "parse_from_file")
        module, network = self._module, self._network
        try:
            nodes, inputs, outputs, constants = read_graph(path)
        except (OSError, ValueError, IndexError):
            return False
        names = module.DataType.__members__
        tensors = {}
        for value in inputs:
            kind = KINDS.get(value.kind, "?")
            if kind not in names:
                self._errors.append(ParserError(0, _Stranger(f"input of type {kind}")))
                return False
            shape = tuple(dim if isinstance(dim, int) else -1 for dim in value.dims)
            tensors[value.name] = ITensor(value.name, names[kind], shape)
            network._inputs.append(tensors[value.name])
            network._open_names[value.name] = list(value.dims)
        for index, node in enumerate(nodes):
            if node.operator not in OPERATORS:
                self._errors.append(ParserError(index, node))
                return False
            sources = [_source(tensors, constants, name, names) for name in node.inputs if name]
            first = sources[-1].dtype if node.operator in ("Gather", "DequantizeLinear") else sources[0].dtype
            if node.operator == "Gather":
                first = sources[0].dtype
            dtype = {"QuantizeLinear": names["INT8"], "NonZero": names.get("INT64", names["INT32"])}.get(
                node.operator, sources[1].dtype if node.operator == "DequantizeLinear" else first
            )
            made = [ITensor(name, dtype) for name in node.outputs]
            tensors.update((tensor.name, tensor) for tensor in made)
            kind = module.LayerType.__members__[OPERATORS[node.operator]]
            network._layers.append(ILayer(node.name, kind, sources, made, node.operator))
        for value in outputs:
            tensors[value.name]._shape = tuple(dim if isinstance(dim, int) else -1 for dim in value.dims)
            network._outputs.append(tensors[value.name])
            network._open_names[value.name] = list(value.dims)
        network._model = _bytes_of(path)
        return True


class _Stranger:
    def __init__(self, operator):
        self.name, self.operator = "", operator


def _source(tensors, constants, name, names):
    if name in tensors:
        return tensors[name]
    return ITensor(name, names.get(KINDS.get(constants[name].kind, "FLOAT"), names["FLOAT"]))


def _bytes_of(path):
    """The model as text with its weights inside, so that a plan can run alone; empty where onnx is not installed."""
    try:
        import onnx
    except ImportError:
        return ""
    return base64.b64encode(onnx.load(path).SerializeToString()).decode()
