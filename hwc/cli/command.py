"""What all verbs share: trtexec's spellings, one place where errors become messages and exit codes, the last line.

A user who types trtexec's flags by habit is understood: `--minShapes` is `--min-shapes`, `--onnx=net.onnx` is the MODEL
argument. The aliases are rewritten before parsing, so help shows each flag once. The last line is trtexec's,
`&&&& PASSED hwc.compile`; with `--format json` it goes to stderr, so stdout is one JSON document.

Exit codes: 0 passed, 1 the verdict is no, 2 usage, 3 target, 4 engine, 70 internal (see hwc.errors), 130 interrupted.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

import click

from hwc.errors import HwcError, InternalError, UsageError

# trtexec spellings that differ by more than case from ours.
_ALIASES = {
    "--shapes": "--input-shapes",
    "--warm-up": "--warmup-ms",
    "--save-engine": "--output",
    "--load-engine": "--onnx",
    "--dump-profile": "--layers",
    "--dump-layer-info": "--layers",
    "--export-times": "--output",
    "--iterations": "--min-runs",
    "--int8": "--precision=int8",  # without --calibration-data refused there, with a next step
    "--bf16": "--precision=bf16",
    "--use-dlacore": "--use-dla-core",
    "--allow-gpufallback": "--gpu-fallback",
    "--timing-cache-file": "--timing-cache",
    "--hardware-compatibility-level": "--hardware-compatibility",
    "--plugins": "--static-plugins",
    "--set-plugins-to-serialize": "--dynamic-plugins",
}


class Rejected(click.ClickException):
    """The work was done and the verdict is no: exit code 1, no error text beyond what was printed."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        click.echo(self.message, err=True)


class Command(click.Command):
    """A verb. Rewrites trtexec's spellings and prints the last line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, normalize_args(args))

    def invoke(self, ctx: click.Context) -> Any:
        path = "hwc." + ".".join(_verbs(ctx))
        as_json = ctx.params.get("output_format") == "json"
        ok = False
        try:
            result = super().invoke(ctx)
            ok = True
            return result
        except HwcError as error:
            _print_error(error, as_json)
            raise click.exceptions.Exit(error.exit_code) from None
        except RecursionError as error:
            wrapped = InternalError("the model is nested too deeply to process", got=str(error))
            _print_error(wrapped, as_json)
            raise click.exceptions.Exit(wrapped.exit_code) from None
        except MemoryError:
            from hwc.errors import EngineError

            wrapped_memory = EngineError(
                "out of memory", do="use a smaller batch, or a larger machine"
            )
            _print_error(wrapped_memory, as_json)
            raise click.exceptions.Exit(wrapped_memory.exit_code) from None
        except SystemExit as error:
            # A model's file is code of the user's and may call exit(); its code must not pass for ours.
            ended = UsageError(
                "the model's code ended the program", got=f"SystemExit({error.code!r})", do="take its exit() out"
            )
            _print_error(ended, as_json)
            raise click.exceptions.Exit(ended.exit_code) from None
        finally:
            if getattr(self, "has_verdict", True):
                click.echo(f"&&&& {'PASSED' if ok else 'FAILED'} {path}", err=as_json)


class Group(click.Group):
    """The top-level group: knows where bugs are reported."""

    command_class = Command

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except Exception as error:  # the last net: a bug must still be one clear message
            import traceback

            where = traceback.extract_tb(error.__traceback__)[-1]
            _print_error(
                InternalError(
                    f"{type(error).__name__}: {error}",
                    where=f"{where.filename}:{where.lineno} in {where.name}",
                    do="please report this with the command and the model",
                ),
                False,
            )
            sys.exit(InternalError.exit_code)

    def invoke(self, ctx: click.Context) -> Any:
        # Here and not in `main`, where click has already made exit code 1 of both.
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            raise click.exceptions.Exit(130) from None
        except BrokenPipeError:
            # `hwc ... | head` closed the pipe; that is not an error of ours. What is buffered goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(0) from None


def normalize_args(args: list[str]) -> list[str]:
    """trtexec's spellings as ours: camelCase to kebab-case, `--onnx=X` to the plain argument X."""
    result = []
    for arg in args:
        if not arg.startswith("--"):
            result.append(arg)
            continue
        flag, equals, value = arg.partition("=")
        flag = re.sub(r"(?<=[a-z0-9])([A-Z])", r"-\1", flag).lower()
        flag = _ALIASES.get(flag, flag)
        result.append(value if flag == "--onnx" and equals else f"{flag}{equals}{value}")
    return result


def _verbs(ctx: click.Context) -> list[str]:
    """The verb and those above it, without the program's own name (which is "python -m hwc" for some)."""
    return [] if ctx.parent is None else [*_verbs(ctx.parent), ctx.info_name or ""]


def _print_error(error: HwcError, as_json: bool) -> None:
    click.echo(json.dumps(error.to_dict(), indent=1) if as_json else str(error), err=not as_json)
