"""Loaded first by every Python of a loopback board: makes it another machine, and breaks it as faults.json says.

    arch            platform.machine(); "aarch64" unless told otherwise
    python          [3, 6, 9]: the version it claims to be
    no_numpy        numpy is not found
    free_bytes      what statvfs says is free
    full_after      os.write fails with ENOSPC once so many bytes were written by this process
    cut_after       the link is cut once this process has written so many bytes with os.write
    closed          a path: os.makedirs below it fails with EACCES
    uid             os.geteuid()
    die_in          a name of os: the process is killed when it is called for the `die_at`-th time (1 if not given)
"""

import builtins
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
        disk = type("disk", (), {"f_bavail": faults["free_bytes"], "f_frsize": 1})
        os.statvfs = lambda path: disk
    if "full_after" in faults:
        os.write = limited(os.write, faults["full_after"])
    if "cut_after" in faults:
        os.write = cutting(os.write, faults["cut_after"])
    if "closed" in faults:
        os.makedirs = closed(os.makedirs, faults["closed"])
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


def cutting(write, left):
    def write_or_cut(handle, data):
        nonlocal left
        left -= len(data)
        written = write(handle, data)
        if left <= 0:
            import cut_link

            cut_link.cut()
        return written

    return write_or_cut


def closed(makedirs, place):
    def makedirs_or_refuse(path, *args, **keywords):
        if path.startswith(place):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return makedirs(path, *args, **keywords)

    return makedirs_or_refuse


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
