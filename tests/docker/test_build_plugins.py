"""`docker/build_plugins.sh` builds each plugin folder, and never passes over one that gave no library."""

import shutil
import subprocess

import pytest

from tests.house.repository import ROOT

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
MAKEFILE = "install:\n\tmkdir -p $(DESTDIR)/lib\n\techo library > $(DESTDIR)/lib/lib{name}.so\n"


def build(plugins, out) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["sh", ROOT / "docker/build_plugins.sh", plugins, out], capture_output=True, text=True, check=False
    )


def test_without_plugins_it_says_so_and_makes_the_folder(tmp_path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/README.md").write_text("none")
    done = build(tmp_path / "plugins", tmp_path / "out")
    assert (done.returncode, done.stdout) == (0, "no plugins\n")
    assert (tmp_path / "out").is_dir()


def test_the_plugins_of_the_checkout_are_none_today():
    assert [path.name for path in (ROOT / "plugins").iterdir() if path.is_dir()] == []


@needs_make
def test_each_plugin_is_built(tmp_path):
    for name in ("one", "two"):
        (tmp_path / "plugins" / name).mkdir(parents=True)
        (tmp_path / "plugins" / name / "Makefile").write_text(MAKEFILE.format(name=name))
    done = build(tmp_path / "plugins", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("plugins built: 2\n")
    assert sorted(path.name for path in (tmp_path / "out/lib").iterdir()) == ["libone.so", "libtwo.so"]


@needs_make
@pytest.mark.parametrize(
    ("file", "text", "what"),
    [
        ("plugin.cpp", "", "neither CMakeLists.txt nor Makefile"),
        ("Makefile", "install:\n\ttrue\n", "installed no library"),
        ("Makefile", "install:\n\tfalse\n", "Error"),
    ],
)
def test_a_plugin_that_gives_no_library_ends_the_build(tmp_path, file, text, what):
    (tmp_path / "plugins/bad").mkdir(parents=True)
    (tmp_path / "plugins/bad" / file).write_text(text)
    done = build(tmp_path / "plugins", tmp_path / "out")
    assert done.returncode != 0
    assert what in done.stderr
