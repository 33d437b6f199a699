"""Fixtures of the end-to-end tests."""

from tests.e2e.fixtures import board_bundle, cache, cpu_bundle, hwc

__all__ = ["board_bundle", "cache", "cpu_bundle", "hwc"]
