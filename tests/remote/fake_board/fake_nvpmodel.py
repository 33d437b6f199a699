"""A named fake of nvpmodel: knows its modes, refuses to set one without root, and can ask for a reboot.

State is in the board's folder: `mode` holds the number that is set, `root` exists while fake_sudo.py runs it.
"""

import os
import re
import sys

ROOT = os.environ["FAKE_BOARD"]
with open(ROOT + "/etc/nvpmodel.real") as table:
    MODES = dict(re.findall(r"ID=(\d+) NAME=(\S+)", table.read()))


def main(arguments):
    if arguments == ["-q"]:
        with open(ROOT + "/mode") as stream:
            number = stream.read()
        print(f"NV Power Mode: {MODES[number]}\n{number}")
        return 0
    if len(arguments) == 2 and arguments[0] == "-m" and arguments[1] in MODES:
        if os.geteuid() != 0 and "AS_ROOT" not in os.environ:
            print("NVPM ERROR: Error opening /sys/...: 13", file=sys.stderr)
            return 1
        if os.path.exists(ROOT + "/reboot_" + arguments[1]):
            print(f"NVPM WARN: Reboot required for changing to this power mode: {arguments[1]}")
            print("NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:")
            return 0
        with open(ROOT + "/mode", "w") as stream:
            stream.write(arguments[1])
        return 0
    print("NVPM ERROR: unknown option", file=sys.stderr)
    return 255


sys.exit(main(sys.argv[1:]))
