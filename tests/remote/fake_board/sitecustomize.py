"""Loaded first by every Python of a loopback board: makes it another machine, and breaks it as faults.json says.

    arch            platform.machine(); "aarch64" unless told otherwise
    python          [3, 6, 9]: the version it claims to be
    no_numpy        numpy is not found
    free_bytes      what statvfs says is free
    full_after      os.write fails with ENOSPC once so many bytes were written by this process
    no_exchange     renameat2 is not known to the C library
    uid             os.geteuid()
    die_in          a name of os: the process is killed when it is called for the `die_at`-th time (1 if not given)
"""

import builtins
import collections
import ctypes
import errno
import importlib.util
import json
import os
import platform
import signal
import sys

ROOT = os.environ.get("FAKE_BOARD", "")
MOVED = {"/proc/sys/kernel/random/boot_id": "boot_id", "/etc/nvpmodel.conf": "etc/nvpmodel.conf"}


def read_faults():
    try:
        with open(ROOT + "/faults.json") as stream:
            return json.load(stream)
    except OSError:
        return {}


def become(faults):
    platform.machine = lambda: faults.get("arch", "aarch64")
    real_open = builtins.open

    def moved_open(file, *args, **keywords):
        return real_open(ROOT + "/" + MOVED[file] if file in MOVED else file, *args, **keywords)

    builtins.open = moved_open
    if "python" in faults:
        sys.version_info = tuple(faults["python"])
    if faults.get("no_numpy"):
        find = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *rest: None if name == "numpy" else find(name, *rest)
    if "free_bytes" in faults:
        disk = collections.namedtuple("disk", "f_bavail f_frsize")(faults["free_bytes"], 1)
        os.statvfs = lambda path: disk
    if "full_after" in faults:
        os.write = limited(os.write, faults["full_after"])
    if faults.get("no_exchange"):
        ctypes.CDLL = lambda *args, **keywords: object()
    if "uid" in faults:
        os.geteuid = lambda: faults["uid"]
    if "die_in" in faults:
        setattr(os, faults["die_in"], deadly(getattr(os, faults["die_in"]), faults.get("die_at", 1)))


def limited(write, left):
    def full_write(handle, data):
        nonlocal left
        left -= len(data)
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(handle, data)

    return full_write


def deadly(function, count):
    def called(*args, **keywords):
        nonlocal count
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **keywords)

    return called


if ROOT:
    become(read_faults())
