"""Several boards at once, each in a thread of its own; what one board cannot do does not stop the others.

The work is on the boards and in `ssh`, so threads suffice. Exit code: 0 all done; of one board, that of its error; of
several, 1 if some were done and 4 if none was. Ctrl-C ends every link; what runs on the boards goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from hwc.artifacts import Bundle
from hwc.errors import EngineError
from hwc.remote.copy_bundle import list_files
from hwc.remote.deploy_bundle import Deployment, OnProgress
from hwc.remote.host_result import DeployOptions, HostResult
from hwc.remote.hosts import Host

MOST_AT_ONCE = 16


def deploy_hosts(
    folder: Path, bundle: Bundle, hosts: Sequence[Host], options: DeployOptions,
    on_progress: OnProgress = lambda host, step, fraction, text: None,
) -> tuple[HostResult, ...]:  # fmt: skip
    """Brings a verified bundle to every host; one result each, in their order.

    Args:
        on_progress: called from several threads.

    Raises:
        UsageError: the bundle is not one for a board.
    """
    files = list_files(folder, bundle)
    deployments = [Deployment(folder, bundle, files, host, options, on_progress) for host in hosts]
    with ThreadPoolExecutor(max_workers=min(MOST_AT_ONCE, len(deployments))) as pool:
        futures: list[Future[HostResult]] = [pool.submit(deployment.run) for deployment in deployments]
        try:
            waiting = set(futures)
            while waiting:
                # Woken now and then, because a signal reaches Python only between two waits.
                waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED).not_done
        except BaseException:
            for deployment in deployments:
                deployment.cancel()
            raise
    return tuple(future.result() for future in futures)


def exit_code(results: Sequence[HostResult]) -> int:
    """The one exit code that sums up all hosts."""
    failed = [result.error for result in results if result.error is not None]
    if not failed:
        return 0
    if len(results) == 1:
        return failed[0].exit_code
    return EngineError.exit_code if len(failed) == len(results) else 1
