"""Boards are named on the command line or in a file; what cannot be meant is refused before anything connects."""

from pathlib import Path

import pytest

from hwc.errors import UsageError
from hwc.remote.hosts import Host, gather_hosts, read_hosts, with_folder

TEXT = """
[defaults]
port = 2222
power_mode = "MAXN"

[[host]]
address = "nvidia@10.0.0.5"
name = "line-1"

[[host]]
address = "xavier"
port = 22
remote_dir = "/data/net"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "hosts.toml"
    path.write_text(text)
    return path


def test_a_file_of_hosts_is_read_in_its_order_with_its_defaults(tmp_path):
    assert read_hosts(write(tmp_path, TEXT)) == (
        Host("nvidia@10.0.0.5", "line-1", 2222, "", "MAXN"),
        Host("xavier", "", 22, "/data/net", "MAXN"),
    )


def test_the_command_line_is_weaker_than_the_file(tmp_path):
    first, second = gather_hosts((), write(tmp_path, TEXT), port=7, remote_dir="/flag")
    assert (first.port, first.remote_dir) == (2222, "/flag")
    assert (second.port, second.remote_dir) == (22, "/data/net")


def test_addresses_of_the_command_line_become_hosts_and_get_a_folder():
    hosts = gather_hosts(("a@b", "a@fe80::1%eth0"), None, port=5)
    assert [host.rsync_address for host in hosts] == ["a@b", "a@[fe80::1%eth0]"]
    assert [host.port for host in hosts] == [5, 5]
    assert with_folder(hosts[0], "net").remote_dir == "~/hwc/net"
    assert with_folder(Host("a", remote_dir="/x"), "net").remote_dir == "/x"


@pytest.mark.parametrize("address", ["", "-oProxyCommand=x", "a b", "a;b", "a\nb", "$(x)", "ssh://a:22", "a`b`"])
def test_what_ssh_or_a_shell_would_read_otherwise_is_no_address(address):
    with pytest.raises(UsageError, match="not an address"):
        Host(address)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no \\[\\[host\\]\\]"),
        ("[[host]]\naddress = 'a'\npassword = 'x'", "unknown key 'password'"),
        ("[[host]]\nname = 'a'", "no address"),
        ("[[host]]\naddress = 1", "wrong type"),
        ("[[host]]\naddress = 'a'\nport = true", "wrong type"),
        ("[[host]]\naddress = 'a'\nport = 70000", "not a port"),
        ("[[host]]\naddress = 'a'\n[[host]]\naddress = 'a'", "listed twice"),
        ("[[host]]\naddress = 'a'\nname = 'n'\n[[host]]\naddress = 'b'\nname = 'n'", "listed twice"),
        ("[defaults]\naddress = 'a'\n[[host]]\naddress = 'a'", "unknown key 'address'"),
        ("[other]\n[[host]]\naddress = 'a'", "other"),
        ("host = ['a']", "not a table"),
        ("[[host]\n", "cannot read"),
    ],
)
def test_a_file_that_says_something_else_is_refused(tmp_path, text, said):
    with pytest.raises(UsageError, match=said):
        read_hosts(write(tmp_path, text))


def test_no_host_two_sources_and_a_missing_file_are_refused(tmp_path):
    for addresses, path in (((), None), (("a",), tmp_path)):
        with pytest.raises(UsageError, match="which boards"):
            gather_hosts(addresses, path)
    with pytest.raises(UsageError, match="cannot read"):
        read_hosts(tmp_path / "absent.toml")
    with pytest.raises(UsageError, match="control character"):
        Host("a", remote_dir="/a\nb")
