"""What ssh said when it failed, as one error with a next step.

OpenSSH has one exit status, 255, for all of its own failures, and English sentences on stderr that have not changed in
years (ssh.c, sshconnect.c, clientloop.c of OpenSSH 8 to 10); the first rule that matches names the cause. Whatever is
not recognized keeps ssh's own last words.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from hwc.errors import EngineError, HwcError, UsageError

LAST_LINES = 3
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class LinkCut(Exception):
    """The connection is gone. What that means depends on the step, so whoever runs the step makes the error of it."""


def plain(text: str) -> str:
    """Text from a board, safe for a terminal: no escape sequences or other control characters."""
    return _CONTROL.sub("", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text))


def last_words(stderr: str) -> str:
    """The last lines that ssh or a program said, in one."""
    lines = [line.strip() for line in plain(stderr).splitlines() if line.strip()]
    return " | ".join(lines[-LAST_LINES:])


def name_failure(stderr: str, host: str) -> HwcError:
    """The error for what ssh wrote before it gave up connecting.

    Args:
        stderr: all that it wrote.
        host: the address as the user gave it.
    """
    for pattern, make in _RULES:
        found = re.search(pattern, stderr)
        if found:
            return make(host, found, stderr)
    said = last_words(stderr) or "nothing"
    return EngineError(f"cannot connect to {host}", got=f"ssh said: {said}", do=f"try it by hand: ssh {host}")


def _key_changed(host: str, found: re.Match[str], stderr: str) -> HwcError:
    line = re.search(r"Offending .* key in (\S+)", stderr)
    return UsageError(
        f"the host key of {host} is not the one that is known", where=line[1] if line else "",
        got="another key: the board was flashed again, or something else answers at its address",
        do=f"if you flashed it: ssh-keygen -R HOSTNAME, then accept the new key once with: ssh {host}",
    )


def _key_unknown(host: str, found: re.Match[str], stderr: str) -> HwcError:
    return UsageError(
        f"the host key of {host} is not known yet", got=last_words(stderr),
        do=f"connect once by hand and compare the key: ssh {host}",
    )


def _denied(host: str, found: re.Match[str], stderr: str) -> HwcError:
    methods = found[1] or ""
    takes_password = "password" in methods or "keyboard-interactive" in methods
    got = f"ssh said: {last_words(stderr)}"
    return UsageError(
        f"{host} wants a password" if takes_password else f"{host} does not accept your key",
        got=got + ("; hwc never asks for one" if takes_password else ""),
        do=f"put your key on the board (ssh-copy-id {host}), or load the one it knows: ssh-add",
    )


def _no_name(host: str, found: re.Match[str], stderr: str) -> HwcError:
    return UsageError(f"no host is called {host}", got=found[0], do="check the address, or add a Host to ~/.ssh/config")


def _no_answer(host: str, found: re.Match[str], stderr: str) -> HwcError:
    return EngineError(
        f"{host} does not answer", got=found[0], do="check that the board is on and reachable, and the port: --port"
    )


def _bad_config(host: str, found: re.Match[str], stderr: str) -> HwcError:
    return UsageError("ssh cannot read its configuration", where=f"ssh {host}", got=found[0], do="correct that file")


_RULES: tuple[tuple[str, Callable[[str, re.Match[str], str], HwcError]], ...] = (
    (r"REMOTE HOST IDENTIFICATION HAS CHANGED", _key_changed),
    (r"Host key verification failed|No .* host key is known", _key_unknown),
    (r"Permission denied \(([^)]*)\)|Too many authentication failures", _denied),
    (r"Could not resolve hostname[^\n]*", _no_name),
    (r"[^\n]*(?:Bad configuration option|terminating, \d+ bad configuration|Can't open user config file)[^\n]*",
     _bad_config),
    (r"[^\n]*(?:Connection refused|timed out|No route to host|Network is unreachable|Connection closed by|"
     r"Connection reset by)[^\n]*", _no_answer),
)  # fmt: skip
