"""Compiles for a DLA core: a graph rewritten to stay there, the plan in the bundle, INT8 scales that the DLA takes.

1. before any work: the target has a DLA, its TensorRT drives it, and the precision is one that it computes in
2. after the passes: the exact rewrites of `hwc/passes` that keep layers on DLA, judged by running both graphs
3. the plan. With a GPU fallback it weighs what moves ("offload" unless another objective is asked); without one every
   layer has to be legal, since a single one that is not ends TensorRT's build
4. INT8 goes to the DLA by the calibration cache of the float graph (TensorRT before 11.4.1 takes no Q/DQ there), with
   equal scales where the plan needs them
5. the engine's options: the plan, the cache, and limits of the DLA's memory pools, which are the target's facts

The graph stays FP32 and the builder is told FP16 by a flag, because the DLA takes weakly typed networks only (until
11.4.1, for which nothing is planned here). Limits: the accuracy of INT8 was judged before scales were made equal; a
layer that may run on DLA is likely to, and only the board's TensorRT can tell.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwc.array_file import load_arrays
from hwc.artifacts import Engine, QuantTable, Target
from hwc.artifacts_dla import DLA_PLAN, DlaPlan, write_dla_plan
from hwc.build import is_deferred
from hwc.capture import FEEDS, MODEL
from hwc.dla.board import open_board
from hwc.engines.base import Progress
from hwc.engines.tensorrt_options import read_options
from hwc.errors import TargetError, UsageError
from hwc.optimize import EXPECTED, Optimized, read_optimized, target_key, write_optimized
from hwc.store import Store, installed_versions, key_of, own_source_digest

if TYPE_CHECKING:
    import onnx_ir as ir

    from hwc.dla.plan import DlaReport

_FIRST_STRONGLY_TYPED = 11
_POOL_FACTS = {"dla_sram": "dla.managed_sram_bytes", "dla_local_dram": "dla.local_dram_bytes",
               "dla_global_dram": "dla.global_dram_bytes"}  # fmt: skip


@dataclass(frozen=True)
class DlaChoice:
    """What was asked: the core, whether layers may go to the GPU, and what the plan shall weigh."""

    core: int
    has_fallback: bool
    objective: str


def read_choice(
    options: Mapping[str, str], objective: str, target: Target, backend: str, precision: str
) -> DlaChoice | None:
    """The choice in the engine's options; None where no DLA was asked, or where the engine is built here.

    Args:
        objective: "" for the one that fits: "offload" with a GPU fallback, else "all".

    Raises:
        UsageError: a precision that the DLA lacks, no such core, or an objective that nothing is chosen by.
        TargetError: no DLA there, or none with that TensorRT.
    """
    if "dla_core" not in options or not is_deferred(backend):
        if objective:
            raise UsageError("--dla-objective plans for a board's DLA", do="give --use-dla-core and --gpu-fallback")
        return None
    read_options(options)
    has_fallback = options.get("gpu_fallback") == "yes"
    if objective and not has_fallback:
        raise UsageError("without a GPU fallback there is nothing to choose", got=f"--dla-objective {objective}",
                         do="add --gpu-fallback")  # fmt: skip
    board = open_board(target, "fp16" if precision == "auto" else precision)
    core, count = int(options["dla_core"]), int(board.number("dla.count"))
    if core >= count:
        raise UsageError(f"{target.name} has no DLA core {core}", expected=f"0 to {count - 1}", got=str(core))
    if int(board.tensorrt.split(".")[0]) >= _FIRST_STRONGLY_TYPED:
        raise TargetError(
            f"TensorRT {board.tensorrt} takes strongly typed networks on the DLA, for which hwc plans nothing yet",
            where=target.name, source=target.fact("software.tensorrt").source, do="leave out --use-dla-core",
        )  # fmt: skip
    return DlaChoice(core, has_fallback, objective or ("offload" if has_fallback else "all"))


class DlaPlacement:
    """One compile's way to the DLA; see the module for its steps. `precision` is "fp16" or "int8" for the rewrites."""

    def __init__(self, choice: DlaChoice, target: Target, precision: str) -> None:
        self.choice, self.target, self.precision = choice, target, precision
        self.notes: list[str] = []
        self._report: DlaReport | None = None  # of the INT8 graph, once its scales are tied

    def rewrite(self, optimized: Optimized, *, store: Store, progress: Progress) -> tuple[Optimized, bool]:
        """The graph with every exact rewrite that keeps layers on DLA, and whether it came from the cache."""
        key = key_of("dla", optimized.digest, optimized.precision, repr(optimized.inputs), self.precision,
                     target_key(self.target), own_source_digest(), installed_versions())  # fmt: skip
        kept = store.get("dla", key)
        if kept is not None:
            return read_optimized(kept), True
        with store.put("dla", key) as folder:
            self._rewrite_into(folder, optimized, progress)
        return read_optimized(store.require("dla", key)), False

    def tie(self, model: ir.Model, table: QuantTable) -> QuantTable:
        """Plans the float graph in INT8; the table with one scale wherever a layer on DLA needs tensors alike.

        Raises:
            TargetError: no layer, or without a fallback not every layer, may run there.
        """
        from hwc.dla.tie_scales import tie_scales, tied_tensors

        _infer_shapes(model)
        # Legal but for its scales: tied first, so that the plan sees what will be shipped.
        able = [str(node.name) for node in model.graph
                if all(str(value.name) in table.tensors for value in tied_tensors(node))]  # fmt: skip
        everywhere, _ = tie_scales(model, table, able)
        self._report = self._explain(model, "int8", everywhere)
        tied, grown = tie_scales(model, table, self._report.plan.dla_layers)
        if grown:
            name, factor = max(grown.items(), key=lambda item: item[1])
            self.notes.append(
                f"DLA: {len(grown)} INT8 scales grew to those of their neighbours, '{name}' {factor:.1f} times; the "
                "accuracy was judged before that"
            )
        return tied

    def place(self, stage: Path, optimized: Optimized, engine: Engine, implicit: Mapping[str, str]) -> tuple[
        Engine, str, dict[str, str]
    ]:  # fmt: skip
        """Writes the plan into `stage`: the engine with its options, the file to build from, what is left of implicit.

        Args:
            implicit: of `write_quantization`, which asked `tie` if it wrote a calibration cache.

        Raises:
            TargetError: as `tie`; or no precision of the DLA kept the accuracy.
        """
        if optimized.precision == "int8":
            if self._report is None:
                raise TargetError(
                    f"{self.target.name}: the DLA takes INT8 by a calibration cache, which its TensorRT cannot read",
                    got=str(self.target.fact("software.tensorrt").value), do="compile with --fp16",
                )  # fmt: skip
            plan, model, more = self._report.plan, implicit["model"], dict(implicit)
            more.pop("model")
        elif optimized.precision == "fp16":
            import onnx_ir as ir

            loaded = ir.load(stage / MODEL)
            _infer_shapes(loaded)
            plan, model, more = self._explain(loaded, "fp16").plan, MODEL, {}
        else:
            raise TargetError(
                f"{optimized.precision} is what keeps the accuracy, and the DLA computes in FP16 or INT8",
                where=self.target.name, got="; ".join(optimized.notes), do="leave out --use-dla-core",
            )  # fmt: skip
        write_dla_plan(stage, plan)
        options = {**dict(engine.key.options), **more, "dla_plan": DLA_PLAN}
        why = self._limit_pools(options)
        key = dataclasses.replace(
            engine.key, model_digest=plan.model_digest, options=tuple(sorted(options.items()))
        )
        self.notes.append(_describe(plan))
        notes = (*engine.notes, *why, *(f"DLA plan: {note}" for note in plan.notes))
        left = {} if optimized.precision == "int8" else dict(implicit)
        return dataclasses.replace(engine, key=key, notes=notes), model, left

    def _rewrite_into(self, folder: Path, optimized: Optimized, progress: Progress) -> None:
        import onnx_ir as ir

        from hwc.graph.save import save_model
        from hwc.graph.text import digest_model
        from hwc.inspect_dla import rewrite_for_dla
        from hwc.passes.base import PassContext
        from hwc.passes.pipeline import GROUPING, run_passes

        model = ir.load(optimized.folder / MODEL)
        _infer_shapes(model)
        feeds = load_arrays(optimized.folder / FEEDS)
        model, steps = rewrite_for_dla(model, self.target, self.precision, feeds, progress=progress)
        save_model(model, folder / MODEL)
        context = PassContext(target=self.target, precision=optimized.precision)
        _, last, groups = run_passes(model, context, passes=GROUPING)
        for name in (FEEDS, EXPECTED):
            shutil.copyfile(optimized.folder / name, folder / name)
        write_optimized(dataclasses.replace(
            optimized, folder=folder, digest=digest_model(model), groups=groups,
            steps=(*optimized.steps, *steps, *last),
        ))  # fmt: skip

    def _explain(self, model: ir.Model, precision: str, table: QuantTable | None = None) -> DlaReport:
        """The report, once it is certain that it is worth a build."""
        from hwc.dla.plan import explain_dla

        choice = self.choice
        report = explain_dla(
            model, self.target, precision, table=table, objective=choice.objective, core=choice.core
        )
        plan = report.plan
        blocked = [verdict for verdict in report.verdicts if not verdict.is_legal]
        see = f"`hwc inspect MODEL --dla --target {self.target.name} --precision {precision}` tells each reason"
        if (blocked and not choice.has_fallback) or len(blocked) == len(report.verdicts):
            first = blocked[0].blocks[0]
            what = "no layer" if len(blocked) == len(report.verdicts) else "not every layer"
            raise TargetError(
                f"{what} may run on the DLA of {self.target.name}: {len(blocked)} of {len(report.verdicts)} may not",
                where=f"node '{first.node}' ({first.op_type})", got=str(first), source=first.source,
                do=see if what == "no layer" else f"add --gpu-fallback; {see}",
            )  # fmt: skip
        if not plan.dla_layers:
            raise TargetError(
                f"the plan puts no layer on the DLA of {self.target.name}",
                where=f"objective {plan.objective}", got=f"GPU only is estimated at {plan.estimate_gpu_ms:.3f} ms",
                do="leave out --use-dla-core; " + ("--dla-objective offload plans for a GPU that has other work; "
                                                   if plan.objective == "latency" else "") + see,
            )  # fmt: skip
        if len(plan.loadables) > plan.loadable_limit:
            raise TargetError(
                "the network falls into more loadables than a DLA core holds", where=self.target.name,
                expected=f"at most {plan.loadable_limit}", got=str(len(plan.loadables)),
                source=self.target.fact("dla.loadables_per_core").source, do="add --gpu-fallback",
            )  # fmt: skip
        return report

    def _limit_pools(self, options: dict[str, str]) -> tuple[str, ...]:
        """Adds the limits of the DLA's pools that the user left open, and says where they come from."""
        asked = dict(read_options({k: v for k, v in options.items() if k != "threads"}).pools)
        facts = {pool: self.target.fact(fact) for pool, fact in _POOL_FACTS.items()
                 if pool not in asked and self.target.knows(fact)}  # fmt: skip
        if not facts:
            return ()
        texts = [f"{pool}:{int(str(fact.value))}B" for pool, fact in facts.items()]
        options["memory_pools"] = ",".join(filter(None, [options.get("memory_pools", ""), *texts]))
        source = next(iter(facts.values())).source
        return (f"memory_pools: limits per loadable of {', '.join(facts)} are those of the target's facts ({source})",)


def _describe(plan: DlaPlan) -> str:
    count = len(plan.dla_layers)
    return (
        f"DLA core {plan.core}: {count} of {count + len(plan.gpu_layers)} layers in {len(plan.loadables)} loadables, "
        f"{plan.transitions} transitions, likely (objective {plan.objective}); estimate {plan.estimate_planned_ms:.3f} "
        f"ms, GPU only {plan.estimate_gpu_ms:.3f} ms"
    )


def _infer_shapes(model: ir.Model) -> None:
    from hwc.graph.shapes import infer_shapes

    infer_shapes(model)
