"""Times a matrix product and a memory copy, for the two numbers of a CPU that no file states.

Each answer is the best of the repetitions that fit its time box: the fastest run is the one least disturbed, and a
roofline is an upper edge. On a loaded machine a product over all threads waits for the thread that has no core, and was
seen a hundred times too slow; so the product is also timed on one thread, in runs of microseconds that fit between two
interruptions, and what all cores would do at that rate is a lower edge.
Part of `probe`; nothing else of `hwc` measures a machine without an engine.
Limit: numpy's BLAS sets what the product reaches, and a copy cannot show more than the threads it was given.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Tuple

BOX_SECONDS = 0.15
MIN_RUNS = 3
SMALL = 64  # OpenBLAS uses one thread up to here


def measure_sgemm(cores: int) -> Tuple[float, str]:
    """(GFLOPS, how it was measured) of square float32 products over all threads, or of small ones times `cores`."""
    together, how = _measure_large()
    alone, how_alone = _measure_small(cores)
    if together >= alone:
        return together, how
    return alone, f"{how_alone}; {how} reached {together:g} GFLOPS only, so the machine was busy"


def _measure_small(cores: int) -> Tuple[float, str]:
    """Products that a BLAS leaves to one thread; each takes microseconds."""
    import numpy

    left = numpy.random.default_rng(0).random((SMALL, SMALL), dtype=numpy.float32)
    out = numpy.empty_like(left)
    best, runs, stop = float("inf"), 0, time.perf_counter() + BOX_SECONDS / 3
    while runs < MIN_RUNS or time.perf_counter() < stop:
        best = min(best, _time_dot(left, out))
        runs += 1
    how = f"measured here: {cores} times the best of {runs} float32 products of {SMALL}x{SMALL} on one thread"
    return round(cores * 2.0 * SMALL**3 / best / 1e9, 2), how


def _measure_large() -> Tuple[float, str]:
    """Products over all threads; n is picked so that one takes about 10 ms."""
    import numpy

    size, best = 256, float("inf")
    generator = numpy.random.default_rng(0)
    while True:
        left = generator.random((size, size), dtype=numpy.float32)
        out = numpy.empty_like(left)
        # The first run starts the BLAS threads; on a busy machine any single one may have lost its core for a while.
        best = min(_time_dot(left, out) for _ in range(MIN_RUNS))
        if best > 0.005 or size >= 1024:
            break
        size *= 2
    runs, stop = MIN_RUNS, time.perf_counter() + BOX_SECONDS
    while time.perf_counter() < stop:
        best = min(best, _time_dot(left, out))
        runs += 1
    how = f"measured here: best of {runs} float32 products of {size}x{size}, numpy {numpy.__version__}"
    return round(2.0 * size**3 / best / 1e9, 2), how


def _time_dot(left: Any, out: Any) -> float:
    import numpy

    started = time.perf_counter()
    numpy.dot(left, left, out=out)
    return time.perf_counter() - started


def measure_copy(cores: int, last_cache_bytes: int) -> Tuple[float, str]:
    """(GB/s, how it was measured) of copying between two arrays, one thread and one slice per core.

    Args:
        cores: threads to use, at least 1.
        last_cache_bytes: size of the last cache, 0 if unknown. Source and destination together are four times that,
            but between 64 and 256 MiB, so that a big cache does not take all memory or all time.
    """
    import numpy

    array_bytes = min(max(2 * last_cache_bytes, 32 << 20), 128 << 20)
    source = numpy.ones(array_bytes // 8, dtype=numpy.float64)
    target = numpy.zeros_like(source)
    target.fill(0.0)  # zeros alone leaves the pages unmapped, and the first copy would time the kernel
    slices = [slice(i * source.size // cores, (i + 1) * source.size // cores) for i in range(cores)]

    def copy_slice(part: slice) -> None:
        numpy.copyto(target[part], source[part])  # releases the GIL while it copies

    best, runs = float("inf"), 0
    with ThreadPoolExecutor(max_workers=cores) as pool:
        stop = time.perf_counter() + BOX_SECONDS
        while runs < MIN_RUNS or time.perf_counter() < stop:
            started = time.perf_counter()
            list(pool.map(copy_slice, slices))
            best = min(best, time.perf_counter() - started)
            runs += 1
    rate = 2.0 * source.nbytes / best / 1e9
    how = f"measured here: best of {runs} copies of {array_bytes >> 20} MiB by {cores} threads, reads plus writes"
    if 2 * array_bytes < 4 * last_cache_bytes:
        how += f"; part of it may have stayed in the {last_cache_bytes >> 20} MiB cache"
    return round(rate, 2), how
