"""The model suite: ten real networks, and onnx's own light ones."""
