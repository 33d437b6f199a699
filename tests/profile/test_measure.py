"""Measurement judged on a clock that the test moves: no real time passes and no assertion depends on speed."""

from collections import Counter

import numpy as np
import pytest

from hwc.artifacts import Kernel
from hwc.engines.base import Session
from hwc.errors import UsageError
from hwc.profile import measure as measuring
from hwc.profile.measure import (
    Contestant,
    MeasureOptions,
    block_medians,
    is_stationary,
    machine_state,
    measure,
    measure_in_turn,
    measure_pair,
    paired_ratio,
    turn_orders,
)

MS = 1_000_000


class Clock:
    """A clock that stands still until something takes time."""

    def __init__(self) -> None:
        self.now_ns = 10**12

    def spend(self, ns: float) -> None:
        self.now_ns += int(ns)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: clock.now_ns / 1e9)
    monkeypatch.setattr(measuring.time, "perf_counter_ns", lambda: clock.now_ns)
    monkeypatch.setattr(measuring.time, "sleep", lambda seconds: clock.spend(seconds * 1e9))
    return clock


class Scripted(Session):
    """An engine whose n-th run takes `latency(n, seconds since the start)` milliseconds."""

    def __init__(self, clock: Clock, latency, log=None, name="") -> None:
        self.clock, self.latency, self.log, self.name = clock, latency, log, name
        self.runs, self.start_ns = 0, clock.now_ns

    def run(self, feeds):
        if self.log is not None:
            self.log.append(self.name)
        self.clock.spend(self.latency(self.runs, (self.clock.now_ns - self.start_ns) / 1e9) * MS)
        self.runs += 1
        return {}

    def layers(self):
        return (Kernel("k", "Conv", "fp32", (), 5.0),)


def options(**changes) -> MeasureOptions:
    return MeasureOptions(**{"warmup_s": 0.1, "max_warmup_s": 2.0, "duration_s": 0.5, "min_runs": 5, **changes})


def run(clock: Clock, latency, **changes):
    session = Scripted(clock, latency)
    return measure(session, {}, options(**changes), name="made up"), session


def test_a_steady_engine_is_measured_as_it_is(clock):
    profile, session = run(clock, lambda n, t: 2.0)
    assert profile.is_stationary
    assert set(profile.latency_ns) == {2 * MS}
    assert len(profile.latency_ns) == 250
    assert len(profile.warmup_ns) + len(profile.latency_ns) == session.runs
    assert (profile.engine, profile.batch, profile.p50_ms, profile.throughput_qps) == ("made up", 1, 2.0, 500.0)
    assert profile.layers == session.layers()


def test_every_sample_is_kept_in_the_order_taken(clock):
    profile, _ = run(clock, lambda n, t: 1.0 + (n % 7) / 10)
    taken = [round((1.0 + (n % 7) / 10) * MS) for n in range(len(profile.warmup_ns) + len(profile.latency_ns))]
    assert [*profile.warmup_ns, *profile.latency_ns] == pytest.approx(taken, abs=1)


def test_the_warm_up_lasts_until_the_latency_has_settled_and_is_not_counted(clock):
    profile, _ = run(clock, lambda n, t: max(1.0, 10.0 * 0.95**n))
    assert profile.is_stationary
    assert len(profile.warmup_ns) >= 45
    assert set(profile.latency_ns) == {MS}


def test_an_engine_that_never_settles_says_so(clock):
    profile, _ = run(clock, lambda n, t: 1.02**n)
    assert not profile.is_stationary
    assert sum(profile.warmup_ns) >= 2.0e9
    assert profile.latency_ns


def test_the_least_warm_up_is_kept_even_where_the_latency_is_steady_at_once(clock):
    profile, _ = run(clock, lambda n, t: 1.0, warmup_s=0.3)
    assert sum(profile.warmup_ns) >= 0.3e9


def test_a_slow_engine_settles_with_the_windows_that_fit(clock):
    profile, _ = run(clock, lambda n, t: 100.0)
    assert profile.is_stationary
    assert len(profile.warmup_ns) < 3 * options().window


def test_the_number_of_runs_wins_over_the_time_for_a_slow_engine(clock):
    profile, _ = run(clock, lambda n, t: 400.0, min_runs=5)
    assert len(profile.latency_ns) == 5


def test_the_state_of_the_machine_is_in_the_profile(clock):
    machine = dict(run(clock, lambda n, t: 1.0)[0].machine)
    assert set(machine_state()) | {"load_before", "load_after"} == set(machine)
    assert all(machine.values())


def test_progress_goes_from_nothing_to_all(clock):
    said = []
    measure(Scripted(clock, lambda n, t: 1.0), {}, options(), name="e", progress=lambda *what: said.append(what))
    assert {what for what, _ in said} == {"warming up", "measuring"}
    assert all(0 <= share <= 1 for _, share in said) and said[-1] == ("measuring", 1.0)


@pytest.mark.parametrize(
    "wrong",
    [{"duration_s": 0}, {"min_runs": 0}, {"window": 0}, {"tolerance": 0}, {"tolerance": 1}, {"max_warmup_s": 0},
     {"warmup_s": -1}, {"batch": 0}, {"pause_s": -1}, {"max_rounds": 5}],
)  # fmt: skip
def test_a_measurement_of_nothing_is_refused(wrong):
    with pytest.raises(UsageError):
        options(**wrong)


def test_stationary_is_three_windows_whose_medians_agree():
    steady = [100] * 9
    assert is_stationary(steady, 3, 0.05)
    assert not is_stationary(steady[:8], 3, 0.05)
    assert is_stationary([100, 100, 100, 104, 104, 104, 102, 102, 102], 3, 0.05)
    assert not is_stationary([100, 100, 100, 106, 106, 106, 103, 103, 103], 3, 0.05)
    assert is_stationary([900, 900, 900, *steady], 3, 0.05)
    assert is_stationary([100, 9000, 100] * 3, 3, 0.05)  # one outlier a window does not move a median
    assert not is_stationary([120, 120, 120, 110, 110, 110, 100, 100, 100], 3, 0.05)


def pair(clock: Clock, latency_a, latency_b, log=None, **changes):
    sessions = (Scripted(clock, latency_a, log, "a"), Scripted(clock, latency_b, log, "b"))
    return measure_pair(*sessions, {}, {}, options(**changes), names=("a", "b"))


def test_the_ratio_of_two_steady_engines_is_exact_and_decided(clock):
    profile_a, profile_b, ratio = pair(clock, lambda n, t: 1.0, lambda n, t: 2.0)
    assert (ratio.ratio, ratio.low, ratio.high) == (0.5, 0.5, 0.5)
    assert ratio.is_decided and len(ratio.pairs) >= 6
    assert (profile_a.p50_ms, profile_b.p50_ms) == (1.0, 2.0)
    assert (profile_a.engine, profile_b.engine) == ("a", "b")


def test_equal_engines_are_seldom_decided(clock):
    decided = 0
    for seed in range(10):
        noise = np.random.default_rng(seed).normal(1.0, 0.05, 10_000)
        decided += pair(clock, lambda n, t, x=noise: x[n], lambda n, t, x=noise: x[-n - 1])[2].is_decided
    assert decided <= 3  # one in twenty is what a 95 % interval promises


def test_a_drift_of_the_machine_cancels_in_pairs_where_separate_runs_would_keep_it(clock):
    def slowed(base: float):
        return lambda n, t: base * (1.0 + t)  # a machine that takes twice as long after one second

    ratio = pair(clock, slowed(1.0), slowed(1.1), duration_s=2.0)[2]
    assert ratio.ratio == pytest.approx(1 / 1.1, rel=0.01)
    assert ratio.is_decided
    separate = run(clock, slowed(1.0))[0].p50_ms, Scripted(clock, slowed(1.1))
    separate[1].start_ns -= 2 * 10**9  # the second engine's turn comes two seconds later
    later = measure(separate[1], {}, options(), name="b").p50_ms
    assert abs(separate[0] / later - 1 / 1.1) > 0.1


def test_blocks_alternate_so_that_neither_engine_always_runs_second(clock):
    log: list[str] = []
    pair(clock, lambda n, t: 1.0, lambda n, t: 1.0, log)
    # Ten runs that count and one before them that does not, in the order A B B A.
    assert ("b" + "a" * 11 + "b" * 22 + "a" * 22 + "b" * 22 + "a") in "".join(log)


@pytest.mark.parametrize("count", range(1, 8))
def test_orders_give_each_contestant_each_place_and_each_predecessor_equally_often(count):
    orders = turn_orders(count)
    assert all(sorted(order) == list(range(count)) for order in orders)
    places = Counter((place, index) for order in orders for place, index in enumerate(order))
    followed = Counter(two for order in orders for two in zip(order, order[1:]))
    assert len(places) == count**2 and len(set(places.values())) == 1
    assert len(followed) == count * (count - 1) and len(set(followed.values())) <= 1


def test_any_number_of_engines_run_in_turn_and_any_two_are_compared(clock):
    speeds = (1.0, 2.0, 4.0)
    contestants = [Contestant(f"{ms} ms", Scripted(clock, lambda n, t, ms=ms: ms), {}) for ms in speeds]
    turns = measure_in_turn(contestants, options())
    assert [profile.p50_ms for profile in turns.profiles] == list(speeds)
    assert len({len(profile.latency_ns) for profile in turns.profiles}) == 1
    assert (turns.ratio(0, 1).ratio, turns.ratio(2, 0).ratio, turns.ratio(1, 1).ratio) == (0.5, 4.0, 1.0)


def test_the_run_on_cold_caches_that_opens_a_block_is_not_counted(clock):
    last = []

    def cold_after_another(name: str):
        def latency(n, t):
            is_cold = last[-1:] != [name]
            last.append(name)
            return 9.0 if is_cold else 1.0

        return latency

    profiles = pair(clock, cold_after_another("a"), cold_after_another("b"))[:2]
    for profile in profiles:
        assert set(profile.latency_ns) == {MS}


def test_a_slow_engine_gets_short_blocks_and_at_least_six_rounds(clock):
    profile_a, _, ratio = pair(clock, lambda n, t: 300.0, lambda n, t: 400.0)
    assert len(ratio.pairs) == len(profile_a.latency_ns) == 6


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_measurement_ends_with_a_whole_set_of_orders(clock, count):
    contestants = [Contestant(str(i), Scripted(clock, lambda n, t: 30.0), {}) for i in range(count)]
    for duration_s in (0.1, 1.0, 1.7, 2.9):
        turns = measure_in_turn(contestants, options(duration_s=duration_s))
        rounds = len(turns.profiles[0].latency_ns) // turns.block
        assert rounds >= 6 and rounds % len(turn_orders(count)) == 0


def test_the_number_of_rounds_is_bounded(clock):
    assert len(pair(clock, lambda n, t: 0.01, lambda n, t: 0.01, max_rounds=8)[2].pairs) == 8


def test_medians_are_of_whole_blocks_in_order():
    assert block_medians([1, 9, 2, 5, 5, 8], 3) == [2, 5]


def test_a_ratio_is_the_median_with_an_interval_that_holds_it_and_can_be_reproduced():
    known = [0.8, 0.9, 0.9, 1.0, 0.9, 0.85, 0.95, 0.9, 5.0]
    ratio = paired_ratio(known)
    assert ratio.ratio == 0.9 and ratio.pairs == tuple(known)
    assert 0.8 <= ratio.low <= 0.9 <= ratio.high <= 1.0
    assert paired_ratio(known) == ratio


def test_the_interval_narrows_as_pairs_are_added():
    rng = np.random.default_rng(1)
    few, many = (paired_ratio(list(rng.normal(0.97, 0.05, count))) for count in (10, 400))
    assert many.high - many.low < (few.high - few.low) / 2
    assert many.is_decided and not few.is_decided


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    found = [paired_ratio(list(rng.normal(1.0, 0.1, 40))) for _ in range(100)]
    assert 88 <= sum(ratio.low <= 1.0 <= ratio.high for ratio in found) <= 100


