"""Fixtures of the command-line tests."""

from tests.e2e.fixtures import board_bundle, cache, cpu_bundle, fragile, hwc, int8_bundle, sound

__all__ = ["board_bundle", "cache", "cpu_bundle", "fragile", "hwc", "int8_bundle", "sound"]
