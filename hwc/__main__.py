"""`python -m hwc` is `hwc`."""

from hwc.cli import main

main()
