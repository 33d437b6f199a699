"""Targets: hardware as data, one TOML each, every fact with its source."""
