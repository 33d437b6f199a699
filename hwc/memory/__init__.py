"""Memory planning: which bytes are alive when, where each buffer is put, and a judge of the result."""
