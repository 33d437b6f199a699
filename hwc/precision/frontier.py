"""Carries samples through the graph group by group, in FP32 and INT8 side by side, while the plan changes behind them.

At each fusion group the INT8 side has been computed with all that was learned before: so a layer is corrected under the
noise it will really see. Only values that later groups still read are kept, and the number of samples follows from
that: the widest moment must fit in `memory_bytes`. Each group runs once per side, so the cost is that of two passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from hwc.artifacts import FusionGroup
from hwc.precision.differentiate import Tensor, TorchGraph
from hwc.precision.fake_quantize import PlanGraph, Sample
from hwc.precision.measure_plan import Progress, to_torch, with_constants
from hwc.precision.plan import QuantPlan, QuantWeight


class Frontier:
    """Values of some samples between two groups. `weights` and `biases` are what the INT8 side computes with.

    Args:
        teacher: the FP32 graph, with the plan's value names.
        most: how many of `samples` are taken at most; at least one is.

    Raises:
        TargetError: an operator has no torch form.
    """

    def __init__(
        self, plan: QuantPlan, teacher: ir.Model, samples: Sequence[Sample], *, most: int, memory_bytes: int
    ) -> None:
        self.plan = plan
        self.student, self.teacher = PlanGraph(plan), TorchGraph(teacher)
        self.weights: dict[str, QuantWeight] = dict(plan.weights)
        self.biases: dict[str, np.ndarray] = {}
        self.reads = self.student.reads()
        count = max(1, min(most, memory_bytes // self._widest(to_torch(samples[0]))))
        feeds = [to_torch(sample) for sample in samples[:count]]
        self.exact, self.noisy = [dict(feed) for feed in feeds], [dict(feed) for feed in feeds]

    def walk(self, what: str, progress: Progress) -> Iterator[FusionGroup]:
        """Every group in execution order; what the caller changed of it takes effect when the next one is asked for."""
        for index, group in enumerate(self.plan.groups):
            progress(what, index / len(self.plan.groups))
            yield group
            needed = {name for later in self.plan.groups[index + 1 :] for name in later.inputs}
            wanted = tuple(name for name in group.outputs if name in needed)
            if wanted:
                constants = self._constants(group)
                for clean, noisy in zip(self.exact, self.noisy):
                    clean.update(self.teacher.run(_part(clean, group), wanted))
                    given = _part(noisy, group)
                    noisy.update(self.student.graph.run(given, wanted, constants=constants, reads=self.reads))
            for values in (*self.exact, *self.noisy):
                for name in values.keys() - needed:
                    del values[name]

    def layers(self, group: FusionGroup) -> list[tuple[str, ir.Node]]:
        """(weight, node) of each node of the group that reads integers, in graph order."""
        return [(name, n) for name, nodes in self.student.readers.items() for n in nodes if n.name in group.nodes]

    def inputs(self, node: ir.Node) -> Iterator[tuple[Tensor, Tensor]]:
        """The data input of a node of the present group, per sample: FP32, and INT8 behind its quantizer."""
        name = str(node.inputs[0].name)  # type: ignore[union-attr]
        for clean, noisy in zip(self.exact, self.noisy):
            x = self.teacher.run(_given(clean, name), (name,))[name]
            y = self.student.graph.run(_given(noisy, name), (name,), reads=self.reads)[name]
            is_read = name in self.reads and (str(node.name), 0) in self.reads[name][0]
            yield x, self.reads[name][1](y) if is_read else y

    def outputs(self, node: ir.Node, group: FusionGroup) -> Iterator[tuple[Tensor, Tensor]]:
        """The result of a node of the present group, per sample: FP32, and INT8 with what was learned so far."""
        name, constants = str(node.outputs[0].name), self._constants(group)
        for clean, noisy in zip(self.exact, self.noisy):
            x = self.teacher.run(_part(clean, group), (name,))[name]
            run = self.student.graph.run(_part(noisy, group), (name,), constants=constants, reads=self.reads)
            yield x, run[name]

    def finish(self) -> QuantPlan:
        """The plan with the weights and biases of now."""
        return self.plan.replace(weights=self.weights, model=with_constants(self.plan.model, self.biases))

    def _constants(self, group: FusionGroup) -> dict[str, Tensor]:
        import torch

        weights = {name: self.weights[name].dequantize() for name, _ in self.layers(group)}
        arrays = {**weights, **self.biases}
        return {name: torch.from_numpy(np.asarray(array, np.float32)) for name, array in arrays.items()}

    def _widest(self, feeds: Mapping[str, Tensor]) -> int:
        """Bytes of one sample at the widest moment, both sides together."""
        import torch

        with torch.no_grad():
            values = self.teacher.run(feeds, tuple(n for group in self.plan.groups for n in group.outputs))
        size = {name: value.numel() * value.element_size() for name, value in {**feeds, **values}.items()}
        widest, live = 1, set(feeds)
        for index, group in enumerate(self.plan.groups):
            live.update(group.outputs)
            widest = max(widest, 2 * sum(size[name] for name in live))
            live &= {name for later in self.plan.groups[index + 1 :] for name in later.inputs}
        return widest


def _part(values: Mapping[str, Tensor], group: FusionGroup) -> dict[str, Tensor]:
    return {name: values[name] for name in group.inputs}


def _given(values: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """What to feed for `name`: itself where it is at hand."""
    return {name: values[name]} if name in values else dict(values)
