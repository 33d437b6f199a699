"""The rules of NVDLA 1.0 (Xavier) and 2.0 (Orin), one file per family of operators.

A rule is a function of one layer and a board that yields findings; its numbers and lists are facts of the board.
"""
