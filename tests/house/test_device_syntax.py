"""The device half runs on Python 3.8: its syntax, its run-time idioms, and, where a 3.8 is found, the thing itself.

JetPack 5.1, the last for AGX Xavier, has Python 3.8. The files are those below and all that they import of `hwc`.
Annotations are never evaluated (`from __future__ import annotations`), except those of the nouns, which the reader of
JSON does evaluate; so new spellings are refused outside annotations, and in `artifacts.py` everywhere.
"""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.repository import PACKAGE, ROOT, shown

ROOTS = (
    *("errors.py", "artifacts*.py", "bundle.py", "compare.py", "deploy.py", "targets/*.py", "profile/*.py"),
    *("runtime/*.py", "memory/*.py", "engines/base.py", "engines/inspect.py", "engines/tensorrt*.py"),
    *("device_cli.py", "engine_store.py", "fingerprint.py", "board_request.py", "sealed_folder.py", "sessions.py"),
    "remote/board/*.py",
)
EVALUATED = (
    *("hwc/artifacts.py", "hwc/artifacts_dla.py", "hwc/artifacts_memory.py", "hwc/board_request.py"),
    "hwc/fingerprint.py",
    *("hwc/profile/power_profile.py", "hwc/profile/clock_state.py", "hwc/profile/meters.py"),
)
BUILTINS = {"list", "dict", "tuple", "set", "frozenset", "type", "int", "str", "float", "bool", "bytes", "object"}
# What a newer Python brought, by how it is spelled in a call, an attribute or an import.
NEW_KEYWORDS = {
    *(("dataclass", k) for k in ("slots", "kw_only", "match_args", "weakref_slot")),
    *(("field", "kw_only"), ("zip", "strict"), ("md5", "usedforsecurity"), ("bisect", "key"), ("rmtree", "onexc")),
    *(("TemporaryDirectory", k) for k in ("ignore_cleanup_errors", "delete")),
    *(("Popen", "process_group"), ("run", "process_group")),
}
NEW_ATTRIBUTES = {
    *("removeprefix", "removesuffix", "is_relative_to", "with_stem", "hardlink_to", "bit_count", "add_note", "lcm"),
    *("file_digest", "orig_argv", "stdlib_module_names", "randbytes", "unparse", "pairwise", "batched", "walk_up"),
}
NEW_NAMES = {
    *("cache", "pairwise", "batched", "chdir", "aclosing", "StrEnum", "UTC", "KW_ONLY", "NoneType", "UnionType"),
    *("Annotated", "TypeAlias", "ParamSpec", "TypeGuard", "Self", "Never", "LiteralString", "Unpack", "override"),
    *("ExceptionGroup", "BaseExceptionGroup", "anext", "aiter", "EncodingWarning"),
}
NEW_MODULES = {"tomllib", "zoneinfo", "graphlib"}


def device_files() -> list[Path]:
    """The device half: its roots and, in turn, every file of `hwc` that they import at the top."""
    waiting = [path for pattern in ROOTS for path in PACKAGE.glob(pattern)]
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += imported_files(ast.parse(path.read_text(encoding="utf-8")))
    return sorted(found)


def imported_files(tree: ast.Module) -> list[Path]:
    names = []
    for node in tree.body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    places = [ROOT / name.replace(".", "/") for name in names if name.split(".")[0] == "hwc"]
    candidates = [path for place in places for path in (place.with_suffix(".py"), place / "__init__.py")]
    return [path for path in candidates if path.is_file()]


def faults_of(text: str, *, is_evaluated: bool = False) -> list[str]:
    """Each spelling of the text that Python 3.8 does not take, as 'line N: why'."""
    try:
        tree = ast.parse(text, feature_version=(3, 8))
    except SyntaxError as error:
        return [f"line {error.lineno}: {error.msg}"]
    faults = []
    has_future = any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" and node.names[0].name == "annotations"
        for node in tree.body
    )
    may_annotate = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.AnnAssign)
    if not has_future and any(isinstance(node, may_annotate) for node in ast.walk(tree)):
        faults.append("line 1: lacks `from __future__ import annotations`")
    guarded = {id(node) for attempt in ast.walk(tree) if isinstance(attempt, ast.Try) for node in ast.walk(attempt)}
    for node in run_time_nodes(tree, is_evaluated):
        why = fault_of(node, is_guarded=id(node) in guarded)
        if why:
            faults.append(f"line {getattr(node, 'lineno', 0)}: {why}")
    return faults


def run_time_nodes(tree: ast.AST, is_evaluated: bool):
    """All nodes but those inside annotations."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for name, child in ast.iter_fields(node):
            if name in ("annotation", "returns") and not is_evaluated:
                continue
            waiting += [c for c in (child if isinstance(child, list) else [child]) if isinstance(c, ast.AST)]


def fault_of(node: ast.AST, *, is_guarded: bool) -> str:
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in BUILTINS:
        return f"{node.value.id}[...] is evaluated"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        for side in (node.left, node.right):
            if names_a_type(side):
                return "X | Y of types is evaluated"
            if isinstance(side, (ast.Dict, ast.DictComp)):
                return "two dicts are joined with |"
    if isinstance(node, ast.Match if hasattr(ast, "Match") else ()):
        return "a match statement"
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for keyword in node.keywords:
            if (called, keyword.arg) in NEW_KEYWORDS:
                return f"{called}({keyword.arg}=...)"
    if isinstance(node, ast.Attribute) and node.attr in NEW_ATTRIBUTES:
        return f".{node.attr}"
    if isinstance(node, ast.ImportFrom) and not is_guarded:
        new = {alias.name for alias in node.names} & NEW_NAMES
        if new or node.module in NEW_MODULES:
            return f"imports {', '.join(sorted(new)) or node.module}"
        if node.module == "collections.abc":
            return "imports from collections.abc, whose names cannot be subscripted"
    if isinstance(node, ast.Import) and not is_guarded:
        new = {alias.name for alias in node.names} & NEW_MODULES
        if new:
            return f"imports {', '.join(sorted(new))}"
    return ""


def names_a_type(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return node.value is None
    if isinstance(node, ast.Subscript):
        return names_a_type(node.value)
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name in BUILTINS or (name[:1].isupper() and not name.isupper())


@pytest.mark.parametrize("path", device_files(), ids=shown)
def test_a_file_of_the_device_half_keeps_to_python_3_8(path):
    text = path.read_text(encoding="utf-8")
    assert faults_of(text, is_evaluated=shown(path) in EVALUATED) == []


def test_the_device_half_is_not_empty_and_holds_what_its_roots_import():
    found = {shown(path) for path in device_files()}
    assert {"hwc/errors.py", "hwc/artifacts.py", "hwc/targets/probe.py", "hwc/engines/tensorrt.py"} <= found
    assert {"hwc/__init__.py", "hwc/engines/files.py", "hwc/targets/read_target.py"} <= found
    assert not any(name.startswith(("hwc/graph", "hwc/passes", "hwc/frontend")) for name in found)


def test_hwc_pyz_holds_nothing_that_is_not_checked_here():
    from hwc.write_zipapp import device_files as packed_files

    assert {shown(path) for path in packed_files(PACKAGE).values()} <= {shown(path) for path in device_files()}


FUTURE = "from __future__ import annotations\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("match x:\n    case 1: pass", "Pattern matching"),
        ("with (open('a') as a, open('b') as b): pass", "Parenthesized context managers"),
        ("try:\n    pass\nexcept* ValueError:\n    pass", "3.11"),
        ("Dims = list[int]", "list[...] is evaluated"),
        ("def f(x=dict[str, int]): pass", "dict[...] is evaluated"),
        ("isinstance(1, int | str)", "X | Y of types"),
        ("Size = Dim | None", "X | Y of types"),
        ("Size = base.Session | None", "X | Y of types"),
        ("both = {**a} | b", "joined with |"),
        ("@dataclass(frozen=True, slots=True)\nclass C: pass", "dataclass(slots=...)"),
        ("@dataclasses.dataclass(kw_only=True)\nclass C: pass", "dataclass(kw_only=...)"),
        ("list(zip(a, b, strict=True))", "zip(strict=...)"),
        ("name.removeprefix('x')", ".removeprefix"),
        ("'abc'.removesuffix('c')", ".removesuffix"),
        ("from functools import cache", "imports cache"),
        ("import tomllib", "imports tomllib"),
        ("from collections.abc import Mapping", "collections.abc"),
        ("from typing import Annotated", "imports Annotated"),
    ],
)
def test_each_newer_spelling_is_caught(text, fault):
    (found,) = faults_of(FUTURE + text)
    assert fault in found


@pytest.mark.parametrize(
    "text",
    [
        "def f(x: int | None, y: list[int]) -> dict[str, int]: ...",
        "x: list[int] | None = None",
        "flags = os.O_RDONLY | os.O_CLOEXEC",
        "both = set(a) | set(b)",
        "try:\n    import tomllib\nexcept ImportError:\n    tomllib = None",
        "if (n := 3) > 2: pass",
        "zip(a, b)",
        "Dims = List[int]",
    ],
)
def test_what_python_3_8_takes_passes(text):
    assert faults_of(FUTURE + text) == []


def test_annotations_count_where_they_are_evaluated_and_the_future_import_is_asked_for():
    assert faults_of(FUTURE + "x: list[int]", is_evaluated=True) == ["line 2: list[...] is evaluated"]
    for text in ("def f(): pass", "class C: pass", "x: int = 1"):
        assert faults_of(text) == ["line 1: lacks `from __future__ import annotations`"]
    assert faults_of("VERSION = 1") == []


def find_python_3_8() -> str:
    """An interpreter that really is 3.8, or nothing."""
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    places = [shutil.which("python3.8"), *map(str, sorted(home.glob("versions/3.8*/bin/python")))]
    for place in filter(None, places):
        said = subprocess.run(
            [place, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True, check=False
        )
        if said.returncode == 0 and said.stdout.strip() == "(3, 8)":
            return place
    return ""


COMPILE = """
import sys
for name in sys.argv[1:]:
    with open(name, encoding="utf-8") as source:
        compile(source.read(), name, "exec")
"""
READ = """
import sys, hwc.bundle, hwc.profile.report
from hwc.artifacts import Bundle
from hwc.serialize import from_json, to_json
text = sys.stdin.read()
assert to_json(from_json(Bundle, text)) == text
"""


@pytest.fixture(scope="module")
def python_3_8() -> str:
    found = find_python_3_8()
    if not found:
        pytest.skip("no Python 3.8 is on PATH or among pyenv's versions; only the syntax was checked")
    return found


def run_3_8(python: str, *arguments: str, text: str = "") -> None:
    environment = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}
    done = subprocess.run([python, *arguments], cwd=ROOT, env=environment, input=text, capture_output=True, text=True,
                          encoding="utf-8", check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_real_python_3_8_compiles_every_file(python_3_8):
    run_3_8(python_3_8, "-c", COMPILE, *map(str, device_files()))


def test_a_real_python_3_8_reads_a_manifest(python_3_8):
    from hwc import targets
    from hwc.artifacts import BuildKey, Bundle, DynamicDim, Engine, Kernel, TensorSpec
    from hwc.serialize import to_json

    specs = (TensorSpec("x", "float32", (DynamicDim(1, 2, 4), 3)),)
    key = BuildKey("0", "t4", "tensorrt 8.5", "fp16", (("a", "b"),))
    engine = Engine("tensorrt", "deferred", key, (), specs, specs, (Kernel("k", "Conv", "fp16"),), 0, None, 1, 0.5, ())
    bundle = Bundle(1, "net", targets.load("t4"), "fp16", specs, specs, (), (), engine, {"f": "0"}, {"hwc": "0"}, ())
    run_3_8(python_3_8, "-c", READ, text=to_json(bundle))


def test_a_real_python_3_8_runs_hwc_pyz(python_3_8, tmp_path):
    from hwc.write_zipapp import write_zipapp

    write_zipapp(tmp_path / "hwc.pyz")
    for word in ("--version", "doctor"):
        command = [python_3_8, str(tmp_path / "hwc.pyz"), word]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        # This machine is no board, and its 3.8 may lack numpy: `doctor` must say so all the same.
        assert done.returncode in (0, 1) and done.stdout.splitlines()[-1].startswith("&&&& "), done.stderr
        assert done.stderr == ""


def test_the_interpreter_of_the_tests_is_not_mistaken_for_3_8():
    assert sys.version_info >= (3, 10)
    assert find_python_3_8() != sys.executable
