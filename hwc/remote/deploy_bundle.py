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
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hwc.artifacts import Bundle, PowerMode
from hwc.bundle import MANIFEST
from hwc.errors import EngineError, HwcError, InternalError, TargetError, UsageError
from hwc.remote.board_program import ask_doctor, fetch_result, forget_job, run_job
from hwc.remote.check_board import check_look, check_machine
from hwc.remote.copy_bundle import PROGRAM, Files, Plan, has_rsync, list_files, plan_copy, send_files, show_bytes
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


@dataclass(frozen=True)
class DeployOptions:
    """What to do on each board. `profile` implies `build`; a host's own power mode is stronger than this one."""

    build: bool = False
    profile: bool = False
    power_mode: str = ""
    keep_power_mode: bool = False
    duration_s: float = 10.0
    builds: int = 1
    force: bool = False
    use_rsync: bool = True
    dry_run: bool = False
    ssh_config: Path | None = None


@dataclass(frozen=True)
class StepTime:
    """One step as it happened."""

    name: str
    seconds: float


@dataclass
class HostResult:
    """What came of one board. `machine`, `build` and `profile` are what hwc.pyz printed there, None if not asked."""

    host: str
    address: str
    folder: str = ""
    steps: list[StepTime] = field(default_factory=list)
    sent_bytes: int = 0
    reused_bytes: int = 0
    machine: dict[str, Any] | None = None
    build: dict[str, Any] | None = None
    profile: dict[str, Any] | None = None
    power: dict[str, str] | None = None
    plan: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: HwcError | None = None

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON; `error` as `--format json` prints errors."""
        shallow = {name: value for name, value in vars(self).items() if name not in ("steps", "error")}
        error = self.error.to_dict() if self.error else None
        return {**shallow, "ok": error is None, "steps": [asdict(step) for step in self.steps], "error": error}


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
            look = self._link.call("look")
            check_look(look, self._bundle.target, self._host.label)
            plan = plan_copy(self._link, self._host.remote_dir, self._files, write=False)
            result.folder = plan.folder
            self._refuse_replacing_under_a_job(plan)
        if options.dry_run:
            result.plan = describe_plan(plan, self._bundle, mode, self._commands())
            return
        with self._step("copy"):
            self._copy(plan, use_rsync=options.use_rsync and look["rsync"] and has_rsync(), will_build=will_build)
        with self._power_mode(mode):
            commands = self._commands()
            if will_build:
                with self._step("build"):
                    result.build = self._run_job("build", commands["build"])
                    forget_job(self._link, result.folder, "build")
            if options.profile:
                with self._step("profile"):
                    self._run_job("profile", commands["profile"])
                    result.profile = fetch_result(self._link, result.folder, "profile", _REPORT)
                    forget_job(self._link, result.folder, "profile")

    def _commands(self) -> dict[str, list[str]]:
        """The flags of each verb of hwc.pyz that will run on the board."""
        options, commands = self._options, {}
        if options.build or options.profile:
            commands["build"] = ["--builds", str(options.builds)] * (options.builds > 1) + ["--force"] * options.force
        if options.profile:
            report = f"{self.result.folder}.job/profile/{_REPORT}"
            commands["profile"] = ["--duration", f"{options.duration_s:g}", "-o", report]
        return commands

    def _refuse_replacing_under_a_job(self, plan: Plan) -> None:
        """A build reads the bundle while it runs, so the bundle stays until it has ended."""
        jobs = self._link.call("jobs", folder=plan.folder)["jobs"]
        for name, job in jobs.items():
            if job["state"] == "running" and not plan.is_current:
                raise EngineError(
                    f"a {name} of another bundle is running on the board", where=f"{self._host.label}, {plan.folder}",
                    got=f"process {job['pid']}", do=f"wait for it, end it there (kill -- -{job['pid']}), or choose "
                    "another --remote-dir",
                )  # fmt: skip

    def _copy(self, plan: Plan, *, use_rsync: bool, will_build: bool) -> None:
        result, place = self.result, plan.folder
        if not plan.is_current:
            plan = plan_copy(self._link, plan.folder, self._files, write=True)
            place += ".partial"
        result.reused_bytes = plan.reused_bytes + sum(item["have"] for item in plan.send)
        total = sum(size for _, size in self._files.values())
        done = plan.reused_bytes

        def on_bytes(count: int) -> None:
            self._report((done + count) / total, f"{show_bytes(done + count)} of {show_bytes(total)}")

        first = tuple(item for item in plan.send if item["name"] == PROGRAM)
        for items in (first, tuple(item for item in plan.send if item not in first)):
            if items:
                result.sent_bytes += send_files(
                    self._link, self._folder, plan.folder, items, use_rsync=use_rsync, on_bytes=on_bytes
                )
                done += sum(item["size"] for item in items)
            if result.machine is None:
                # The program is there: the board is judged before anything large is sent.
                doctor = ask_doctor(self._link, place)
                result.notes += check_machine(doctor, self._bundle.target, self._host.label, will_build=will_build)
                result.machine = doctor["machine"]
        if not plan.is_current:
            self._link.call("switch", folder=plan.folder, files=self._files)

    def _run_job(self, verb: str, flags: list[str]) -> dict[str, Any]:
        result, notes = run_job(
            self._link, self.result.folder, verb, flags, manifest=self._files[MANIFEST][0],
            power_mode=self._options.power_mode, on_progress=self._report,
        )  # fmt: skip
        self.result.notes += notes
        return result

    @contextlib.contextmanager
    def _power_mode(self, mode: PowerMode | None) -> Iterator[None]:
        """Sets the mode for the block and restores the former one, also that of an earlier run whose link was cut."""
        folder = self.result.folder
        with self._step("power mode"):
            if mode is not None:
                said = self._link.call("power_change", folder=folder, name=mode.name, id=mode.id)
                former = said["former"]
            else:
                former = self._link.call("power_pending", folder=folder)["former"]
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
                self._link.call("power_keep", folder=self.result.folder)
            else:
                self.result.power["restored"] = self._link.call("power_restore", folder=self.result.folder)["restored"]

    def _restore_after(self, error: HwcError, former: str) -> None:
        """The error stays the one to tell; what became of the power mode is added to it."""
        try:
            self._restore()
        except HwcError as second:
            asked = self._options.power_mode
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


def deploy(
    folder: Path, bundle: Bundle, host: Host, options: DeployOptions,
    on_progress: OnProgress = lambda host, step, fraction, text: None,
) -> HostResult:  # fmt: skip
    """Brings a verified bundle to one board; see `Deployment`.

    Raises:
        UsageError: the bundle has no hwc.pyz.
    """
    return Deployment(folder, bundle, list_files(folder, bundle), host, options, on_progress).run()


def find_power_mode(bundle: Bundle, name: str) -> PowerMode | None:
    """The mode of that name among the target's facts; None for no name.

    Raises:
        TargetError: the target has no modes, or the number of this one is unknown.
        UsageError: no mode is called that.
    """
    target = bundle.target
    if not name:
        return None
    if not target.power_modes:
        raise TargetError(f"{target.title} has no power modes", where="--power-mode", got=name)
    found = next((mode for mode in target.power_modes if mode.name == name), None)
    if found is None:
        known = ", ".join(mode.name for mode in target.power_modes)
        raise UsageError(f"{target.title} has no power mode '{name}'", expected="one of: " + known, got=repr(name))
    if not found.id.isdigit():
        raise TargetError(f"the number of power mode {name} is unknown", got=repr(found.id), source=found.source,
                          do="set it on the board and leave out --power-mode")  # fmt: skip
    return found


def describe_plan(plan: Plan, bundle: Bundle, mode: PowerMode | None, commands: dict[str, list[str]]) -> list[str]:
    """What a run would do, one line each."""
    if plan.is_current:
        lines = [f"copy nothing: {plan.folder} holds this bundle"]
    else:
        lines = [
            f"send {item['name']}: {show_bytes(item['size'] - item['have'])}"
            + (f" of {show_bytes(item['size'])}" if item["have"] else "")
            for item in plan.send
        ]
        lines.append(f"link what is there: {show_bytes(plan.reused_bytes)}; free: {show_bytes(plan.free_bytes)}")
        lines.append(f"ask {PROGRAM} doctor for TensorRT and the GPU, wanted: {bundle.target.title}")
        lines.append(f"rename {plan.folder}.partial to {plan.folder}")
    if mode is not None:
        lines.append(f"run sudo -n nvpmodel -m {mode.id}, which is {mode.name}, and restore the mode of before")
    for verb, flags in commands.items():
        lines.append("run " + " ".join(["python3", f"{plan.folder}/{PROGRAM}", verb, plan.folder, *flags]))
    return lines
