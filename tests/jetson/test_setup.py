"""jetson/setup.sh against fake nvpmodel and jetson_clocks: storing, restoring, refusing, and being killed half-way.

The fakes refuse what the real tools lack: unknown modes, overwriting a stored file, a start without root. The mode
MAXN_REBOOT needs a reboot, as modes do that change the number of GPU units: the fake then asks, and stays where it is.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "jetson" / "setup.sh"

CONF = """# < POWER_MODEL ID=9 NAME=COMMENT >
< POWER_MODEL ID=0 NAME=MAXN >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=15W >
< POWER_MODEL ID=2 NAME=MAXN_REBOOT >
< PM_CONFIG DEFAULT=1 >
"""

NVPMODEL = """#!/bin/bash
echo "nvpmodel $*" >>"$BOARD/calls"
case "$1" in
  -q) printf 'NV Power Mode: %s\\n%s\\n' "$(cut -d' ' -f2 "$BOARD/mode")" "$(cut -d' ' -f1 "$BOARD/mode")" ;;
  -m)
    [ "$(id -u)" = 0 ] || { echo "NVPM ERROR: not root"; exit 1; }
    case "$2" in
      0) echo "0 MAXN" >"$BOARD/mode" ;;
      1) echo "1 15W" >"$BOARD/mode" ;;
      2) read -r -p "DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm: " answer; [ "$answer" != YES ] || exit 7 ;;
      *) echo "NVPM ERROR: invalid mode"; exit 1 ;;
    esac
    echo free >"$BOARD/clocks" # a switch of the mode lets the clocks go
    ;;
  *) exit 1 ;;
esac
"""

JETSON_CLOCKS = """#!/bin/bash
echo "jetson_clocks $*" >>"$BOARD/calls"
[ "$(id -u)" = 0 ] || { echo "Error: Run this script as a root user"; exit 1; }
[ ! -e "$BOARD/broken" ] || exit 1
case "$1" in
  "") [ ! -e "$BOARD/kill" ] || kill -9 "$PPID"; echo held >"$BOARD/clocks" ;;
  --show) cat "$BOARD/clocks" ;;
  --store)
    [ ! -e "$2" ] || { read -r answer; echo "Error: file $2 already exists!"; exit 1; }
    cp "$BOARD/clocks" "$2"
    ;;
  --restore) [ -e "$2" ] || exit 1; cp "$2" "$BOARD/clocks" ;;
  *) exit 1 ;;
esac
"""


class Board:
    """A folder that stands for a board: its mode, its clocks, and every call of its tools."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        for name, text in (
            ("nvpmodel", NVPMODEL),
            ("jetson_clocks", JETSON_CLOCKS),
            ("id", "#!/bin/sh\necho ${USER_ID:-0}\n"),
        ):
            path = folder / "bin" / name
            path.write_text(text)
            path.chmod(0o755)
        (folder / "mode").write_text("1 15W\n")
        (folder / "clocks").write_text("free\n")
        (folder / "nvpmodel.conf").write_text(CONF)
        self.state = folder / "state"

    def run(self, *args: str, user: int = 0, tools: bool = True) -> subprocess.CompletedProcess:
        path = f"{self.folder / 'bin'}:/usr/bin:/bin" if tools else "/usr/bin:/bin"
        environment = {
            "PATH": path, "BOARD": str(self.folder), "USER_ID": str(user), "HWC_STATE_DIR": str(self.state),
            "HWC_NVPMODEL_CONF": str(self.folder / "nvpmodel.conf"),
        }  # fmt: skip
        return subprocess.run(
            ["bash", str(SCRIPT), *args], env=environment, capture_output=True, text=True, timeout=30, check=False
        )

    @property
    def now(self) -> tuple[str, str]:
        return (self.folder / "mode").read_text().split()[1], (self.folder / "clocks").read_text().strip()

    @property
    def changes(self) -> list[str]:
        calls = self.folder / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        return [line.strip() for line in lines if line not in ("nvpmodel -q", "jetson_clocks --show")]


@pytest.fixture
def board(tmp_path) -> Board:
    return Board(tmp_path)


def test_set_holds_and_restore_puts_back(board):
    done = board.run("set", "MAXN")
    assert done.returncode == 0, done.stderr
    assert board.now == ("MAXN", "held") and (board.state / "power_mode").read_text() == "15W\n"
    done = board.run("restore")
    assert done.returncode == 0, done.stderr
    assert board.now == ("15W", "free") and list(board.state.iterdir()) == []
    # The stored clocks belong to the stored mode, so the mode goes first.
    assert board.changes[-2:] == ["nvpmodel -m 1", f"jetson_clocks --restore {board.state}/clocks"]


def test_a_second_set_keeps_the_first_state(board):
    board.run("set", "MAXN")
    done = board.run("set", "15W", "--no-clocks")
    assert done.returncode == 0 and "keeping the state" in done.stdout
    board.run("restore")
    assert board.now == ("15W", "free")


def test_being_killed_between_set_and_restore_loses_nothing(board):
    (board.folder / "kill").touch()
    assert board.run("set", "MAXN").returncode == -9
    assert board.now[0] == "MAXN"
    (board.folder / "kill").unlink()
    assert "waiting to be restored: mode 15W" in board.run("show").stdout
    assert board.run("restore").returncode == 0 and board.now == ("15W", "free")


def test_what_a_kill_while_storing_leaves_is_not_taken_for_a_state(board):
    board.state.mkdir()
    (board.state / "clocks").write_text("of another time\n")
    (board.state / "clocks.tmp").write_text("half\n")
    assert board.run("restore").returncode == 2
    assert board.run("set", "MAXN").returncode == 0
    assert (board.state / "clocks").read_text() == "free\n"


def test_restore_keeps_the_state_until_it_has_worked(board):
    board.run("set", "MAXN")
    (board.folder / "broken").touch()
    done = board.run("restore")
    assert done.returncode == 1 and "the stored state is kept" in done.stderr
    (board.folder / "broken").unlink()
    assert board.run("restore").returncode == 0 and board.now == ("15W", "free")


def test_a_mode_that_needs_a_reboot_is_said_and_not_rebooted_into(board):
    done = board.run("set", "MAXN_REBOOT")
    assert done.returncode == 1 and "may need a reboot" in done.stderr and "still '15W'" in done.stderr
    assert board.run("restore").returncode == 0 and board.now == ("15W", "free")


def test_without_root_nothing_is_changed(board):
    for args in (("set", "MAXN"), ("restore",)):
        done = board.run(*args, user=1000)
        assert done.returncode == 2 and "needs root" in done.stderr
    assert board.changes == [] and not board.state.exists()
    assert board.run("show", user=1000).returncode == 0


def test_dry_run_says_what_it_would_do_and_does_nothing(board):
    done = board.run("set", "MAXN", "--dry-run", user=1000)
    assert done.returncode == 0, done.stderr
    assert "would run: nvpmodel -m 0" in done.stdout and "would run: jetson_clocks" in done.stdout
    assert board.changes == [] and not board.state.exists() and board.now == ("15W", "free")
    board.run("set", "MAXN")
    done = board.run("restore", "--dry-run")
    assert "would run: nvpmodel -m 1" in done.stdout and board.now == ("MAXN", "held")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("set", "TURBO"), "no power mode called 'TURBO'"),
        (("set", "COMMENT"), "no power mode called 'COMMENT'"),
        (("set", "0"), "not its number"),
        (("set",), "set MODE"),
        (("set", "MAXN", "15W"), "set MODE"),
        (("set", "MAXN", "--fast"), "set MODE"),
        (("restore", "now"), "set MODE"),
        (("restore",), "nothing is stored"),
        (("launch",), "set MODE"),
        ((), "set MODE"),
    ],
)
def test_wrong_usage_changes_nothing(board, args, message):
    done = board.run(*args)
    assert done.returncode == 2 and message in done.stderr
    assert board.changes == [] and board.now == ("15W", "free")


def test_a_machine_that_is_no_jetson_is_told_apart(board):
    done = board.run("set", "MAXN", tools=False)
    assert done.returncode == 3 and "nvpmodel is not on this machine" in done.stderr


def test_a_failure_of_jetson_clocks_before_anything_is_changed(board):
    (board.folder / "broken").touch()
    done = board.run("set", "MAXN")
    assert done.returncode == 1 and "could not store" in done.stderr and board.now == ("15W", "free")
    assert not (board.state / "power_mode").exists()


def test_shellcheck_finds_nothing():
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed (apt-get install shellcheck)")
    done = subprocess.run([shellcheck, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_script_may_be_run():
    assert os.access(SCRIPT, os.X_OK)
