"""Reads of an ONNX file what a parser needs, without onnx: nodes, borders, constants. For the stand-ins alone."""

import mmap

from hwc.engines.files import _fields, _varint


class Value:
    """A named tensor: `kind` is the number of its type, `dims` are integers or names of open sizes."""

    def __init__(self, name="", kind=0, dims=()):
        self.name, self.kind, self.dims = name, kind, tuple(dims)


class Node:
    def __init__(self):
        self.name, self.operator, self.inputs, self.outputs = "", "", [], []


def read_graph(path):
    """(nodes, inputs without constants, outputs, constants by name); ValueError or IndexError if it is no such file."""
    nodes, inputs, outputs, constants = [], [], [], {}
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for number, wire, low, high in _fields(data, 0, len(data)):
            if number != 7 or wire != 2:
                continue
            for field, _, start, end in _fields(data, low, high):
                if field == 1:
                    nodes.append(_node(data, start, end))
                elif field == 5:
                    value = _tensor(data, start, end)
                    constants[value.name] = value
                elif field in (11, 12):
                    (inputs if field == 11 else outputs).append(_value(data, start, end))
    if not outputs:
        raise ValueError("no graph")
    return nodes, [value for value in inputs if value.name not in constants], outputs, constants


def _node(data, low, high):
    node = Node()
    for field, _, start, end in _fields(data, low, high):
        if field in (1, 2):
            (node.inputs if field == 1 else node.outputs).append(data[start:end].decode())
        elif field == 3:
            node.name = data[start:end].decode()
        elif field == 4:
            node.operator = data[start:end].decode()
    return node


def _tensor(data, low, high):
    value = Value()
    for field, wire, start, end in _fields(data, low, high):
        if field == 2 and wire == 0:
            value.kind = _varint(data, start)[0]
        elif field == 8:
            value.name = data[start:end].decode()
    return value


def _value(data, low, high):
    value = Value()
    for field, _, start, end in _fields(data, low, high):
        if field == 1:
            value.name = data[start:end].decode()
        elif field == 2:  # TypeProto.tensor_type
            for _, _, first, last in _fields(data, start, end):
                for part, wire, begin, stop in _fields(data, first, last):
                    if part == 1 and wire == 0:
                        value.kind = _varint(data, begin)[0]
                    elif part == 2:
                        value.dims = tuple(_dim(data, a, b) for _, _, a, b in _fields(data, begin, stop))
    return value


def _dim(data, low, high):
    for field, _, start, end in _fields(data, low, high):
        return _varint(data, start)[0] if field == 1 else data[start:end].decode()
    return ""
