"""The recipe for one board, top to bottom:

    connect -> probe -> copy (program, doctor, the rest, switch) -> power mode -> build -> profile -> restore

Each step can be cut off by the link, and each is safe to run again: a copy goes on at its byte, a build or a
measurement goes on without us and is joined, a power mode that was changed is written down on the board. So there is no
resume flag; the same command again is the way. Nothing is retried by itself: whoever reads the message decides.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from hwc.artifacts import Bundle, PowerMode
from hwc.bundle import MANIFEST
from hwc.errors import EngineError, HwcError, InternalError
from hwc.remote.board_program import DOCTOR_TIMEOUT_S, read_doctor, run_job
from hwc.remote.check_board import check_look, check_machine, find_power_mode
from hwc.remote.copy_bundle import Copy, Files, Plan, has_rsync, read_plan, show_bytes
from hwc.remote.describe_plan import describe_plan
from hwc.remote.host_result import DeployOptions, HostResult, StepTime
from hwc.remote.hosts import Host, with_folder
from hwc.remote.ssh import Connection
from hwc.remote.ssh_errors import LinkCut

# What is true after the link was cut in a step.
_AFTER_CUT = {
    "copy": "run the same command again: it goes on at the byte where it stopped",
    "build": "the build goes on on the board; run the same command again to pick it up",
    "profile": "the measurement goes on on the board; run the same command again to pick it up",
}
_REPORT = "report.json"

OnProgress = Callable[[str, str, float, str], None]  # host's label, step, fraction 0 to 1, text


class Deployment:
    """One board's way through the recipe. `run` never raises what is the board's fault; `cancel` ends it from outside.

    Args:
        folder: the bundle, verified.
        files: of `list_files`.
    """

    def __init__(
        self, folder: Path, bundle: Bundle, files: Files, host: Host, options: DeployOptions,
        on_progress: OnProgress = lambda host, step, fraction, text: None,
    ) -> None:  # fmt: skip
        self._folder, self._bundle, self._files = folder, bundle, files
        self._host = with_folder(host, bundle.name)
        self._options = replace(options, power_mode=host.power_mode or options.power_mode)
        self._on_progress = on_progress
        self._link = Connection(self._host, options.ssh_config)
        self._cancelled = threading.Event()
        self._step_name = "connect"
        self.result = HostResult(host.label, host.address, self._host.remote_dir)

    def cancel(self) -> None:
        """Ends the connection; what runs on the board goes on."""
        self._cancelled.set()
        self._link.close()

    def run(self) -> HostResult:
        """Runs every step that was asked for."""
        try:
            mode = find_power_mode(self._bundle, self._options.power_mode)
            with self._step("connect"):
                self._link.__enter__()
            with contextlib.closing(self._link):
                self._run_connected(mode)
        except HwcError as error:
            self.result.error = error
        except Exception as error:  # one board's bug must not take the others with it
            where = f"{self._host.label}, step {self._step_name}"
            self.result.error = InternalError(f"{type(error).__name__}: {error}", where=where, do="please report this")
        return self.result

    def _run_connected(self, mode: PowerMode | None) -> None:
        options, result = self._options, self.result
        will_build = options.build or options.profile
        with self._step("probe"):
            look = self._link.call("probe.probe", folder=self._host.remote_dir, files=self._files)
            check_look(look, self._bundle.target, self._host.label)
            plan = read_plan(look["plan"], self._host.label)
            result.folder = plan.folder
            self._refuse_replacing_under_a_job(plan, look["jobs"])
        if options.dry_run:
            result.plan = describe_plan(plan, self._bundle, mode, self._commands())
            return
        with self._step("copy"):
            self._copy(plan, use_rsync=options.use_rsync and look["rsync"] and has_rsync(), will_build=will_build)
        with self._power_mode(mode, look["former"]):
            commands = self._commands()
            if will_build:
                with self._step("build"):
                    result.build = self._run_job("build", commands["build"])
            if options.profile:
                with self._step("profile"):
                    result.profile = self._run_job("profile", commands["profile"], file=_REPORT)

    def _commands(self) -> dict[str, list[str]]:
        """The flags of each verb of hwc.pyz that will run on the board."""
        options, commands = self._options, {}
        if options.build or options.profile:
            flags = ["--builds", str(options.builds)] * (options.builds > 1) + ["--force"] * options.force
            commands["build"] = flags + ["--accept-differences"] * options.accept_differences
        if options.profile:
            report = f"{self.result.folder}.job/profile/{_REPORT}"
            commands["profile"] = ["--duration", f"{options.duration_s:g}", "-o", report]
        return commands

    def _refuse_replacing_under_a_job(self, plan: Plan, jobs: dict[str, Any]) -> None:
        """A build reads the bundle while it runs, so the bundle stays until it has ended."""
        for name, job in jobs.items():
            if job["state"] == "running" and not plan.is_current:
                raise EngineError(
                    f"a {name} of another bundle is running on the board", where=f"{self._host.label}, {plan.folder}",
                    got=f"process {job['pid']}", do=f"wait for it, end it there (kill -- -{job['pid']}), or choose "
                    "another --remote-dir",
                )  # fmt: skip

    def _copy(self, plan: Plan, *, use_rsync: bool, will_build: bool) -> None:
        result = self.result
        result.reused_bytes = plan.reused_bytes + sum(item["have"] for item in plan.send)
        total = sum(size for _, size in self._files.values())

        def on_bytes(count: int) -> None:
            self._report(count / total, f"{show_bytes(count)} of {show_bytes(total)}")

        copy = Copy(self._link, self._folder, self._files, plan, on_bytes)
        try:
            # The board is judged before anything large is sent.
            doctor = read_doctor(copy.begin(DOCTOR_TIMEOUT_S), self._host.label)
            result.machine = doctor["machine"]
            result.notes += check_machine(
                doctor, self._bundle.target, self._host.label, will_build=will_build,
                accept_differences=self._options.accept_differences,
            )  # fmt: skip
            copy.finish(use_rsync=use_rsync)
        finally:
            result.sent_bytes = copy.sent_bytes

    def _run_job(self, verb: str, flags: list[str], *, file: str = "") -> dict[str, Any]:
        result, notes = run_job(
            self._link, self.result.folder, verb, flags, manifest=self._files[MANIFEST][0],
            power_mode=self._options.power_mode, file=file, on_progress=self._report,
        )  # fmt: skip
        self.result.notes += notes
        return result

    @contextlib.contextmanager
    def _power_mode(self, mode: PowerMode | None, former: dict[str, str]) -> Iterator[None]:
        """Sets the mode for the block and restores the one of before; `former` is what an earlier run could not."""
        if mode is not None:
            with self._step("power mode"):
                said = self._link.call("power.change", folder=self.result.folder, name=mode.name, id=mode.id)
                former = said["former"]
        if former:
            self.result.power = {"mode": mode.name if mode else "", "former": former["name"], "restored": ""}
        try:
            yield
        except HwcError as error:
            if former:
                self._restore_after(error, former["name"])
            raise
        if former:
            self._restore()

    def _restore(self) -> None:
        assert self.result.power is not None
        with self._step("restore power mode"):
            if self._options.keep_power_mode:
                self._link.call("power.keep", folder=self.result.folder)
            else:
                self.result.power["restored"] = self._link.call("power.restore", folder=self.result.folder)["restored"]

    def _restore_after(self, error: HwcError, former: str) -> None:
        """The error stays the one to tell; what became of the power mode is added to it."""
        try:
            self._restore()
        except HwcError as second:
            asked = self._options.power_mode or "another power mode"
            error.do += f"; the board is still in {asked}, which the next run restores to {former} ({second.what})"

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        if self._cancelled.is_set():
            raise EngineError("cancelled", where=self._host.label)
        self._step_name, begun = name, time.monotonic()
        self._report(0.0, "")
        try:
            yield
        except LinkCut:
            raise EngineError(
                f"the link to {self._host.label} was cut", where=f"step {name}",
                do=_AFTER_CUT.get(name, "check the board's network and power, then run the same command again"),
            ) from None  # fmt: skip
        finally:
            self.result.steps.append(StepTime(name, time.monotonic() - begun))

    def _report(self, fraction: float, text: str) -> None:
        self._on_progress(self._host.label, self._step_name, min(1.0, fraction), text)
