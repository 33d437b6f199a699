"""Tests of INT8 precision: placement, integers, improvements, guard."""
