"""`python3 hwc.pyz VERB`: the command line of a board, with nothing but the standard library until a verb needs more.

    doctor   what this machine is and what stands in the way    --bundle DIR also compares it with the bundle's target
    verify   the bundle is whole and this is its machine
    build    the engine, into the engine store
    run      one inference                       profile   latency, with --power energy too

stdout holds the result: text, or one JSON document with --format json. On stderr: `hwc-progress 0.42 text` lines,
remarks, and with --format json the last line. That line is trtexec's, `&&&& PASSED hwc.build` or `&&&& FAILED ...`.
Exit codes: 0 passed, 1 the verdict is no, 2 usage, 3 target, 4 engine, 70 internal, 130 interrupted (hwc/errors.py).

The environment is read here and nowhere below: HWC_ENGINE_STORE is the default of --store, and HWC_BOARD_ROOT is a
folder that stands for "/" when the machine is probed, so that tests can bring a board of their own.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, Dict, List, NoReturn, Optional, Sequence

import hwc
from hwc.errors import EngineError, HwcError, InternalError, UsageError

_PROGRESS = "hwc-progress"
_STEP = 0.01  # a finer bar would only fill the log of a remote session


class _Parser(argparse.ArgumentParser):
    """Raises what argparse would print, so that a wrong flag looks like every other error."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, do=f"{self.prog} --help")


def start() -> int:
    """`main` as a program of its own: SIGTERM ends it as Ctrl-C does, so that nothing half made is left."""
    signal.signal(signal.SIGTERM, _interrupt)
    return main()


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Runs one verb; the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "json" in (words[i + 1] for i, word in enumerate(words[:-1]) if word == "--format")
    as_json = as_json or "--format=json" in words
    verb = next((word for word in words if word in _VERBS), "")
    try:
        code = _run_verb(words)
    except HwcError as error:
        code = _report(error, as_json)
    except KeyboardInterrupt:
        _err("interrupted")
        code = 130
    except BrokenPipeError:
        # Whoever read the output has gone; what is buffered goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except MemoryError:
        short = EngineError("out of memory", do="stop other programs, add swap, or use a smaller batch")
        code = _report(short, as_json)
    except Exception as error:  # the last net: a bug must still be one clear message
        if "--verbose" in words:
            traceback.print_exc()
        code = _report(_explain(error), as_json)
    line = f"&&&& {'FAILED' if code else 'PASSED'} hwc{'.' + verb if verb else ''}"
    if as_json:
        _err(line)
    else:
        print(line, flush=True)
    return code


def _run_verb(words: List[str]) -> int:
    try:
        args = _make_parser().parse_args(words)
    except SystemExit as ended:  # --help and --version, which have printed what they had to
        return int(ended.code or 0)
    if not args.verb:
        raise UsageError("no verb was given", expected=", ".join(_VERBS), do="python3 hwc.pyz --help")
    verb: Any = _VERBS[args.verb]
    return int(verb(args))


def _explain(error: Exception) -> HwcError:
    """A module that the board lacks, or else a bug."""
    if isinstance(error, ImportError) and error.name in ("numpy", "tensorrt", "tensorrt_rtx", "pycuda"):
        return EngineError(
            f"the Python module '{error.name}' is missing or broken", got=(str(error).splitlines() or [""])[0],
            do="python3 hwc.pyz doctor tells what to install",
        )  # fmt: skip
    place = traceback.extract_tb(error.__traceback__)[-1]
    return InternalError(
        f"{type(error).__name__}: {error}", where=f"{place.filename}:{place.lineno} in {place.name}",
        do="please report this with the command, its output with --verbose, and the bundle's manifest",
    )  # fmt: skip


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="hwc.pyz", description="Build, run and measure a bundle of hwc on this board.")
    parser.add_argument("--version", action="version", version=f"hwc {hwc.__version__}, device half")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=_Parser)
    default_store = os.environ.get("HWC_ENGINE_STORE") or os.path.expanduser("~/.cache/hwc/engines")

    def add(name: str, text: str, *, has_store: bool = False) -> argparse.ArgumentParser:
        verb = verbs.add_parser(name, help=text, description=text)
        if name != "doctor":
            verb.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder that `hwc compile` wrote")
        if has_store:
            verb.add_argument("--store", type=Path, default=Path(default_store), help=f"default: {default_store}")
            verb.add_argument("--dialect", choices=("explicit", "implicit"), default="explicit",
                              help="INT8 by Q/DQ in the graph, or by its calibration cache (TensorRT up to 10)")
            verb.add_argument("--engine-option", action="append", default=[], metavar="NAME=VALUE",
                              help="for the builder, on top of the bundle's options; build, run and profile alike")
        verb.add_argument("--format", choices=("text", "json"), default="text")
        verb.add_argument("--verbose", action="store_true", help="show the traceback of an internal error")
        return verb

    doctor = add("doctor", "Say what this machine is, and what stands in the way of a build.")
    doctor.add_argument("--bundle", type=Path, metavar="DIR", help="also compare with the target of this bundle")
    add("verify", "Check that the bundle is whole and that this is the machine it was compiled for.")
    build = add("build", "Build the bundle's engine for this machine, or take it from the store.", has_store=True)
    build.add_argument("--builds", type=_count, default=1, metavar="K", help="build K times and keep the best")
    build.add_argument("--force", action="store_true", help="build although the store has this engine")
    build.add_argument("--accept-differences", action="store_true", help="build with another TensorRT version")
    run = add("run", "Run the engine once on given inputs, or on seeded noise.", has_store=True)
    run.add_argument("--save-outputs", type=Path, metavar="FILE.npz", help="write the outputs")
    profile = add("profile", "Measure the engine's latency.", has_store=True)
    profile.add_argument("--duration", type=float, default=3.0, metavar="S", help="seconds to measure (3)")
    profile.add_argument("--warmup-ms", type=float, default=500.0, metavar="MS", help="shortest warm-up (500)")
    profile.add_argument("--power", choices=("none", "auto", "rapl", "nvml", "tegrastats", "ina3221"), default="none",
                         help="meter for power and energy; auto takes what fits the target (none)")
    profile.add_argument("--idle", type=float, default=3.0, metavar="S", help="seconds of idle before, for --power (3)")
    profile.add_argument("-o", "--output", type=Path, metavar="FILE.json", help="write all samples")
    for verb in (run, profile):
        verb.add_argument("--load-inputs", action="append", default=[], metavar="NAME:FILE", help=".npy, or one .npz")
    return parser


def _doctor(args: argparse.Namespace) -> int:
    from hwc.targets.check_machine import check_base, check_board, check_target, describe_machine, failures

    facts = _probe()
    folder = args.bundle or Path.home()
    checks, engine = check_base(facts, folder), "tensorrt"
    if args.bundle is not None:
        from hwc.board_request import read_request
        from hwc.bundle import read_bundle, verify_bundle

        bundle = read_bundle(args.bundle)
        verify_bundle(args.bundle, bundle)
        engine = read_request(args.bundle, bundle).engine
        checks += check_target(bundle.target, facts, engine)
    checks += [check for check in check_board(facts, engine) if check.name not in {c.name for c in checks}]
    machine = describe_machine(facts, folder)
    if args.format == "json":
        _print_json({"machine": machine, "checks": [dataclasses.asdict(check) for check in checks]})
    else:
        for key, value in machine.items():
            print(f"{key:<20} {'not known' if value is None else value}")
        for check in checks:
            print(f"{check.status:<5} {check.name}: {check.message}" + (f"; {check.do}" if check.do else ""))
    return 1 if failures(checks) else 0


def _verify(args: argparse.Namespace) -> int:
    from hwc.deploy import prepare, require_fit

    prepared = prepare(args.bundle, _probe())
    require_fit(prepared)
    rows = [dataclasses.asdict(check) for check in prepared.findings]
    bundle, count = prepared.bundle, len(prepared.bundle.files)
    if args.format == "json":
        names = {"bundle": bundle.name, "target": bundle.target.name}
        _print_json({**names, "files": count, "findings": rows, "fingerprint": prepared.fingerprint.key})
        return 0
    print(f"bundle      {bundle.name} for {bundle.target.name}: {count} files intact")
    for row in rows:
        print(f"{row['status']:<5}       {row['name']}: {row['message']}")
    print(f"fingerprint {prepared.fingerprint.key}")
    return 0


def _build(args: argparse.Namespace) -> int:
    from hwc.deploy import build, prepare
    from hwc.engine_store import EngineStore

    progress = _ProgressLines()
    progress("looking at the bundle and this machine", 0.0)
    prepared = prepare(args.bundle, _probe(), _choice(args))
    report = build(
        prepared, EngineStore(args.store.absolute()), builds=args.builds, force=args.force,
        accept_differences=args.accept_differences, say=_err, progress=progress,
    )  # fmt: skip
    progress("done", 1.0)
    engine = report.stored.engine
    result: Dict[str, Any] = {
        "fingerprint": report.stored.fingerprint.key,
        "engine_dir": str(report.stored.folder),
        "reused": report.reused,
        "differs": [dataclasses.asdict(change) for change in report.changes],
        "build_seconds": engine.build_seconds,
        "kernels": len(engine.kernels),
        "size_bytes": engine.size_bytes,
        "activation_bytes": engine.activation_bytes,
        "state": engine.state,
        "runtime": engine.key.runtime,
        "precision_built": dict(engine.precision_built),
        "remarks": list(report.remarks),
        "notes": list(engine.notes),
    }
    if args.format == "json":
        _print_json(result)
        return 0
    how = "from the store" if report.reused else f"built in {engine.build_seconds:.1f} s"
    kernels = ", ".join(f"{name} {count}" for name, count in engine.precision_built)
    print(f"engine      {engine.key.runtime}, {engine.state}, {how}: {len(engine.kernels)} kernels ({kernels})")
    print(f"size        {engine.size_bytes / 1e6:.1f} MB in {report.stored.folder}")
    for note in engine.notes:
        print(f"note        {note}")
    print(f"fingerprint {report.stored.fingerprint.key}")
    return 0


def _run(args: argparse.Namespace) -> int:
    from hwc.array_file import load_inputs
    from hwc.deploy import open_built, prepare, run
    from hwc.engine_store import EngineStore
    from hwc.sessions import describe_outputs, save_outputs

    prepared = prepare(args.bundle, _probe(), _choice(args))
    given = load_inputs(args.load_inputs)
    with open_built(prepared, EngineStore(args.store.absolute()), _err) as session:
        outputs = run(session, given)
    if args.save_outputs is not None:
        save_outputs(args.save_outputs, outputs)
    rows = describe_outputs(outputs)
    if args.format == "json":
        _print_json({"inputs": sorted(given) or "seeded noise", "outputs": rows})
        return 0
    for row in rows:
        shape = "x".join(map(str, outputs[str(row["name"])].shape)) or "scalar"
        print(f"{row['name']}: {row['dtype']} {shape}, min {row['min']}, max {row['max']}, mean {row['mean']}")
    return 0


def _profile(args: argparse.Namespace) -> int:
    from hwc.array_file import load_inputs
    from hwc.deploy import open_built, prepare, profile
    from hwc.engine_store import EngineStore
    from hwc.profile.measure import MeasureOptions
    from hwc.profile.report_measurement import dump_measurements, format_measurement, summarize_measurement
    from hwc.sessions import check_output_file, staged_file

    if args.output is not None:
        check_output_file(args.output)  # before the measurement, not after it
    options = MeasureOptions(warmup_s=args.warmup_ms / 1e3, duration_s=args.duration)
    prepared = prepare(args.bundle, _probe(), _choice(args))
    given = load_inputs(args.load_inputs)
    with open_built(prepared, EngineStore(args.store.absolute()), _err) as session:
        taken = profile(prepared, session, given, options, power=args.power, idle_s=args.idle, root=_root(),
                        progress=_ProgressLines())  # fmt: skip
    if args.output is not None:
        with staged_file(args.output) as partial:
            partial.write_text(json.dumps({**dump_measurements([taken]), "ratio": None}, indent=1))
    if args.format == "json":
        _print_json({"profiles": [summarize_measurement(taken)], "ratio": None})
    else:
        print(format_measurement(taken))
    return 0


_VERBS = {"doctor": _doctor, "verify": _verify, "build": _build, "run": _run, "profile": _profile}


def _choice(args: argparse.Namespace) -> Any:
    from hwc.deploy import Choice

    options: Dict[str, str] = {}
    for text in args.engine_option:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError("--engine-option wants NAME=VALUE", got=text)
        options[name] = value
    return Choice(args.dialect, options)


def _probe() -> Any:
    from hwc.targets.probe import probe

    root = _root()
    if root != Path("/"):
        _err(f"HWC_BOARD_ROOT: the machine that is looked at is {root}, not this one")
    return probe(root)


def _root() -> Path:
    return Path(os.environ.get("HWC_BOARD_ROOT") or "/")


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 100:
        raise argparse.ArgumentTypeError("from 1 to 100")
    return count


class _ProgressLines:
    """Progress as lines on stderr, one for each hundredth or new text, never going back."""

    def __init__(self) -> None:
        self._last, self._text = -1.0, ""

    def __call__(self, what: str, fraction: float) -> None:
        fraction = max(fraction, self._last)
        if fraction - self._last >= _STEP or what != self._text:
            self._last, self._text = fraction, what
            _err(f"{_PROGRESS} {fraction:.2f} {what}")


def _err(text: str) -> None:
    # A cut link closes stderr; the build must end all the same, so that the next try finds its engine.
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        # What is buffered goes nowhere; before Python 3.10 it would fail once more at the end, as exit code 120.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=1), flush=True)


def _report(error: HwcError, as_json: bool) -> int:
    if as_json:
        _print_json(error.to_dict())
    else:
        _err(str(error))
    return error.exit_code
