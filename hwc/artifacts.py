"""The nouns: every value that crosses from one stage to the next.

All are frozen dataclasses with units in their names, so a stage can neither edit its input nor misread it. `to_json`
and `from_json` (hwc/serialize.py) are the one way in and out of a file.

Part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Optional, Tuple, Union

from hwc.errors import TargetError, UsageError

Value = Union[int, float, str, bool, Tuple[str, ...], None]


@dataclass(frozen=True)
class DynamicDim:
    """One dimension that may vary at run time: the range of one optimization profile.

    The range is closed, as TensorRT's profiles are: min <= size <= max, and opt is what kernels are chosen for.
    """

    min: int
    opt: int
    max: int

    def __post_init__(self) -> None:
        if not 0 < self.min <= self.opt <= self.max:
            raise UsageError(
                "a dynamic dimension needs 0 < min <= opt <= max", got=f"{self.min}, {self.opt}, {self.max}",
                do="give the three shapes of --minShapes, --optShapes and --maxShapes in that order",
            )


Dim = Union[int, DynamicDim]  # below its class: Python 3.8 does not resolve a name quoted inside an alias


@dataclass(frozen=True)
class TensorSpec:
    """A named tensor at the border of a model. `dtype` is a numpy name ("float32", "int64", "bool")."""

    name: str
    dtype: str
    shape: Tuple[Dim, ...]

    @property
    def is_static(self) -> bool:
        return all(isinstance(dim, int) for dim in self.shape)

    def at(self, which: str) -> Tuple[int, ...]:
        """The concrete shape at "min", "opt" or "max"."""
        return tuple(dim if isinstance(dim, int) else int(getattr(dim, which)) for dim in self.shape)


@dataclass(frozen=True)
class Fact:
    """One statement about hardware or software. `value` is None where nothing trustworthy was found.

    `source` is a URL or a sentence that says who measured it or how it was computed; it is never empty.
    """
    value: Value
    unit: str
    source: str
    note: str = ""

    @property
    def is_known(self) -> bool:
        return self.value is not None


@dataclass(frozen=True)
class PowerMode:
    """One nvpmodel row. Match modes by name: the same id means other things in other tables.

    None is 'unknown'. `watts` of 0 means uncapped.
    """

    id: str
    name: str
    watts: Optional[float]
    cpus_online: Optional[int]
    gpu_clock_mhz: Optional[float]
    dla_clock_mhz: Optional[float]
    memory_clock_mhz: Optional[float]
    tpc: str
    source: str
    is_default: bool = False


@dataclass(frozen=True)
class Target:
    """One named piece of hardware with the runtime it carries: data from `targets/data/<name>.toml`.

    Facts are keyed by dotted names ("gpu.sm_count"); `hwc targets show` prints them with their sources.
    """

    name: str
    title: str
    family: str  # "cpu", "geforce", "datacenter" or "jetson"
    engine: str  # "openvino", "tensorrt_rtx" or "tensorrt"
    facts: Mapping[str, Fact]
    power_modes: Tuple[PowerMode, ...] = ()
    notes: Tuple[str, ...] = ()

    def fact(self, name: str) -> Fact:
        """The fact of that dotted name.

        Raises:
            TargetError: the target has no such fact.
        """
        try:
            return self.facts[name]
        except KeyError:
            do = f"see `hwc targets show {self.name}` for what is recorded"
            raise TargetError(f"{self.name} has no fact '{name}'", do=do) from None

    def number(self, name: str) -> float:
        """The fact's value as a number in the fact's unit.

        Raises:
            TargetError: the value is unknown or is not a number.
        """
        fact = self.fact(name)
        if isinstance(fact.value, bool) or not isinstance(fact.value, (int, float)):
            raise TargetError(
                f"{self.name}: '{name}' is {'unknown' if fact.value is None else 'not a number'}",
                got=repr(fact.value),
                source=fact.source,
                do=f"measure it on the device, or give the fact a source in targets/data/{self.name}.toml",
            )
        return float(fact.value)

    def knows(self, name: str) -> bool:
        """Whether the fact exists and is not 'unknown'."""
        return name in self.facts and self.facts[name].is_known


@dataclass(frozen=True)
class NearMiss:
    """Why a pass left something alone: the node it looked at and the condition that failed."""

    node: str
    reason: str


@dataclass(frozen=True)
class Step:
    """One pass over the graph, as it happened. Digests are of the whole model (structure and weights)."""

    name: str
    rewrites: int
    nodes_before: int
    nodes_after: int
    digest_before: str
    digest_after: str
    seconds: float
    misses: Tuple[NearMiss, ...] = ()
    notes: Tuple[str, ...] = ()


@dataclass(frozen=True)
class FusionGroup:
    """The nodes that are expected to become one kernel. `kind` reads "Conv+Relu+MaxPool"; nodes are in graph order."""

    id: str
    kind: str
    nodes: Tuple[str, ...]
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]


@dataclass(frozen=True)
class Kernel:
    """One executable step of a built engine, read back from that engine.

    `sources` are the graph nodes it came from, empty where the runtime does not say. `time_us` is a measured median.
    """

    name: str
    kind: str
    precision: str
    sources: Tuple[str, ...] = ()
    time_us: Optional[float] = None


@dataclass(frozen=True)
class BuildKey:
    """All that decides what an engine is. Two engines with equal keys may be exchanged."""

    model_digest: str
    target: str
    runtime: str  # "openvino 2026.4.1"
    precision: str
    options: Tuple[Tuple[str, str], ...] = ()
    power_mode: str = ""
    plugins: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Engine:
    """A built engine and what was read back from it. Paths are relative to the bundle folder.

    `activation_bytes` and `weight_bytes` are None where the runtime does not report them; `kernels` is what runs,
    without bookkeeping such as stream signals. `state` is "verified" after it ran on the target's own hardware,
    "built" when it was only compiled here, "deferred" when the target builds it from the bundle.
    """

    backend: str
    state: str
    key: BuildKey
    files: Tuple[str, ...]
    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]
    kernels: Tuple[Kernel, ...]
    size_bytes: int
    activation_bytes: Optional[int]
    weight_bytes: Optional[int]
    build_seconds: float
    command: Tuple[str, ...]
    precision_built: Tuple[Tuple[str, int], ...] = ()  # precision -> number of kernels
    notes: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Profile:
    """Measured latencies of one engine, every sample kept, in the order taken.

    Percentiles are properties, so that no summary can be stored without its samples.
    """

    engine: str
    latency_ns: Tuple[int, ...]
    warmup_ns: Tuple[int, ...]
    is_stationary: bool
    batch: int
    machine: Tuple[Tuple[str, str], ...]
    layers: Tuple[Kernel, ...] = ()

    def __post_init__(self) -> None:
        if not self.latency_ns or self.batch < 1:
            raise UsageError(
                "a profile needs at least one sample and a batch of at least 1",
                got=f"{len(self.latency_ns)} samples, batch {self.batch}", do="run `hwc profile` again",
            )

    def percentile_ms(self, q: float) -> float:
        """The q-th percentile (0 to 100) of latency in milliseconds, linear between samples."""
        ordered = sorted(self.latency_ns)
        position = (len(ordered) - 1) * q / 100.0
        low = int(position)
        high = min(low + 1, len(ordered) - 1)
        return (ordered[low] + (ordered[high] - ordered[low]) * (position - low)) / 1e6

    @property
    def p50_ms(self) -> float:
        return self.percentile_ms(50)

    @property
    def p95_ms(self) -> float:
        return self.percentile_ms(95)

    @property
    def p99_ms(self) -> float:
        return self.percentile_ms(99)

    @property
    def mean_ms(self) -> float:
        return sum(self.latency_ns) / len(self.latency_ns) / 1e6

    @property
    def throughput_qps(self) -> float:
        """Inferences per second, one after the other: batch over mean latency."""
        return self.batch / (self.mean_ms / 1e3)


@dataclass(frozen=True)
class TensorScale:
    """How one tensor becomes integers: q = clamp(round_half_even(x / scale)), x ~ q * scale, zero point always 0.

    `scale` holds one number, or one per channel along `axis`. "int8" is -128..127 (weights -127..127); "uint8" is
    0..255, for a tensor that is never negative on an engine that takes it. `method` names who chose the scale.
    """

    scale: Tuple[float, ...]
    axis: Optional[int] = None
    dtype: str = "int8"
    method: str = ""

    def __post_init__(self) -> None:
        is_legal = all(0.0 < value < float("inf") for value in self.scale) and self.dtype in ("int8", "uint8")
        if not is_legal or not self.scale or (self.axis is None and len(self.scale) != 1):
            raise UsageError(
                "a scale must be positive and finite, one or one per channel, for int8 or uint8",
                got=f"{self.scale[:4]} {self.dtype}, axis {self.axis}", do="calibrate again",
            )


@dataclass(frozen=True)
class QuantTable:
    """The scales of one calibration: activations by tensor name, weights by initializer name.

    `model_digest` is of the FP32 graph, `data_digest` of every sample that was read.
    """

    model_digest: str
    data_digest: str
    samples: int
    method: str
    tensors: Mapping[str, TensorScale]
    weights: Mapping[str, TensorScale] = field(default_factory=dict)
    notes: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What the accuracy guard found, on paired samples. Scores are in points: 100 times the mean score.

    `drop` is baseline minus candidate, in points or in % of the baseline (`drop_type`), as are its interval at
    `confidence` and the `limit`. `decision` is "passed" (the whole interval
    lies within the limit), "failed" (the measured drop is over it) or "undecided" (the measured drop is within the
    limit, but so few samples cannot tell). `judged` is "verified" where the engine that ships ran, else "likely".
    """

    metric: str
    samples: int
    baseline: float
    candidate: float
    drop: float
    drop_low: float
    drop_high: float
    confidence: float
    limit: float
    drop_type: str  # "absolute" or "relative"
    decision: str
    judged: str
    agreement: Optional[float] = None  # share of samples with the baseline's own answer, 0 to 1
    sqnr_db: Optional[float] = None  # mean over samples, outputs of the candidate against the baseline's
    note: str = ""


@dataclass(frozen=True)
class Attempt:
    """One recipe that was tried. `high` names the fusion groups that were kept out of INT8.

    `outcome` is "kept", "rolled back" or "refused" (never built). `effects` are measured; units are in the names.
    """
    name: str
    precision: str
    outcome: str
    reason: str
    high: Tuple[str, ...] = ()
    verdict: Optional[Verdict] = None
    latency_ms: Optional[float] = None
    size_bytes: Optional[int] = None
    seconds: float = 0.0
    effects: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Ledger:
    """What was tried on the way to an engine, in order: what was undone, why, and at what cost."""

    model: str
    target: str
    asked: str
    attempts: Tuple[Attempt, ...]
    notes: Tuple[str, ...] = ()

    @property
    def kept(self) -> Optional[Attempt]:
        """The attempt that ships; None if nothing passed."""
        return next((attempt for attempt in self.attempts if attempt.outcome == "kept"), None)


@dataclass(frozen=True)
class Bundle:
    """What `hwc compile` leaves behind: the content of manifest.json.

    `files` maps each file of the folder (manifest excepted) to its sha256. `plain` is the engine of the same model
    without a single pass, built for comparison when that was asked for; its files are not kept.
    """

    schema: int
    name: str
    target: Target
    precision_asked: str
    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]
    steps: Tuple[Step, ...]
    groups: Tuple[FusionGroup, ...]
    engine: Engine
    files: Mapping[str, str]
    versions: Mapping[str, str]
    command: Tuple[str, ...]
    source: Mapping[str, str] = field(default_factory=dict)
    plain: Optional[Engine] = None
    notes: Tuple[str, ...] = ()
