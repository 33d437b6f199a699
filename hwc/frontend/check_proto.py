"""What an ONNX file must fulfil before anything else reads it, checked on the protobuf message alone.

Everything behind this check trusts sizes, names and references: numpy, onnx_ir, and above all onnx's C++ shape
inference, where a bad file means a crash and not an exception. The rules, each named in its message:

1. versions: ir_version, one known opset per domain in use;
2. nesting: subgraphs at most MAX_DEPTH deep;
3. names: every value is made once along a path of scopes (ONNX IR spec, "Names Within a Graph");
4. references: everything read is made somewhere in scope, and no node waits for itself;
5. operators: those of the default domain exist in the opset, and their attributes have the schema's names and types;
6. tensors and their external data: see check_tensor.py.

Source: https://onnx.ai/onnx/repo-docs/IR.html.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hwc.errors import UsageError
from hwc.frontend.check_tensor import check_tensor, check_type

MAX_DEPTH = 16  # subgraphs in subgraphs; real models stay below 4
MIN_OPSET = 7  # ONNX 1.2 (2018); older files say broadcasting in attributes that nothing writes any more
_DEFAULT = ("", "ai.onnx")


def check_proto(proto: Any, folder: Path | None) -> tuple[str, ...]:
    """Checks an onnx.ModelProto; `folder` is where its external data lie, None if it came without a place.

    Returns:
        Notes: operators of other domains, which only an engine can judge.

    Raises:
        UsageError: the file breaks one of the rules above.
    """
    if not proto.HasField("graph"):
        raise UsageError("the file holds no graph", do="export the model again")
    versions = _check_versions(proto)
    functions = {(f.domain, f.name) for f in proto.functions}
    checker = _Checker(versions.get("", 0), set(versions), functions, folder)
    checker.check_graph(proto.graph, [], 0)
    _check_recursion(proto.functions)
    for function in proto.functions:
        own = {entry.domain or "": entry.version for entry in function.opset_import}
        inner = _Checker(
            own.get("", own.get("ai.onnx", versions.get("", 0))), set(versions) | set(own), functions, folder
        )
        inner.check_function(function)
        checker.foreign.update(inner.foreign)
        checker.unknown.update(inner.unknown)
    if checker.unknown:
        listed = "; ".join(f"{op}: {', '.join(nodes[:3])}" for op, nodes in sorted(checker.unknown.items()))
        raise UsageError(
            f"opset {versions.get('', 0)} has no such operator: {', '.join(sorted(checker.unknown)[:8])}",
            where=listed[:600],
            do="if these are custom operators, give their nodes a domain of their own and import it",
        )
    return tuple(
        f"custom operator {op} ({len(nodes)} node{'s' * (len(nodes) > 1)}: {', '.join(nodes[:3])})"
        for op, nodes in sorted(checker.foreign.items())
    )


def _check_versions(proto: Any) -> dict[str, int]:
    import onnx

    if not 3 <= proto.ir_version <= onnx.IR_VERSION:
        raise UsageError(
            "the file's IR version is not one that can be read", expected=f"3 to {onnx.IR_VERSION}",
            got=str(proto.ir_version), do="upgrade the onnx package" if proto.ir_version > onnx.IR_VERSION else "",
        )  # fmt: skip
    versions: dict[str, int] = {}
    for entry in proto.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if versions.setdefault(domain, entry.version) != entry.version:
            raise UsageError(
                f"the file imports two versions of domain '{domain or 'ai.onnx'}'",
                got=f"{versions[domain]}, {entry.version}",
            )
    newest = onnx.defs.onnx_opset_version()
    if not versions:
        raise UsageError("the file imports no opset", expected=f"ai.onnx {MIN_OPSET} to {newest}")
    if "" in versions and not MIN_OPSET <= versions[""] <= newest:
        raise UsageError(
            f"opset {versions['']} cannot be read",
            expected=f"{MIN_OPSET} to {newest}",
            got=str(versions[""]),
            do="export the model again with opset 18" if versions[""] < MIN_OPSET else "upgrade the onnx package",
        )
    return versions


def _check_recursion(functions: Iterable[Any]) -> None:
    """Inlining a function that calls itself would never end."""
    calls = {
        (f.domain, f.name): {(n.domain, n.op_type) for n in _all_nodes(f.node)} for f in functions
    }
    done: set[tuple[str, str]] = set()
    while len(done) < len(calls):
        ready = {name for name, used in calls.items() if name not in done and not (used & set(calls)) - done}
        if not ready:
            rest = sorted(set(calls) - done)
            raise UsageError("model functions call each other in a circle", where=", ".join("::".join(n) for n in rest))
        done |= ready


def _all_nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in _graphs(attribute):
                yield from _all_nodes(graph.node)


def _graphs(attribute: Any) -> list[Any]:
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


class _Checker:
    """One walk over the graphs; collects unknown and foreign operators on the way."""

    def __init__(
        self, opset: int, domains: set[str], functions: set[tuple[str, str]], folder: Path | None
    ) -> None:
        self.opset = opset
        self.domains = domains
        self.functions = functions
        self.folder = folder
        self.unknown: dict[str, list[str]] = {}
        self.foreign: dict[str, list[str]] = {}

    def check_function(self, function: Any) -> None:
        self._check_nodes(function.node, [set(function.input)], list(function.output), 0, f"function '{function.name}'")

    def check_graph(self, graph: Any, scopes: list[set[str]], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise UsageError(f"subgraphs are nested deeper than {MAX_DEPTH}", where=f"graph '{graph.name}'")
        where = f"graph '{graph.name}'"
        known: set[str] = set()
        for value in graph.input:
            if not value.name or value.name in known:
                raise UsageError(f"two graph inputs are called '{value.name}'" if value.name else
                                 "a graph input has no name", where=where)  # fmt: skip
            known.add(value.name)
        for value in [*graph.input, *graph.output, *graph.value_info]:
            check_type(value.type, value.name)
        # IR version 3 lists initializers as inputs too; two initializers of one name are never legal.
        seen: set[str] = set()
        for tensor in graph.initializer:
            if not tensor.name or tensor.name in seen:
                raise UsageError(f"two initializers are called '{tensor.name}'" if tensor.name else
                                 "an initializer has no name", where=where)  # fmt: skip
            seen.add(tensor.name)
            check_tensor(tensor, f"initializer '{tensor.name}'", self.folder)
        if graph.sparse_initializer:
            raise UsageError("sparse initializers cannot be read", where=where, do="export with dense weights")
        outputs = [value.name for value in graph.output]
        if not outputs:
            raise UsageError("the graph has no outputs", where=where)
        self._check_nodes(graph.node, [*scopes, known | seen], outputs, depth, where)

    def _check_nodes(self, nodes: Any, scopes: list[set[str]], outputs: list[str], depth: int, where: str) -> None:
        known, outer = scopes[-1], set().union(*scopes[:-1])
        makers: dict[str, int] = {}
        for index, node in enumerate(nodes):
            for name in filter(None, node.output):
                if name in makers or name in known:
                    raise UsageError(f"two values are called '{name}'", where=_label(node, where))
                makers[name] = index
        self._check_order(nodes, makers, known | outer, where)
        inside = [*scopes[:-1], known | set(makers)]
        for node in nodes:
            self._check_operator(node, where)
            for attribute in node.attribute:
                for tensor in [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]:
                    check_tensor(tensor, f"attribute '{attribute.name}' of {_label(node, where)}", self.folder)
                if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                    raise UsageError("sparse tensors cannot be read", where=_label(node, where))
                for graph in _graphs(attribute):
                    self.check_graph(graph, inside, depth + 1)
        for name in outputs:
            if name not in makers and name not in known and name not in outer:
                raise UsageError(f"nothing makes the output '{name}'", where=where)

    def _check_order(self, nodes: Any, makers: dict[str, int], known: set[str], where: str) -> None:
        """Kahn's algorithm: what never becomes ready stands on a circle, or reads from one."""
        waits: list[set[int]] = []
        users: dict[int, list[int]] = {}
        for index, node in enumerate(nodes):
            needs = set()
            for name in _reads(node):
                if name in makers:
                    needs.add(makers[name])
                elif name not in known and name in node.input:
                    raise UsageError(f"nothing makes '{name}'", where=_label(node, where))
            waits.append(needs)
            for need in needs:
                users.setdefault(need, []).append(index)
        ready = [index for index, needs in enumerate(waits) if not needs]
        done = 0
        while ready:
            index = ready.pop()
            done += 1
            for user in users.get(index, ()):
                waits[user].discard(index)
                if not waits[user]:
                    ready.append(user)
        if done < len(nodes):
            stuck = next(index for index, needs in enumerate(waits) if needs)
            raise UsageError("the graph has a cycle", where=_label(nodes[stuck], where))

    def _check_operator(self, node: Any, where: str) -> None:
        import onnx.defs

        names = [attribute.name for attribute in node.attribute]
        if len(set(names)) < len(names) or "" in names:
            raise UsageError("an attribute is given twice or has no name", where=_label(node, where))
        if (node.domain, node.op_type) in self.functions:
            return
        for attribute in node.attribute:
            for text in [attribute.s, *attribute.strings]:
                _check_text(text, f"attribute '{attribute.name}' of {_label(node, where)}")
        if node.domain not in _DEFAULT:
            if node.domain not in self.domains:
                raise UsageError(
                    f"the file imports no opset for domain '{node.domain}'", where=_label(node, where),
                    do="add the domain to opset_import",
                )  # fmt: skip
            self.foreign.setdefault(f"{node.domain}::{node.op_type}", []).append(node.name or node.op_type)
            return
        if not self.opset:
            raise UsageError("the file imports no opset of ai.onnx", where=_label(node, where))
        try:
            schema = onnx.defs.get_schema(node.op_type, self.opset, "")
        except onnx.defs.SchemaError:
            self.unknown.setdefault(node.op_type, []).append(node.name or node.op_type)
            return
        for attribute in node.attribute:
            wanted = schema.attributes.get(attribute.name)
            if wanted is None:
                raise UsageError(
                    f"opset {self.opset} has no attribute '{attribute.name}' for {node.op_type}",
                    where=_label(node, where), expected=", ".join(schema.attributes) or "none",
                )  # fmt: skip
            if int(wanted.type.value) != attribute.type:
                raise UsageError(
                    f"attribute '{attribute.name}' has the wrong type", where=_label(node, where),
                    expected=wanted.type.name, got=_attribute_type(attribute.type),
                )  # fmt: skip


def _check_text(text: bytes, where: str) -> None:
    try:
        text.decode()
    except UnicodeDecodeError:
        raise UsageError("a string is not UTF-8", where=where) from None


def _reads(node: Any) -> Iterator[str]:
    """Names that a node reads, its subgraphs' outer references included (their own names may be among them)."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for graph in _graphs(attribute):
            own = {name for inner in graph.node for name in inner.output}
            own.update(value.name for value in graph.input)
            own.update(tensor.name for tensor in graph.initializer)
            for inner in graph.node:
                yield from (name for name in _reads(inner) if name not in own)
            yield from (value.name for value in graph.output if value.name not in own)


def _label(node: Any, where: str) -> str:
    return f"{node.op_type} '{node.name or (node.output[0] if node.output else '')}' in {where}"


def _attribute_type(number: int) -> str:
    import onnx

    try:
        return str(onnx.AttributeProto.AttributeType.Name(number))
    except ValueError:
        return str(number)


def forget_open_dims(graph: Any) -> int:
    """Clears declared dimensions of -1 in the message, in place; returns how many inputs had one."""
    count, inputs = 0, {value.name for value in graph.input}
    for value in [*graph.input, *graph.output, *graph.value_info]:
        if value.type.WhichOneof("value") == "tensor_type":
            dims = [dim for dim in value.type.tensor_type.shape.dim if dim.HasField("dim_value") and dim.dim_value < 0]
            for dim in dims:
                dim.ClearField("dim_value")
            count += bool(dims) and value.name in inputs
    for node in graph.node:
        for attribute in node.attribute:
            for inner in _graphs(attribute):
                forget_open_dims(inner)
    return count
