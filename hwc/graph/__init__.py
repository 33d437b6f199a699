"""The graph: a thin skin over onnx_ir, what a legal graph is, and its canonical print."""
