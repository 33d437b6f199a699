"""Arrays by name in one .npz: example inputs and expected outputs, which a board compares its engine with.

Names may hold any character, so they are kept in a list beside numbered arrays. Nothing is pickled or unpickled.

This file is part of the device half: Python 3.8, numpy.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, Dict, Mapping, Sequence

import numpy as np

from hwc.errors import UsageError


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes the arrays; equal arrays give equal bytes."""
    names = np.asarray(json.dumps(list(arrays)))
    numbered: Dict[str, Any] = {f"a{i}": array for i, array in enumerate(arrays.values())}
    np.savez(str(path), names=names, **numbered)


def load_arrays(path: Path) -> Dict[str, np.ndarray]:
    """What `save_arrays` wrote."""
    with np.load(str(path), allow_pickle=False) as data:
        return {name: data[f"a{i}"] for i, name in enumerate(json.loads(str(data["names"])))}


def load_inputs(texts: Sequence[str]) -> Dict[str, np.ndarray]:
    """Inputs as a user gives them: `x:file.npy` (trtexec's --load-inputs), or an .npz with all of them.

    Raises:
        UsageError: a file cannot be read, or is something else.
    """
    feeds: Dict[str, np.ndarray] = {}
    for text in texts:
        name, _, path = text.rpartition(":")
        try:
            loaded = np.load(path, allow_pickle=False)
            # The arrays of an .npz are read only when asked for, so a damaged one shows here.
            found = {name: loaded} if isinstance(loaded, np.ndarray) else {key: loaded[key] for key in loaded.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UsageError(
                "cannot read the input file", where=path, got=str(error), expected=".npy or .npz"
            ) from None
        feeds.update(found)
    return feeds
