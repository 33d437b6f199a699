"""Stands for rsync on the board: the real one gets the first half of what is sent, then the link is cut."""

import os
import subprocess
import sys

import cut_link

HALF = 2 << 20

child = subprocess.Popen([os.environ["FAKE_BOARD"] + "/bin/rsync.real", *sys.argv[1:]], stdin=subprocess.PIPE)
left = HALF
while left > 0:
    piece = os.read(0, min(left, 1 << 16))
    if not piece:
        break
    child.stdin.write(piece)
    child.stdin.flush()
    left -= len(piece)
cut_link.cut()
child.stdin.close()
child.wait()
