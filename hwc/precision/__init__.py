"""INT8 that keeps its accuracy: where Q/DQ go, how values are rounded, which layers stay high, and the guard."""
