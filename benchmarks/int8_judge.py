"""Judges every quantized file of one network with one executor, and times all of them in one interleaved run.

OpenVINO compiles each ONNX file or IR with the properties of hwc's own engine: latency hint, stated arithmetic,
threads. A folder is a bundle of hwc, and opened as its user would. Each engine sees the same validation samples, one by
one; the reference of agreement and SQNR is the FP32 file in the same executor, so kernels are compared with kernels.

Per sample and engine: the score against the truth, the score against FP32's decision (agreement), and the SQNR in dB.
Each is run once more with OpenVINO's low-precision transformations off (LP_TRANSFORMS_MODE): the same Q/DQ graph with
the same integers, but sums in float. That is what a CPU that does not saturate would give, and tells the loss of a
recipe from the loss of this CPU's instructions.

Then all engines that ran are timed by `measure_in_turn`, FP32 included.
"""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.contestants import open_openvino
from benchmarks.int8_feeds import Samples
from benchmarks.int8_tasks import TASKS, sqnr_db
from benchmarks.plain import Plain, bind_feeds
from benchmarks.report import put_in_words
from hwc.engines.base import Progress, Session, no_progress
from hwc.profile.measure import Contestant, MeasureOptions, PairedRatio, block_medians, measure_in_turn, paired_ratio
from hwc.sessions import open_bundle

REFERENCE = "fp32"
# Twenty contestants of 60 rounds of 10 runs are 12000 samples a network.
MAX_ROUNDS = 60
# The run with exact sums explains a figure, so it takes so many samples only, spread over the whole set.
EXACT_SAMPLES = 100
OPENING_S = 0.02


@dataclass(frozen=True)
class Candidate:
    """One quantized network: who made it, the file or bundle, and how long that took; or why there is none."""

    name: str
    path: str = ""
    seconds: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class Judged:
    """One engine. `scores`, `agreements` and `sqnr_db` have one entry per validation sample.

    `exact_agreement` and `exact_sqnr_db` are means over some samples, run with exact sums; -1 if there are none.
    """

    name: str
    seconds: float = 0.0
    size_bytes: int = 0
    scores: tuple[float, ...] = ()
    agreements: tuple[float, ...] = ()
    sqnr_db: tuple[float, ...] = ()
    exact_agreement: float = -1.0
    exact_sqnr_db: float = -1.0
    samples_ns: tuple[int, ...] = ()
    is_stationary: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Row:
    """One network. Sample i of each engine's latency belongs to round i // block."""

    model: str
    task: str = ""
    calibration: int = 0
    validation: int = 0
    note: str = ""
    block: int = 1
    threads: int = 0
    load: str = ""
    judged: tuple[Judged, ...] = ()
    problem: str = ""

    def find(self, name: str) -> Judged:
        return next((one for one in self.judged if one.name == name), Judged(name, problem="absent"))

    def drop(self, one: Judged) -> float:
        """Points lost against FP32 on the same samples; negative is a gain."""
        return 100 * float(np.mean(self.find(REFERENCE).scores) - np.mean(one.scores))

    def ratio(self, one: Judged, other: Judged) -> PairedRatio | None:
        """Latency of `one` over that of `other`, paired by round; None if one of them was not timed."""
        if not one.samples_ns or not other.samples_ns:
            return None
        medians = (block_medians(side.samples_ns, self.block) for side in (one, other))
        return paired_ratio([a / b for a, b in zip(*medians)])


def size_of(path: Path) -> int:
    """Bytes of a file with its weights beside it, or of the engine's files in a bundle."""
    if path.is_dir():
        from hwc.bundle import read_bundle

        return read_bundle(path).engine.size_bytes
    beside = (path.with_suffix(".bin"), path.with_name(f"{path.name}.data"))
    return sum(file.stat().st_size for file in (path, *beside) if file.is_file())


def open_candidate(candidate: Candidate, plain: Plain, threads: int, stack: ExitStack) -> Session:
    """The engine of a file or bundle; inputs and outputs are those of the plain file, by place."""
    path = Path(candidate.path)
    if path.is_dir():
        return stack.enter_context(open_bundle(path, threads=threads))
    return open_openvino(dataclasses.replace(plain, path=path), "fp32", threads)


def open_exact(candidate: Candidate, plain: Plain, threads: int) -> Session:
    """The same graph with sums in float; of a bundle, its IR."""
    path = Path(candidate.path)
    if path.is_dir():
        path = path / "openvino.xml"
    return open_openvino(dataclasses.replace(plain, path=path), "fp32", threads, {"LP_TRANSFORMS_MODE": False})


def run_samples(session: Session, samples: Samples, progress: Progress, what: str) -> list[list[np.ndarray]]:
    """The outputs of each sample, by place."""
    made = []
    for number, feeds in enumerate(samples):
        made.append([np.array(value) for value in session.run(bind_feeds(session.inputs, feeds)).values()])
        progress(what, number / len(samples))
    return made


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` of `count` places, evenly spread: neighbours may be of one kind."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(count, wanted))})


def judge(name: str, outputs: list[list[np.ndarray]], reference: list[list[np.ndarray]], samples: Samples) -> Judged:
    """Scores, agreements and SQNR of one engine's outputs."""
    task = TASKS[samples.task]
    scores, agreements, ratios = [], [], []
    for got, expected, feeds, truth in zip(outputs, reference, samples, samples.truths):
        decision, believed = (task.decide(made, feeds, samples.constant) for made in (got, expected))
        scores.append(round(task.score(decision, truth), 5))
        agreements.append(round(task.score(decision, believed), 5))
        ratios.append(round(sqnr_db(expected, got), 3))
    return Judged(name, scores=tuple(scores), agreements=tuple(agreements), sqnr_db=tuple(ratios))


def judge_all(
    row: Row,
    plain: Plain,
    candidates: list[Candidate],
    samples: Samples,
    options: MeasureOptions | None,
    progress: Progress = no_progress,
) -> Row:
    """`row` with every candidate judged and timed; FP32 is the plain file and comes first.

    Args:
        options: None to leave the timing out.
    """
    everyone = [Candidate(REFERENCE, str(plain.path)), *candidates]
    done: dict[str, Judged] = {}
    ready: list[Contestant] = []
    reference: list[list[np.ndarray]] = []
    with ExitStack() as stack:
        for candidate in everyone:
            if candidate.problem:
                done[candidate.name] = Judged(candidate.name, candidate.seconds, problem=candidate.problem)
                continue
            try:
                session = open_candidate(candidate, plain, row.threads, stack)
                outputs = run_samples(session, samples, progress, f"judging {candidate.name}")
                reference = reference or outputs
                one = judge(candidate.name, outputs, reference, samples)
                if candidate.name != REFERENCE:
                    exact_session = open_exact(candidate, plain, row.threads)
                    what = f"exact sums of {candidate.name}"
                    some = spread(len(samples), EXACT_SAMPLES)
                    few = samples.take(some)
                    outputs = run_samples(exact_session, few, progress, what)
                    exact = judge(candidate.name, outputs, [reference[place] for place in some], few)
                    means = (float(np.mean(exact.agreements)), float(np.mean(exact.sqnr_db)))
                    one = dataclasses.replace(one, exact_agreement=means[0], exact_sqnr_db=means[1])
            except Exception as error:  # whatever a peer's file makes the executor raise is a result
                done[candidate.name] = Judged(candidate.name, candidate.seconds, problem=put_in_words(error))
                if candidate.name == REFERENCE:
                    return dataclasses.replace(row, judged=(done[REFERENCE],), problem="FP32 itself failed")
                continue
            size = size_of(Path(candidate.path))
            done[candidate.name] = dataclasses.replace(one, seconds=candidate.seconds, size_bytes=size)
            ready.append(Contestant(candidate.name, session, bind_feeds(session.inputs, samples[0])))
        if options is not None:
            turns = measure_in_turn(ready, options, progress=progress)
            for profile in turns.profiles:
                done[profile.engine] = dataclasses.replace(
                    done[profile.engine], samples_ns=profile.latency_ns, is_stationary=profile.is_stationary
                )
            machine = dict(turns.profiles[0].machine)
            load = f"{machine['load_before']} -> {machine['load_after']}"
            row = dataclasses.replace(row, block=turns.block, load=load)
    return dataclasses.replace(row, validation=len(samples), judged=tuple(done.values()))
