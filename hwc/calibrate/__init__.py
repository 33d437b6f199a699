"""Calibration: what the tensors of a model hold when it sees real data."""
