"""What all verbs share: trtexec's spellings, exit codes, the last line, and JSON that is nothing but JSON."""

import contextlib
import os
import signal
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from hwc.cli.command import Command, Group, Rejected, normalize_args
from hwc.errors import EngineError, InternalError, TargetError, UsageError
from tests.e2e.fixtures import document
from tests.e2e.tiny_models import write_onnx


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--minShapes=x:1x3", "--min-shapes=x:1x3"),
        ("--optShapes", "--opt-shapes"),
        ("--shapes=x:1x3", "--input-shapes=x:1x3"),
        ("--onnx=Net.onnx", "Net.onnx"),
        ("--loadEngine=Out/Dir", "Out/Dir"),
        ("--saveEngine=Out", "--output=Out"),
        ("--warmUp=200", "--warmup-ms=200"),
        ("--iterations=5", "--min-runs=5"),
        ("--dumpProfile", "--layers"),
        ("--builderOptimizationLevel=5", "--builder-optimization-level=5"),
        ("--loadInputs=x:File.npy", "--load-inputs=x:File.npy"),
        ("--int8", "--precision=int8"),
        ("--bf16", "--precision=bf16"),
        ("--min-shapes=x:1x3", "--min-shapes=x:1x3"),
        ("--passes=-fold_pads", "--passes=-fold_pads"),
        ("myNet.onnx", "myNet.onnx"),
        ("-o", "-o"),
    ],
)
def test_trtexecs_spellings_are_ours(typed, meant):
    assert normalize_args([typed]) == [meant]


def verb(raises: BaseException | None) -> Group:
    """A command line whose only verb fails in that way, or passes."""

    @click.group(cls=Group)
    def main():
        pass

    @main.command("try", cls=Command)
    @click.option("--format", "output_format", default="text")
    def attempt(output_format):
        if raises is not None:
            raise raises
        click.echo("{}" if output_format == "json" else "fine")

    return main


ENDS = [
    (None, 0, "fine"),
    (Rejected("the verdict is no"), 1, "the verdict is no"),
    (UsageError("wrong", got="this", do="that"), 2, "UsageError: wrong\n  got:       this\n  do:        that"),
    (TargetError("cannot"), 3, "TargetError: cannot"),
    (EngineError("broke"), 4, "EngineError: broke"),
    (MemoryError(), 4, "EngineError: out of memory"),
    (InternalError("our fault"), 70, "InternalError: our fault"),
    (RecursionError("depth"), 70, "InternalError: the model is nested too deeply"),
    (ZeroDivisionError("by zero"), 70, "InternalError: ZeroDivisionError: by zero"),
    (SystemExit(0), 2, "UsageError: the model's code ended the program\n  got:       SystemExit(0)"),
    (KeyboardInterrupt(), 130, "interrupted"),
]


@pytest.mark.parametrize(("raises", "code", "text"), ENDS, ids=lambda x: type(x).__name__)
def test_each_end_has_its_exit_code_message_and_last_line(raises, code, text):
    result = CliRunner().invoke(verb(raises), ["try"])
    assert result.exit_code == code
    assert text in (result.stderr if code else result.stdout)
    assert result.stdout.splitlines()[-1] == f"&&&& {'FAILED' if code else 'PASSED'} hwc.try"
    assert "Traceback" not in result.output


@pytest.mark.parametrize(("raises", "code", "text"), [end for end in ENDS if end[1] in (0, 2, 3, 4)], ids=str)
def test_json_is_alone_on_stdout_whatever_happens(raises, code, text):
    result = CliRunner().invoke(verb(raises), ["try", "--format", "json"])
    shown = document(result)
    assert result.stderr.splitlines() == [f"&&&& {'FAILED' if code else 'PASSED'} hwc.try"]
    if code:
        assert shown["exit_code"] == code and text.splitlines()[0].startswith(f"{shown['error']}: {shown['what']}"[:20])


def test_an_error_in_json_has_the_fields_of_the_text(hwc, tmp_path):
    result = hwc("compile", tmp_path / "absent.onnx", "-o", tmp_path / "out", "--format", "json")
    assert result.exit_code == 2
    shown = document(result)
    assert shown["error"] == "UsageError" and "absent.onnx" in shown["what"] and "check the path" in shown["do"]


def test_what_a_model_prints_does_not_spoil_the_json(hwc, tmp_path):
    net = write_onnx(tmp_path)
    (tmp_path / "loud.py").write_text(f"print('hello')\ndef model():\n    print('again')\n    return {str(net)!r}\n")
    result = hwc("compile", f"{tmp_path / 'loud.py'}:model", "-o", tmp_path / "out", "--format", "json")
    assert result.exit_code == 0, result.stderr
    assert document(result)["bundle"]["name"] == "loud"
    assert "hello" in result.stderr and "again" in result.stderr


@pytest.mark.parametrize("args", [["nope"], ["compile"], ["compile", "x", "--fp61"], ["run", "x", "--threads=-1"], []])
def test_a_wrong_command_line_is_usage(hwc, args):
    result = hwc(*args)
    assert result.exit_code == 2
    assert result.stdout == "" and "Usage: " in result.stderr


def test_ctrl_c_ends_a_real_process_with_130(tmp_path):
    slow = "import sys, time\nprint('reading', file=sys.stderr, flush=True)\ntime.sleep(60)\n"
    (tmp_path / "slow.py").write_text(slow)
    args = [sys.executable, "-m", "hwc", "compile", "slow.py:model", "-o", "out", "--no-cache"]
    process = subprocess.Popen(
        args, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # Whoever runs the tests in the background of a script has SIGINT ignored, and children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    with process:
        assert process.stderr.readline() == "reading\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (130, "&&&& FAILED hwc.compile\n", "interrupted\n")
    assert sorted(os.listdir(tmp_path)) == ["slow.py"]


def test_a_closed_pipe_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    with contextlib.closing(os.fdopen(writer, "wb")) as stdout:
        args = [sys.executable, "-m", "hwc", "targets", "show", "rtx-4090"]
        ended = subprocess.run(args, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
