"""All that is asked before anything is written, in one call, since each call starts a Python.

Part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
from typing import Any, Dict

from hwc.remote.board.files import Files, plan
from hwc.remote.board.jobs import look_at_jobs
from hwc.remote.board.power import pending
from hwc.remote.board.run_command import read_boot_id


def probe(folder: str, files: Files) -> Dict[str, Any]:
    """This machine's Python, architecture, numpy and rsync; the jobs and the power mode of earlier runs; the plan.

    What the GPU and TensorRT are is for the `doctor` of hwc.pyz to say, which may not be here yet.
    """
    return {
        "python": platform.python_version(),
        "arch": platform.machine(),
        "numpy": importlib.util.find_spec("numpy") is not None,
        "rsync": shutil.which("rsync") is not None,
        "boot_id": read_boot_id(),
        **look_at_jobs(folder),
        **pending(folder),
        "plan": plan(folder, files, False),
    }
