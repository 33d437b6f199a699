"""The search's inner loop compiled by numba where it is installed; otherwise the same functions as Python runs them.

A second copy of search_kernel.py is loaded and each of its functions replaced by its compiled form, so the first copy
stays what it is: small problems are solved interpreted, without waiting for a compiler. Compiling takes seconds, once:
numba keeps the result beside the source file or in the user's cache folder.

Part of the device half: Python 3.8, numpy only; numba is used where found and never asked for.
"""

from __future__ import annotations

import importlib.util
from typing import Any, Optional

from hwc.memory import search_kernel

# Callees first: a compiled function finds its callees as globals of the copied module.
FUNCTIONS = (
    *("raise_floor", "raise_low", "unwind", "place", "end_of_section", "propagate", "choose_section", "find_choices"),
    *("height_if_nobody", "find_parts", "write_key", "solve"),
)
_kept: Optional[Any] = None


def can_compile() -> bool:
    """Whether numba is installed; it is not imported to find out."""
    return importlib.util.find_spec("numba") is not None


def load_compiled() -> Any:
    """The kernel's module with every function compiled at its first call.

    Raises:
        ImportError: numba is not installed, or does not work with this Python and numpy.
    """
    global _kept
    if _kept is None:
        import numba

        spec = importlib.util.find_spec(search_kernel.__name__)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for name in FUNCTIONS:
            function = getattr(module, name)
            try:
                made = numba.njit(cache=True, nogil=True)(function)
            except RuntimeError:  # no folder for the cache, as inside a zip file: compile each time
                made = numba.njit(nogil=True)(function)
            setattr(module, name, made)
        _kept = module
    return _kept
