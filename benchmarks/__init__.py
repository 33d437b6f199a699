"""Real networks with real weights, their data and their task metrics, for tests and measurements."""
