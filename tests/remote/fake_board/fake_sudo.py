"""A named fake of sudo: only `sudo -n COMMAND`; refuses as sudo does while the file `sudo_password` is there."""

import os
import sys

if sys.argv[1:2] != ["-n"]:
    sys.exit("sudo: a terminal is required to read the password")
if os.path.exists(os.environ["FAKE_BOARD"] + "/sudo_password"):
    sys.exit("sudo: a password is required")
os.environ["AS_ROOT"] = "1"
os.execvp(sys.argv[2], sys.argv[2:])
