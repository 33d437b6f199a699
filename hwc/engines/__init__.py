"""Engines: one file per runtime family, all behind the contract in base."""
