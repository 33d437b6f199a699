"""The capture step: MODEL as the user has it becomes one canonical graph, proved to compute what the original computes.

A PyTorch model is exported and goes through the parity gate: graph against eager, on real inputs and on random ones,
and per sample. An ONNX file is brought to canonical form and compared with itself as it was. The graph, the inputs it
was judged on and what was found are kept in the step cache. Whether a kept capture may be used again is decided by the
files that were read the first time (see hwc.store), so a second compile does not even import torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwc.array_file import save_arrays
from hwc.artifacts import TensorSpec
from hwc.compare import compare_outputs, tolerance_of
from hwc.errors import EngineError, UsageError
from hwc.frontend.input_shapes import InputShapes
from hwc.frontend.model_source import ModelSource, load_source, parse_source
from hwc.serialize import from_json, to_json
from hwc.store import Fingerprint, Store, installed_versions, key_of, own_source_digest, watch_reads

if TYPE_CHECKING:
    import onnx_ir as ir

MODEL = "model.onnx"
FEEDS = "feeds.npz"
RECORD = "capture.json"


@dataclass(frozen=True)
class Captured:
    """A captured model. `folder` holds model.onnx (at its own opset, shapes bound) and feeds.npz.

    `digest` is of the canonical graph with its weights; `source` says what MODEL was.
    """

    folder: Path
    name: str
    digest: str
    feeds_digest: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    source: Mapping[str, str]
    notes: tuple[str, ...]


def capture_model(text: str, shapes: InputShapes, *, store: Store) -> tuple[Captured, bool]:
    """The captured model, and whether it came from the cache.

    Args:
        text: MODEL, in the forms of `frontend.model_source`.
        shapes: what the user said about the inputs.

    Raises:
        UsageError: the model cannot be read, run or exported.
        EngineError: the parity gate failed: the graph computes something else than the model.
    """
    source = parse_source(text)
    key = key_of(
        "capture", str(source), str(Path.cwd()) if source.path is None else str(source.path.resolve()), repr(shapes),
        own_source_digest(), installed_versions(),
    )  # fmt: skip
    kept = store.get("capture", key)
    if kept is not None:
        record = json.loads((kept / RECORD).read_text())
        fingerprint = Fingerprint(tuple((p, d) for p, d in record["files"]), record["is_complete"])
        if fingerprint.still_holds():
            return _read(kept), True
        store.drop("capture", key)
    with store.put("capture", key) as folder:
        _capture(source, shapes, folder)
    return _read(store.require("capture", key)), False


def _capture(source: ModelSource, shapes: InputShapes, folder: Path) -> None:
    from hwc.graph.save import save_model
    from hwc.graph.shapes import bind_shapes, read_specs
    from hwc.graph.text import digest_model

    # What the model prints goes to stderr: stdout belongs to the verb, and may be one JSON document.
    with watch_reads() as seen, contextlib.redirect_stdout(sys.stderr):
        loaded = load_source(source)
        if loaded.onnx is not None:
            model, feeds, notes = _capture_onnx(loaded.onnx, shapes, loaded.example_inputs)
        else:
            model, feeds, notes = _capture_torch(loaded.module, shapes, loaded.example_inputs)
    names = [str(value.name) for value in model.graph.inputs]
    inputs = bind_shapes(model, shapes.for_inputs(names).shapes)
    save_model(model, folder / MODEL)
    save_arrays(folder / FEEDS, feeds)
    fingerprint = seen[0]
    files = dict(fingerprint.files)
    if source.path is not None and str(source.path.resolve()) not in files:
        # A compiled .pyc hides the reading of its source.
        from hwc.bundle import sha256_file

        files[str(source.path.resolve())] = sha256_file(source.path)
    if not fingerprint.is_complete:
        notes = (*notes, "the model's files were read where hwc cannot see: the capture is repeated every time")
    specs = {"inputs": inputs, "outputs": read_specs(model.graph.outputs)}
    record: dict[str, Any] = {
        "name": _name(source),
        "digest": digest_model(model),
        "feeds_digest": key_of([(k, str(v.dtype), v.shape, v.tobytes().hex()) for k, v in sorted(feeds.items())]),
        "source": {"model": str(source), "kind": source.kind},
        "notes": list(notes),
        "files": sorted(files.items()),
        "is_complete": fingerprint.is_complete,
        **{side: [json.loads(to_json(spec)) for spec in listed] for side, listed in specs.items()},
    }
    (folder / RECORD).write_text(json.dumps(record))


def _capture_torch(
    module: Any, shapes: InputShapes, examples: Any
) -> tuple[ir.Model, dict[str, np.ndarray], tuple[str, ...]]:
    from hwc.frontend.check_parity import check_parity
    from hwc.frontend.torch_export import export_torch

    exported = export_torch(module, shapes, example_inputs=examples)
    report = check_parity(module, exported.model, exported.example, shapes)
    names = [str(value.name) for value in exported.model.graph.inputs]
    feeds = {name: tensor.detach().numpy() for name, tensor in zip(names, exported.example.tensors())}
    parity = (
        f"parity with PyTorch over {report.runs} runs ({report.judge}): largest error {report.rel_error:.1e} of the "
        f"output's largest magnitude; {report.batch}"
    )
    return exported.model, feeds, (*exported.notes, *report.notes, parity)


def _capture_onnx(
    path: Path, shapes: InputShapes, examples: Any
) -> tuple[ir.Model, dict[str, np.ndarray], tuple[str, ...]]:
    """The file in canonical form, compared with the file as it is on the same inputs."""
    from hwc.frontend.onnx_file import load_onnx
    from hwc.graph.evaluate import Evaluator
    from hwc.graph.shapes import bind_shapes

    imported = load_onnx(path)
    names = [str(value.name) for value in imported.model.graph.inputs]
    specs = bind_shapes(imported.model, shapes.for_inputs(names).shapes)
    feeds = _feeds_for(specs, examples)
    original, canonical = Evaluator(path), Evaluator(imported.model)
    differences = compare_outputs(original.run(feeds), canonical.run(feeds), tolerance_of("fp32"))
    bad = [d for d in differences if not d.passed]
    if bad:
        raise EngineError(
            f"{path.name} computes something else after import",
            where=f"output '{bad[0].output}'",
            got=bad[0].reason,
            expected="the same outputs as the file itself",
            do="please report this with the model; `python -m onnx.version_converter` may get around it",
        )
    agreed = f"the imported graph agrees with the file ({original.judge}, {canonical.judge})"
    return imported.model, feeds, (*imported.notes, agreed)


def _feeds_for(specs: tuple[TensorSpec, ...], examples: Any) -> dict[str, np.ndarray]:
    """The user's example inputs where there are some, else seeded noise: normal floats, small integers.

    Raises:
        UsageError: the example inputs do not fit the graph.
    """
    if examples is not None:
        arrays = examples if isinstance(examples, Mapping) else dict(zip([s.name for s in specs], _as_list(examples)))
        feeds = {name: np.asarray(array) for name, array in arrays.items()}
        from hwc.engines.base import check_feeds

        check_feeds(specs, feeds)
        return feeds
    rng = np.random.default_rng(0)
    feeds = {}
    for spec in specs:
        dtype = np.dtype(spec.dtype)
        if dtype.kind == "f":
            feeds[spec.name] = rng.standard_normal(spec.at("opt")).astype(dtype)
        elif dtype.kind in "iub":
            feeds[spec.name] = rng.integers(0, 2, spec.at("opt")).astype(dtype)
        else:
            raise UsageError(f"input '{spec.name}' holds {spec.dtype}", expected="numbers", do="give example inputs")
    return feeds


def _as_list(examples: Any) -> list[Any]:
    return list(examples) if isinstance(examples, (tuple, list)) else [examples]


def _name(source: ModelSource) -> str:
    return source.path.stem if source.path is not None else source.module.rpartition(".")[2]


def _read(folder: Path) -> Captured:
    data = json.loads((folder / RECORD).read_text())
    specs = {
        side: tuple(from_json(TensorSpec, json.dumps(item)) for item in data[side]) for side in ("inputs", "outputs")
    }
    fields = {f.name for f in dataclasses.fields(Captured)} - {"folder", "inputs", "outputs", "notes"}
    return Captured(
        folder=folder, notes=tuple(data["notes"]), inputs=specs["inputs"], outputs=specs["outputs"],
        **{name: data[name] for name in fields},
    )  # fmt: skip
