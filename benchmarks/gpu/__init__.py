"""Checks that need a GPU, and what they found; see scripts/gpu_check.sh."""
