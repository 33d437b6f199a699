"""Front ends: a model as a user has it becomes a checked ONNX graph."""
