"""Which boards a bundle goes to: `--host user@board`, or a hosts.toml with several.

    [defaults]                     optional; whatever a host does not say
    [[host]]
    address = "nvidia@10.0.0.5"    as ssh takes it: user@name, or a Host of ~/.ssh/config
    name = "line-1"                optional: how it is called in reports; else the address
    port, remote_dir, power_mode   optional, as the flags of the same name

Unknown keys are refused by name, and so are two entries that mean the same folder of the same board: they would build
in each other's way. An address that starts with '-' would be read by ssh as an option, so it is refused too.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hwc.errors import UsageError

KEYS = ("address", "name", "port", "remote_dir", "power_mode")
_ADDRESS = re.compile(r"[A-Za-z0-9_.][\w.+@%:-]*")


@dataclass(frozen=True)
class Host:
    """One board. Empty means: port of ssh's own choice, `~/hwc/<bundle>`, the power mode that is set there."""

    address: str
    name: str = ""
    port: int = 0
    remote_dir: str = ""
    power_mode: str = ""

    def __post_init__(self) -> None:
        if not _ADDRESS.fullmatch(self.address):
            raise UsageError(
                "not an address that ssh takes", expected="user@board, or a Host of ~/.ssh/config (port: --port)",
                got=repr(self.address),
            )
        if not 0 <= self.port <= 65535:
            raise UsageError(f"{self.address}: not a port", expected="1 to 65535", got=str(self.port))
        if any(ord(letter) < 32 for letter in self.remote_dir):
            raise UsageError(f"{self.address}: remote_dir holds a control character", got=repr(self.remote_dir))

    @property
    def rsync_address(self) -> str:
        """The address as rsync takes it, to which a colon means something."""
        user, at, name = self.address.rpartition("@")
        return f"{user}{at}[{name}]" if ":" in name else self.address

    @property
    def label(self) -> str:
        return self.name or self.address


def gather_hosts(
    addresses: tuple[str, ...], path: Path | None, *, port: int = 0, remote_dir: str = ""
) -> tuple[Host, ...]:
    """The hosts of the command line: addresses, or a file of them.

    Raises:
        UsageError: neither or both, or one of them is wrong.
    """
    if bool(addresses) == (path is not None):
        raise UsageError("which boards?", expected="--host USER@BOARD, or --hosts FILE")
    if path is not None:
        return read_hosts(path, {"port": port, "remote_dir": remote_dir})
    return check_distinct(tuple(Host(address, port=port, remote_dir=remote_dir) for address in addresses))


def read_hosts(path: Path, defaults: Mapping[str, Any] | None = None) -> tuple[Host, ...]:
    """The hosts of a hosts.toml, in its order.

    Args:
        defaults: port and remote_dir of the command line; weaker than anything the file says.

    Raises:
        UsageError: the file cannot be read, has an unknown key, no host, or the same host twice.
    """
    try:
        document = _parse_toml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError("cannot read the list of hosts", where=str(path), got=str(error)) from None
    unknown = sorted(set(document) - {"defaults", "host"})
    entries, shared = document.get("host", []), document.get("defaults", {})
    if unknown or not isinstance(entries, list) or not entries or not isinstance(shared, dict):
        raise UsageError(
            "a list of hosts has [[host]] tables, and [defaults] if wanted", where=str(path),
            got=", ".join(unknown) or "no [[host]]",
        )
    base = _checked(shared, "[defaults]", path, (*KEYS[2:],))
    base = {**{key: value for key, value in (defaults or {}).items() if value}, **base}
    hosts = []
    for number, entry in enumerate(entries, 1):
        own = _checked(entry, f"[[host]] {number}", path, KEYS)
        if "address" not in own:
            raise UsageError("a host has no address", where=f"{path}, [[host]] {number}")
        hosts.append(Host(**{**base, **own}))
    return check_distinct(tuple(hosts))


def check_distinct(hosts: tuple[Host, ...]) -> tuple[Host, ...]:
    """The same hosts.

    Raises:
        UsageError: two of them are one folder of one board, or carry one name.
    """
    places: dict[Any, Host] = {}
    for host in hosts:
        for key in ((host.address, host.port, host.remote_dir), host.label):
            if key in places:
                raise UsageError(f"the host {host.label} is listed twice", do="give each entry its own name or folder")
        places[(host.address, host.port, host.remote_dir)] = places[host.label] = host
    return hosts


def with_folder(host: Host, bundle_name: str) -> Host:
    """The host with its folder filled in: `~/hwc/<bundle>` unless it says another."""
    return host if host.remote_dir else replace(host, remote_dir=f"~/hwc/{bundle_name}")


def _checked(table: Any, where: str, path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """A copy of the table, its keys and types judged."""
    for key, value in table.items() if isinstance(table, dict) else ():
        kind = int if key == "port" else str
        if key not in keys:
            raise UsageError(f"unknown key '{key}'", where=f"{path}, {where}", expected="one of: " + ", ".join(keys))
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UsageError(f"'{key}' has the wrong type", where=f"{path}, {where}", got=repr(value))
    if not isinstance(table, dict):
        raise UsageError("not a table", where=f"{path}, {where}", got=repr(table))
    return dict(table)


def _parse_toml(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib as reader
    else:
        import tomli as reader
    return reader.loads(text)
