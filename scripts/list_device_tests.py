"""Prints what a device-only test run needs: the files of the device half, and every test that needs nothing else.

A test belongs to the device half if all that it imports, at the top or inside functions, is the standard library,
numpy, pytest, hypothesis, files of the device half (`tests/house/test_device_syntax.py` says which), or other such
files of `tests`. The `conftest.py` files above a test count as imported by it, for pytest runs them.

    python scripts/list_device_tests.py FILE_OF_TESTS FILE_OF_FILES

writes the tests, one a line, and all files to copy (tests and their data included). `--why` prints instead what keeps
each other test out.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.house.test_device_syntax import device_files  # noqa: E402

PLAIN = {*sys.stdlib_module_names, "numpy", "pytest", "hypothesis"}
# These judge the checkout, not the device half: they run in the ordinary suite.
LEFT_OUT = ("tests/house/", "tests/docker/", "tests/scripts/")


def imported_names(tree: ast.Module) -> list[str]:
    """Every dotted name that a file imports anywhere, `from a import b` as both `a` and `a.b`."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "importorskip":
            names += [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)]
    return names


def files_of(name: str) -> list[Path]:
    """The file of a dotted name of ours, and the `__init__.py` of each package above it."""
    place = ROOT / name.replace(".", "/")
    above = [folder / "__init__.py" for folder in (place, *place.parents) if ROOT in folder.parents]
    return [path for path in (place.with_suffix(".py"), *above) if path.is_file()]


def what_forbids(path: Path, device: set[Path], seen: dict[Path, str]) -> str:
    """The first import that the device half lacks, with the file that asks for it; empty if there is none."""
    if path in seen:
        return seen[path]
    seen[path] = ""
    for name in imported_names(ast.parse(path.read_text(encoding="utf-8"))):
        top = name.split(".")[0]
        if top in PLAIN:
            continue
        if top not in ("hwc", "tests"):
            seen[path] = f"{path.relative_to(ROOT)} imports {name}"
            break
        for needed in files_of(name):
            outside = top == "hwc" and needed not in device
            why = f"{path.relative_to(ROOT)} imports {name}" if outside else ""
            if top == "tests":
                why = what_forbids(needed, device, seen)
            if why:
                seen[path] = why
                break
        if seen[path]:
            break
    return seen[path]


def needed_files(test: Path) -> list[Path]:
    """A test file and the `conftest.py` and `__init__.py` files that pytest loads with it."""
    folders = [folder for folder in test.parents if ROOT in folder.parents]
    return [test, *(f / n for f in folders for n in ("conftest.py", "__init__.py") if (f / n).is_file())]


def closure_of(paths: list[Path]) -> set[Path]:
    """These files and all files of `tests` that they import, in turn."""
    waiting, found = list(paths), set()
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            names = [n for n in imported_names(ast.parse(path.read_text(encoding="utf-8"))) if n.startswith("tests")]
            waiting += [file for name in names for file in files_of(name)]
    return found


def is_data(path: Path) -> bool:
    """A file that tests may read and Python does not import."""
    return path.is_file() and path.suffix not in (".py", ".pyc")


def main(arguments: list[str]) -> int:
    """Writes the two lists."""
    device, seen = set(device_files()), {}
    tests, others = [], []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        shown = path.relative_to(ROOT).as_posix()
        why = next((w for file in needed_files(path) if (w := what_forbids(file, device, seen))), "")
        if why or shown.startswith(LEFT_OUT):
            others.append(f"{shown}: {why or 'judges the repository'}")
        else:
            tests.append(path)
    if arguments == ["--why"]:
        print("\n".join(others))
        return 0
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    # What tests read: golden texts and logs beside them, the board's own scripts, the targets.
    data = {p for f in ("tests", "jetson", "hwc/targets/data") for p in (ROOT / f).rglob("*") if is_data(p)}
    files = device | closure_of([file for test in tests for file in needed_files(test)]) | data
    for place, paths in zip(arguments, (tests, sorted(files))):
        Path(place).write_text("".join(f"{p.relative_to(ROOT).as_posix()}\n" for p in paths), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
