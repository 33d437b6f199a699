"""DLA without a Jetson: what may run there, where to cut, and why a layer falls back to the GPU."""
