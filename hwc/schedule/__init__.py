"""What a graph in its order of execution needs: which tensors are stored, when, and which may share storage."""
