"""Graph rewrites that lower the most bytes alive at once: another order, recomputation, spatial tiles."""
