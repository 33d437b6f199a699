"""Flags that several verbs take, each defined once."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Any], Any]

FORMAT: Decorator = click.option(
    "--format", "output_format", type=click.Choice(["text", "json"]), default="text", help="How results are printed."
)
TARGET: Decorator = click.option(
    "-t", "--target", default="cpu", show_default=True, help="Hardware to compile for; see `hwc targets list`."
)
THREADS: Decorator = click.option(
    "--threads", type=click.IntRange(min=0), default=0, help="CPU threads an engine may use; 0 for all."
)


def shapes(command: Any) -> Any:
    """--input-shapes and the three of an optimization profile."""
    for flag, text in (
        ("--max-shapes", "Largest shapes of the optimization profile."),
        ("--opt-shapes", "Shapes that kernels are chosen for."),
        ("--min-shapes", "Smallest shapes of the optimization profile."),
        ("--input-shapes", "Shapes as x:1x3x224x224 or x:[1,3,224,224]; several separated by commas."),
    ):
        command = click.option(flag, multiple=True, metavar="SHAPES", help=text)(command)
    return command


def calibration(command: Any) -> Any:
    """What decides the integers: samples, recipe, method, improvements."""
    for flag, extra in (
        ("--rounding-seconds", {"type": click.FloatRange(min=0), "default": 300.0, "show_default": True,
                                "help": "Bound on learning all roundings together; 0 for none."}),
        ("--improve", {"multiple": True, "metavar": "-NAME",
                       "help": "Leave NAME out: equalize_layers, correct_bias, learn_rounding, distill_rounding."}),
        ("--calibration-method", {"default": "auto", "show_default": True,
                                  "metavar": "auto|max|entropy|percentile|mse",
                                  "help": "How ranges of activations are chosen; auto takes the best per tensor."}),
        ("--calibration-samples", {"type": click.IntRange(min=1), "default": 500, "show_default": True,
                                   "help": "At most so many samples are read."}),
        ("--calibration-recipe", {"default": "", "metavar": "NAME|FILE.toml",
                                  "help": "How images become inputs; see calibration/."}),
    ):  # fmt: skip
        command = click.option(flag, **extra)(command)
    return command


def calibration_options(
    data: str, recipe: str, samples: int, method: str, improve: tuple[str, ...], seconds: float
) -> Any:
    """The flags of `calibration` as one value; None without data."""
    from hwc.quantize import CalibrationOptions

    if not data:
        return None
    return CalibrationOptions(data, recipe, samples, method, parse_pass_names(improve, "--improve"), seconds)


def guard(command: Any) -> Any:
    """What the accuracy guard judges by."""
    for flag, extra in (
        ("--metric", {"default": "", "metavar": "top1|top5|agreement|cosine|FILE.py:FN",
                      "help": "Score of one sample, 0 to 1; top1 where samples have labels, else agreement."}),
        ("--drop-type", {"type": click.Choice(["absolute", "relative"]), "default": "absolute", "show_default": True,
                         "help": "Whether the limit is in points or in per cent of the FP32 score."}),
        ("--max-drop", {"type": click.FloatRange(min=0), "default": 0.5, "show_default": True,
                        "help": "Largest loss of accuracy, in percentage points."}),
        ("--validation-recipe", {"default": "", "metavar": "NAME|FILE.toml",
                                 "help": "How validation images become inputs, if not as calibration images do."}),
        ("--validation-data", {"default": "", "metavar": "DATA",
                               "help": "Samples to judge on; else what calibration leaves, a fifth at least."}),
    ):  # fmt: skip
        command = click.option(flag, **extra)(command)
    return command


def default_cache() -> Path:
    """$HWC_CACHE_DIR, else ~/.cache/hwc."""
    return Path(os.environ.get("HWC_CACHE_DIR") or Path("~/.cache/hwc").expanduser())


def cache(command: Any) -> Any:
    """--cache-dir and --no-cache; the environment is read here and nowhere below."""
    command = click.option("--no-cache", is_flag=True, help="Neither read nor write the step cache.")(command)
    return click.option(
        "--cache-dir",
        type=click.Path(path_type=Path, file_okay=False),
        default=default_cache,
        show_default="~/.cache/hwc",
        help="Where finished steps are kept.",
    )(command)


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Callable[[str, float], None]]:
    """A bar on stderr where that is a terminal; elsewhere a line per stage would only fill logs, so nothing."""
    if not sys.stderr.isatty():
        yield lambda what, fraction: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda what, fraction: bar.update(task, completed=fraction, description=f"{title}: {what}")


@contextlib.contextmanager
def open_store(cache_dir: Path, no_cache: bool) -> Iterator[Any]:
    """The step cache; with --no-cache one in a temporary folder that goes away."""
    import tempfile

    from hwc.store import Store

    if not no_cache:
        yield Store(cache_dir)
        return
    with tempfile.TemporaryDirectory(prefix="hwc-cache-") as folder:
        yield Store(Path(folder))


def parse_input_shapes(
    fixed: tuple[str, ...], minimum: tuple[str, ...], optimum: tuple[str, ...], maximum: tuple[str, ...]
) -> Any:
    """The four shape flags as one `InputShapes`; a flag may be given several times."""
    from hwc.frontend.input_shapes import parse_shapes

    return parse_shapes(*(",".join(texts) for texts in (fixed, minimum, optimum, maximum)))


def parse_pass_names(texts: tuple[str, ...], flag: str = "--passes") -> tuple[str, ...]:
    """The names in `--passes=-a,-b`; only leaving out is offered, because the order of passes is not the user's."""
    from hwc.errors import UsageError

    names = [name for text in texts for name in text.split(",") if name]
    for name in names:
        if not name.startswith("-"):
            raise UsageError(f"{flag} takes names to leave out, with a '-'", expected=f"{flag}=-{name}", got=name)
    return tuple(name[1:] for name in names)


def parse_bytes(text: str, flag: str) -> int:
    """A size with its unit (B, kB, MB, GB, KiB, MiB, GiB) as bytes, at least 1."""
    from hwc.errors import UsageError

    units = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
    number = text.rstrip("BkKMGi")
    unit = text[len(number):]
    try:
        size = int(float(number) * units[unit])
    except (ValueError, KeyError, OverflowError):
        size = 0
    if size < 1:
        raise UsageError(f"{flag} cannot be read", expected="a number and a unit, as 512MiB or 1.5GB", got=text)
    return size


def parse_pairs(texts: tuple[str, ...], flag: str) -> dict[str, str]:
    """NAME=VALUE flags as a dict."""
    from hwc.errors import UsageError

    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"{flag} wants NAME=VALUE", got=text)
        pairs[name] = value
    return pairs


def parse_normalization(texts: tuple[str, ...]) -> tuple[Any, ...]:
    """INPUT:MEAN/STD[:uint8] flags."""
    from hwc.errors import UsageError
    from hwc.optimize import Normalization

    result = []
    for text in texts:
        name, _, rest = text.rpartition(":") if not text.endswith(":uint8") else text[: -len(":uint8")].rpartition(":")
        mean, slash, std = rest.partition("/")
        try:
            numbers = tuple(tuple(float(x) for x in part.split(",")) for part in (mean, std))
        except ValueError:
            numbers = ()
        if not name or not slash or len(numbers) != 2 or 0.0 in numbers[1] or len(numbers[0]) != len(numbers[1]):
            raise UsageError(
                "--normalize cannot be read",
                expected="INPUT:MEAN/STD[:uint8], as image:127,127,127/128,128,128:uint8",
                got=text,
            )
        result.append(Normalization(name, numbers[0], numbers[1], text.endswith(":uint8")))
    return tuple(result)


def load_inputs(texts: tuple[str, ...]) -> dict[str, Any]:
    """`--load-inputs x:file.npy` flags (trtexec's spelling), or one .npz with all inputs."""
    from hwc.array_file import load_inputs

    return load_inputs(texts)
