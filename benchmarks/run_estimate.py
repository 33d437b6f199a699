"""`python -m benchmarks.run_estimate`: refits the estimate, writes hwc/cost/fitted.json and the table of errors.

1. reads the published rows (`benchmarks/published`), builds their networks as graphs, and lists their kernels;
2. fits the constants to all rows: these are shipped;
3. leaves out, in turn, each (network, board) pair, each board, each network and each architecture: these errors give
   the intervals and the table `benchmarks/results/estimate.md`;
4. compares forms of the model by nested cross-validation: the form is chosen inside each of five outer folds by its
   inner error alone, so the outer error owes nothing to the choice;
5. does the same, smaller, for the DLA and for board power.

Takes about a minute on two cores and needs numpy alone. Nothing is drawn at random.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.estimate_report import format_estimate
from benchmarks.fit_board_power import fit_scopes, read_power_rows
from benchmarks.fit_dla import dla_works, fit_dla, leave_networks_out, predict_dla, read_dla_rows
from benchmarks.fit_roofline import (
    COVERAGE,
    ROWS,
    Problem,
    Row,
    cross_intervals,
    fit,
    leave_out,
    quantiles,
    read_rows,
    row_machine,
    state_problem,
)
from hwc.cost.fitted import FILE
from hwc.cost.kernel_work import GATE_JOINS
from hwc.cost.price_kernels import PARAMETERS, inference_seconds

OUT = Path(__file__).parent / "results" / "estimate.json"
COMMAND = "python -m benchmarks.run_estimate"
OUTER_FOLDS, INNER_FOLDS = 5, 4
OUTLIER = 4.0  # robust standard deviations of the left-out log errors
_PINNED = 1e-4  # a spread so small that the constant stays at its guess


@dataclass(frozen=True)
class Form:
    """A form of the model that was compared: what is pinned, and in which precisions x * f(x) joins its convolution."""

    name: str
    pinned: tuple[str, ...] = ()
    gate_joins: tuple[str, ...] = GATE_JOINS

    @property
    def spreads(self) -> dict[str, float]:
        return {p.name: _PINNED for p in PARAMETERS if p.name.startswith(self.pinned)} if self.pinned else {}


FORMS = (
    Form("scale and overhead per architecture (shipped)"),
    Form("scale per architecture", ("overhead_",)),
    Form("one scale for all", ("overhead_", "scale_")),
    Form("as shipped, x * f(x) always joins", (), ("fp32", "fp16", "int8")),
    Form("as shipped, x * f(x) apart in FP32 only", (), ("fp16", "int8")),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=OUT, help="the JSON file; the text is written beside it as .md")
    parser.add_argument("--constants", type=Path, default=FILE, help="where the fitted constants go")
    args = parser.parse_args()
    results, fitted = evaluate()
    _write(args.constants, json.dumps(fitted, indent=1) + "\n")
    _write(args.out, dump(results))
    _write(args.out.with_suffix(".md"), format_estimate(results))
    print(f"median left-out error {results['summary']['pair']['median']:.1%}, {results['summary']['coverage']:.1%} in "
          f"the interval; {args.out}")  # fmt: skip


def evaluate() -> tuple[dict[str, Any], dict[str, Any]]:
    """The table of errors, and the constants to ship."""
    rows = read_rows()
    problem = state_problem(rows)
    constants = fit(problem)
    pairs = [row.pair for row in rows]
    architectures = [row_machine(row).compute_capability for row in rows]
    left = leave_out(problem, pairs)
    factors = cross_intervals(problem.seconds, left, pairs)
    others = {
        "board": leave_out(problem, [row.target for row in rows]),
        "network": leave_out(problem, [row.model for row in rows]),
        "architecture": leave_out(problem, architectures),
    }
    fits = inference_seconds(problem.joined(), constants, problem.clients)
    table = [
        {
            **{k: v for k, v in asdict(row).items() if k not in ("latency_ms", "shape")},
            "shape": "x".join(map(str, row.shape)), "published_ms": row.latency_ms,
            "predicted_ms": _ms(left[i]), "low_ms": _ms(left[i] * factors[i][0]),
            "high_ms": _ms(left[i] * factors[i][1]), "error": round(float(left[i] / problem.seconds[i] - 1), 4),
            "is_inside": bool(factors[i][0] <= problem.seconds[i] / left[i] <= factors[i][1]),
            "fitted_ms": _ms(fits[i]), "command": command_of(row),
        }
        for i, row in enumerate(rows)
    ]  # fmt: skip
    summary: dict[str, Any] = {
        "rows": len(rows), "pairs": len(set(pairs)), "networks": len({row.model for row in rows}),
        "boards": len({row.target for row in rows}), "constants": len(PARAMETERS), "wanted_coverage": COVERAGE,
        "coverage": _round(np.mean([row["is_inside"] for row in table])), "fit": errors_of(problem.seconds, fits),
        "pair": errors_of(problem.seconds, left),
        **{name: errors_of(problem.seconds, values) for name, values in others.items()},
        "declared_clocks_left_aside": errors_of(*_where(rows, problem.seconds, left, "declared by the submitter")),
        "by_board": _by([row.target for row in rows], problem.seconds, left),
        "by_precision": _by([row.precision for row in rows], problem.seconds, left),
        "by_client": _by([row.client for row in rows], problem.seconds, left),
        "forms": compare_forms(rows), "outliers": [rows[i].line for i in find_outliers(problem.seconds, left)],
    }  # fmt: skip
    intervals = {
        "board": quantiles(np.log(problem.seconds / left)),
        "architecture": quantiles(np.log(problem.seconds / others["board"])),
        "none": quantiles(np.log(problem.seconds / others["architecture"])),
    }
    summary["intervals"] = {name: [_round(f) for f in pair] for name, pair in intervals.items()}
    dla_rows, dla = _evaluate_dla()
    power, power_rows = _evaluate_power(constants)
    fitted = {
        "written_by": COMMAND,
        "latency": {
            "constants": {k: float(f"{v:.7g}") for k, v in constants.items()},
            "intervals": summary["intervals"], "boards": sorted({row.target for row in rows}), "rows": len(rows),
            "rows_sha256": hashlib.sha256(ROWS.read_bytes()).hexdigest(),
        },
        "dla": dla, "power": power,
    }  # fmt: skip
    return {"command": COMMAND, "summary": summary, "rows": table, "dla": dla_rows, "power": power_rows}, fitted


def command_of(row: Row) -> str:
    """What estimates this row's network on its board, with the shipped constants."""
    clocks = f" --power-mode {row.power_mode}" if row.power_mode else ""
    clocks += f" --gpu-clock-mhz {row.gpu_mhz:g}" if row.gpu_mhz else ""
    clocks += f" --memory-clock-mhz {row.memory_mhz:g}" if row.memory_mhz else ""
    return f"hwc estimate {row.network}.onnx --target {row.target} --precision {row.precision}{clocks}"


def errors_of(seconds: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Median, mean and 80 % quantile of |predicted / published - 1|, and the median of the signed error."""
    signed = predicted / seconds - 1
    size = np.abs(signed)
    return {"rows": len(size), "median": _round(np.median(size)), "mean": _round(size.mean()),
            "p80": _round(np.quantile(size, 0.8)), "bias": _round(np.median(signed))}  # fmt: skip


def find_outliers(seconds: np.ndarray, predicted: np.ndarray) -> list[int]:
    """Rows whose log error is more than OUTLIER robust standard deviations (1.4826 MAD) from the median."""
    errors = np.log(seconds / predicted)
    centre = np.median(errors)
    spread = 1.4826 * np.median(np.abs(errors - centre))
    return [int(i) for i in np.flatnonzero(np.abs(errors - centre) > OUTLIER * spread)]


def compare_forms(rows: Sequence[Row]) -> dict[str, Any]:
    """The left-out error of each form, and of choosing among them without seeing the outer fold."""
    labels = sorted({row.pair for row in rows})
    outer = np.array([labels.index(row.pair) % OUTER_FOLDS for row in rows])
    inner = np.array([labels.index(row.pair) // OUTER_FOLDS % INNER_FOLDS for row in rows])
    problems = [state_problem(rows, form.gate_joins) for form in FORMS]
    seconds = problems[0].seconds
    left = [leave_out(problem, [str(f) for f in outer], form.spreads) for problem, form in zip(problems, FORMS)]
    nested, chosen = np.zeros(len(rows)), []
    for fold in range(OUTER_FOLDS):
        kept = np.flatnonzero(outer != fold)
        scores = [_inner_score(problem.of(kept), inner[kept], form) for problem, form in zip(problems, FORMS)]
        best = int(np.argmin(scores))
        chosen.append(FORMS[best].name)
        nested[outer == fold] = left[best][outer == fold]
    return {
        "folds": {form.name: errors_of(seconds, values) for form, values in zip(FORMS, left)},
        "nested": errors_of(seconds, nested), "chosen": {name: chosen.count(name) for name in sorted(set(chosen))},
    }  # fmt: skip


def _inner_score(problem: Problem, folds: np.ndarray, form: Form) -> float:
    predicted = leave_out(problem, [str(f) for f in folds], form.spreads)
    return float(np.median(np.abs(predicted / problem.seconds - 1)))


def _evaluate_dla() -> tuple[dict[str, Any], dict[str, Any]]:
    rows = read_dla_rows()
    works = dla_works(rows)
    constants = fit_dla(rows, works)
    published = np.array([row.latency_ms / 1e3 for row in rows])
    left, fits = leave_networks_out(rows, works), predict_dla(rows, works, constants)
    ratio = published / left
    table = [{**asdict(row), "shape": "x".join(map(str, row.shape)), "predicted_ms": _ms(left[i]),
              "fitted_ms": _ms(fits[i]), "error": round(float(left[i] / published[i] - 1), 4)}
             for i, row in enumerate(rows)]  # fmt: skip
    shipped = {k: float(f"{v:.7g}") for k, v in constants.items()}
    shipped |= {"low": min(_round(ratio.min()), 1.0), "high": max(_round(ratio.max()), 1.0)}
    return {"summary": errors_of(published, left), "rows": table}, {"constants": shipped, "rows": len(rows)}


def _evaluate_power(constants: dict[str, float]) -> tuple[dict[str, Any], dict[str, Any]]:
    rows = read_power_rows()
    fitted, left = fit_scopes(rows, constants)
    for scope in fitted.values():
        for name in ("clock", "load", "least_load", "low", "high"):
            scope[name] = _round(scope[name])
        scope["boards"] = {board: float(f"{watts:.5g}") for board, watts in scope["boards"].items()}
    table = [{**asdict(row), "shape": "x".join(map(str, row.shape)), "predicted_w": round(left[row.line], 2),
              "error": round(left[row.line] / row.power_w - 1, 4)} for row in rows]  # fmt: skip
    scopes = {s: errors_of(np.array([r.power_w for r in rows if r.scope == s]),
                           np.array([left[r.line] for r in rows if r.scope == s])) for s in fitted}  # fmt: skip
    return fitted, {"summary": scopes, "rows": table}


def _by(labels: Sequence[str], seconds: np.ndarray, predicted: np.ndarray) -> dict[str, dict[str, float]]:
    names = np.array(labels)
    return {name: errors_of(seconds[names == name], predicted[names == name]) for name in sorted(set(labels))}


def _where(
    rows: Sequence[Row], seconds: np.ndarray, predicted: np.ndarray, without: str
) -> tuple[np.ndarray, np.ndarray]:
    kept = np.array([row.clocks != without for row in rows])
    return seconds[kept], predicted[kept]


def _ms(seconds: float) -> float:
    return float(f"{seconds * 1e3:.5g}")


def _round(value: Any) -> float:
    return round(float(value), 4)


def dump(results: dict[str, Any]) -> str:
    """The results as JSON, one row per line, so that a diff shows which rows moved."""
    def listed(rows: list[dict[str, Any]]) -> str:
        return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]"

    parts = [f'"command": {json.dumps(results["command"])}', f'"summary": {json.dumps(results["summary"], indent=1)}',
             f'"rows": {listed(results["rows"])}']  # fmt: skip
    for name in ("dla", "power"):
        part = results[name]
        parts.append(f'"{name}": {{"summary": {json.dumps(part["summary"])}, "rows": {listed(part["rows"])}}}')
    return "{" + ",\n".join(parts) + "}\n"


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


if __name__ == "__main__":
    main()
