"""What ssh says becomes one error with a next step. Texts are those of OpenSSH 8.2 to 9.2."""

import pytest

from hwc.errors import EngineError, UsageError
from hwc.remote.ssh_errors import last_words, name_failure, plain

CHANGED = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Offending ED25519 key in /h/.ssh/known_hosts:3
Host key verification failed.
"""


@pytest.mark.parametrize(
    ("said", "kind", "what", "do"),
    [
        (CHANGED, UsageError, "is not the one that is known", "ssh-keygen -R"),
        ("Host key verification failed.", UsageError, "is not known yet", "ssh n@b"),
        ("n@b: Permission denied (publickey,password).", UsageError, "wants a password", "ssh-copy-id n@b"),
        ("n@b: Permission denied (publickey).", UsageError, "does not accept your key", "ssh-add"),
        ("Received disconnect: Too many authentication failures", UsageError, "does not accept", "ssh-add"),
        ("ssh: Could not resolve hostname b: Name or service not known", UsageError, "no host is called", "Host"),
        ("ssh: connect to host b port 22: Connection refused", EngineError, "does not answer", "--port"),
        ("ssh: connect to host b port 22: No route to host", EngineError, "does not answer", "--port"),
        ("ssh: connect to host b port 22: Connection timed out", EngineError, "does not answer", "--port"),
        ("Connection timed out during banner exchange", EngineError, "does not answer", "--port"),
        ("kex_exchange_identification: Connection closed by remote host", EngineError, "does not answer", "--port"),
        ("/h/c: line 3: Bad configuration option: foo", UsageError, "its configuration", "correct"),
        ("Can't open user config file /x: No such file or directory", UsageError, "its configuration", "correct"),
        ("something new", EngineError, "cannot connect", "by hand"),
        ("", EngineError, "cannot connect", "by hand"),
    ],
)
def test_each_cause_has_its_name_and_a_next_step(said, kind, what, do):
    error = name_failure(f"banner of the board\n{said}\n", "n@b")
    assert type(error) is kind
    assert what in error.what and "n@b" in str(error) and do in error.do


def test_the_line_of_a_changed_key_is_named():
    assert name_failure(CHANGED, "b").where == "/h/.ssh/known_hosts:3"


def test_a_board_cannot_write_on_the_terminal_what_it_likes():
    assert plain("a\x1b[31mb\x1b[0m\x07\x9bc\td\n") == "abc\td\n"
    assert last_words("1\n2\n\n3\n\x1b[1m4\n") == "2 | 3 | 4"
