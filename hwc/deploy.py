"""DEVICE half, top to bottom like a recipe: what `python3 hwc.pyz VERB BUNDLE` does on the board.

    probe     what this machine is (hwc.targets.probe)
    verify    the bundle is whole, and this machine is the one that it was compiled for
    build     the engine, or the one of the store whose fingerprint is equal; run on the example inputs where it can be
    run       one inference
    profile   latency, and with a meter energy, every sample kept

An engine never goes into the bundle, whose files are sealed by its manifest, but into the engine store. "verified" is
said only of an engine that ran here and gave the outputs of the captured graph; what could not run stays "built".

This file is part of the device half: Python 3.8, numpy and the bundle's own TensorRT module.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np

from hwc.array_file import load_arrays
from hwc.artifacts import BuildKey, Bundle, Engine, Fact
from hwc.artifacts_dla import check_plan, load_dla_plan
from hwc.board_request import BoardRequest, read_request
from hwc.bundle import read_bundle, verify_bundle
from hwc.compare import compare_outputs, tolerance_of
from hwc.engine_store import CACHE, ENGINE, EngineStore, Stored
from hwc.engines import base as engines
from hwc.engines.base import Progress, Session, format_shape, no_progress
from hwc.engines.files import external_files
from hwc.engines.tensorrt_options import key_parts
from hwc.errors import EngineError, HwcError, TargetError, UsageError
from hwc.fingerprint import Change, Fingerprint, Wanted, take_fingerprint
from hwc.profile.measure import MeasureOptions
from hwc.profile.measure_power import IDLE_S, Measurement, measure_session
from hwc.serialize import to_json
from hwc.sessions import make_feeds
from hwc.targets.check_machine import Check, check_target, failures

Say = Callable[[str], None]
# What a profile tells of the machine beside what `measure` reads: the facts that decide a latency.
_PROFILE_FACTS = {
    "gpu": "gpu.name", "l4t": "software.l4t", "power_mode": "jetson.power_mode",
    "clocks_locked": "jetson.clocks_locked", "sm_count": "gpu.sm_count",
}  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """What the user of the board may choose: the INT8 dialect, and options on top of those of the bundle."""

    dialect: str = "explicit"
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """A verified bundle on a machine that was looked at: all that the later steps need.

    `model` and `options` are what its builder is to get: the request's, with the user's choice applied.
    """

    folder: Path
    bundle: Bundle
    request: BoardRequest
    model: str
    options: Mapping[str, str]
    facts: Mapping[str, Fact]
    findings: Tuple[Check, ...]
    fingerprint: Fingerprint


@dataclass(frozen=True)
class BuildReport:
    """What `build` did. `changes` are to the nearest engine of the store, where one was there but none was equal."""

    stored: Stored
    reused: bool
    changes: Tuple[Change, ...] = ()
    remarks: Tuple[str, ...] = ()


def prepare(folder: Path, facts: Mapping[str, Fact], choice: Optional[Choice] = None) -> Prepared:
    """Reads and verifies the bundle, and holds its target against what was probed.

    Raises:
        UsageError: not a bundle, one whose files are not those of its manifest, or one without the chosen dialect.
        TargetError: its engine is not one that is built from a bundle.
    """
    bundle = read_bundle(folder)
    verify_bundle(folder, bundle)
    request = read_request(folder, bundle)
    model, options = _apply(choice or Choice(), request)
    names = [model, *external_files(folder / model), *request.plugins]
    kept, plugins = key_parts(options, folder)  # what a file holds counts, not where it lies
    strange = [name for name in names if name not in bundle.files]
    if strange:
        raise UsageError(f"the build needs '{strange[0]}', which the manifest does not list", do="compile again")
    if options.get("dla_plan"):
        check_plan(load_dla_plan(folder / options["dla_plan"]), target=bundle.target.name,
                   model_digest=bundle.engine.key.model_digest)  # fmt: skip
    wanted = Wanted(
        model=hashlib.sha256("\n".join(bundle.files[name] for name in names).encode()).hexdigest(),
        precision=request.precision,
        shapes=", ".join(f"{spec.name}:{spec.dtype}:{format_shape(spec)}" for spec in bundle.inputs),
        options=dict(kept),
        plugins=(*(bundle.files[name] for name in request.plugins), *plugins),
    )
    return Prepared(
        folder=folder, bundle=bundle, request=request, model=model, options=options, facts=facts,
        findings=tuple(check_target(bundle.target, facts, request.engine)),
        fingerprint=take_fingerprint(bundle.target, request.engine, facts, wanted),
    )  # fmt: skip


def _apply(choice: Choice, request: BoardRequest) -> Tuple[str, Dict[str, str]]:
    """The model file and the options of that choice."""
    options = {**request.options, **choice.options}
    if choice.dialect == "explicit":
        return request.model, options
    if choice.dialect != "implicit" or not request.implicit:
        raise UsageError(
            f"this bundle has no INT8 dialect '{choice.dialect}'",
            expected="explicit, or implicit in a bundle compiled to INT8 for TensorRT up to 10", got=choice.dialect,
        )  # fmt: skip
    return request.implicit["model"], {**options, "calibration_cache": request.implicit["calibration_cache"]}


def require_fit(prepared: Prepared, *, accept_differences: bool = False) -> None:
    """Refuses a machine that the bundle was not compiled for.

    Args:
        accept_differences: let another version of TensorRT pass; other hardware never passes.

    Raises:
        TargetError: names every difference that stands in the way.
    """
    found = failures(list(prepared.findings))
    runtime = f"software.{prepared.request.engine}"
    is_installed = runtime in prepared.facts
    if accept_differences:
        found = tuple(check for check in found if check.name != runtime or not is_installed)
    if not found:
        return
    raise TargetError(
        f"this machine is not what the bundle was compiled for ({prepared.bundle.target.name})",
        where=", ".join(check.name for check in found),
        got="; ".join(f"{check.name}: {check.message}" for check in found),
        do=found[0].do + (" (--accept-differences builds anyway)" if found[0].name == runtime and is_installed else ""),
    )


def build(
    prepared: Prepared, store: EngineStore, *, builds: int = 1, force: bool = False, accept_differences: bool = False,
    say: Say, progress: Progress = no_progress,
) -> BuildReport:  # fmt: skip
    """The engine of this bundle for this machine, from the store or built now.

    Args:
        builds: build so often and keep the best.
        force: build although the store has an equal engine.
        say: told in one line each what else happened: a damaged entry, the reason for a rebuild, a wait.

    Raises:
        TargetError: the machine is not the target, or its TensorRT cannot do what was asked.
        EngineError: the build failed, or the engine gives other outputs than the model.
        UsageError: the store cannot be written.
    """
    require_fit(prepared, accept_differences=accept_differences)
    remarks: List[str] = [f"{c.name}: {c.message}" for c in prepared.findings if c.status != "ok"]
    for remark in remarks:
        say(remark)

    def remember(text: str) -> None:
        remarks.append(text)
        say(text)

    wanted = prepared.fingerprint
    waits = _Once(lambda: remember("another process builds this engine; waiting for it"))
    with store.lock(wanted, waits):
        stored = None if force else store.find(wanted, remember)
        if stored is not None:
            return BuildReport(stored, True, (), tuple(remarks))
        nearest, changes = store.find_nearest(wanted)
        if nearest is not None and changes:
            remember("no stored engine fits; the nearest differs in " + "; ".join(map(str, changes)))
        with store.put(wanted) as stage:
            engine = _build_into(stage, prepared, builds, store.root / CACHE, progress)
            engine = judge(engine, stage, prepared, remember)
            (stage / ENGINE).write_text(to_json(engine), encoding="utf-8")
        return BuildReport(Stored(store.root / wanted.key, engine, wanted), False, changes, tuple(remarks))


def judge(engine: Engine, folder: Path, prepared: Prepared, say: Say) -> Engine:
    """Runs the engine on the bundle's example inputs where it can run here; its state is then "verified".

    Raises:
        EngineError: it ran and its outputs leave the tolerance of its precision.
    """
    request = prepared.request
    if not request.feeds:
        return _unverified(engine, "the bundle carries no example inputs", say)
    try:
        session = engines.open_session(engine, folder)
    except HwcError as error:
        return _unverified(engine, error.what, say)
    with session:
        got = session.run(load_arrays(prepared.folder / request.feeds))
    tolerance = tolerance_of(request.tolerance)
    differences = compare_outputs(load_arrays(prepared.folder / request.expected), got, tolerance)
    bad = [difference for difference in differences if not difference.passed]
    if bad:
        raise EngineError(
            f"the {engine.backend} engine gives other outputs than the model", where=f"output '{bad[0].output}'",
            expected=f"within {tolerance}", got=bad[0].reason,
            do="compile again with --precision fp32; please report it if that fails too",
        )  # fmt: skip
    worst = max(difference.relative for difference in differences)
    note = f"ran here; worst output {worst:.2e} of its largest magnitude from the captured graph"
    return dataclasses.replace(engine, state="verified", notes=(*engine.notes, note))


def open_built(prepared: Prepared, store: EngineStore, say: Say) -> Session:
    """A session of the engine that was built for this machine.

    Raises:
        UsageError: none was; says how the nearest one differs.
        TargetError, EngineError: it cannot run here.
    """
    stored = store.find(prepared.fingerprint, say)
    if stored is None:
        _, changes = store.find_nearest(prepared.fingerprint)
        raise UsageError(
            "no engine was built for this bundle on this machine yet", where=str(store.root),
            got="the nearest stored one differs in " + "; ".join(map(str, changes)) if changes else "",
            do=f"python3 hwc.pyz build {prepared.folder}",
        )  # fmt: skip
    return engines.open_session(stored.engine, stored.folder)


def run(session: Session, given: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """One inference on `given`, completed with seeded noise; errors as in `make_feeds` and `Session.run`."""
    return session.run(make_feeds(session.inputs, given))


def profile(
    prepared: Prepared, session: Session, given: Mapping[str, np.ndarray], options: MeasureOptions, *,
    power: str = "none", idle_s: float = IDLE_S, root: Path = Path("/"), progress: Progress = no_progress,
) -> Measurement:  # fmt: skip
    """Latency, and with a meter energy, of the engine, with the facts of this machine that decide them.

    Args:
        power, idle_s, root: see `measure_session`, and its errors.
    """
    taken = measure_session(
        session, make_feeds(session.inputs, given), options, name=prepared.bundle.name,
        target=prepared.bundle.target, power=power, idle_s=idle_s, root=root, progress=progress,
    )  # fmt: skip
    seen = {key: prepared.facts[fact].value for key, fact in _PROFILE_FACTS.items() if fact in prepared.facts}
    machine = {**dict(taken.profile.machine), **{key: str(value) for key, value in seen.items()}}
    machine["engine"] = prepared.fingerprint.key[:12]
    return dataclasses.replace(
        taken, profile=dataclasses.replace(taken.profile, machine=tuple(sorted(machine.items())))
    )


def _build_into(stage: Path, prepared: Prepared, builds: int, cache: Path, progress: Progress) -> Engine:
    request, wanted, options = prepared.request, prepared.fingerprint, dict(prepared.options)
    if builds > 1:
        options["builds"] = str(builds)
    key = BuildKey(
        model_digest=wanted.model, target=wanted.target, runtime=f"{wanted.module} {wanted.runtime}",
        precision=request.tolerance, options=wanted.options, power_mode=wanted.power_mode, plugins=wanted.plugins,
    )  # fmt: skip
    asked = engines.BuildRequest(
        model=prepared.folder / prepared.model, target=prepared.bundle.target, inputs=prepared.bundle.inputs,
        outputs=prepared.bundle.outputs, precision=request.precision, key=key, out_dir=stage, options=options,
        progress=progress, cache=cache,
    )  # fmt: skip
    return engines.build(request.engine, asked)


def _unverified(engine: Engine, why: str, say: Say) -> Engine:
    say(f"built, not verified: {why}")
    return dataclasses.replace(engine, notes=(*engine.notes, f"never run here: {why}"))


class _Once:
    """Calls a function the first time only."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call, self._was_called = call, False

    def __call__(self) -> None:
        if not self._was_called:
            self._was_called = True
            self._call()
