"""Profiling: measured latency and power, raw samples kept."""
