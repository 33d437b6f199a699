"""The image of the device half for one target: which Dockerfile, which base image, which `docker buildx build`.

The base image is no choice of this file: it is an entry of the target's fact 'software.containers' (`hwc targets show
TARGET`), of the repository that the Dockerfile of that generation is written against; of several, the newest tag.

| L4T of the target | Dockerfile              | platform    | repository          |
|-------------------|-------------------------|-------------|---------------------|
| 35                | jetpack5.Dockerfile     | linux/arm64 | nvidia/l4t-jetpack  |
| 36                | jetpack6.Dockerfile     | linux/arm64 | nvidia/l4t-jetpack  |
| 38, 39            | jetpack7.Dockerfile     | linux/arm64 | nvidia/tensorrt     |
| none, a GPU card  | x86.Dockerfile          | linux/amd64 | nvidia/tensorrt     |

L4T 32 (JetPack 4) is refused: its Python is 3.6 and the device half needs 3.8. Whatever has no image recorded is
refused too, unless the caller names a base image.

No engine is built in an image. A TensorRT engine belongs to the GPU and the TensorRT that built it, and a build machine
has neither the board's GPU nor, under qemu, any GPU at all. The engine is built from a bundle when the container runs.

Limit: that an image exists under that name on NVIDIA's registry was read in the fact's source and not asked there.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hwc.artifacts import Target
from hwc.errors import EngineError, TargetError, UsageError

REGISTRY = "nvcr.io"
FACT = "software.containers"
_PLATFORM_NAME = re.compile(r"linux/(amd64|arm64)")
# What is an image reference to Docker, narrowly: no spaces, no leading dash that could pass for a flag.
_IMAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")


@dataclass(frozen=True)
class Recipe:
    """A Dockerfile and what it is written against."""

    generation: str
    platform: str
    repository: str

    @property
    def dockerfile(self) -> str:
        return f"docker/{self.generation}.Dockerfile"


@dataclass(frozen=True)
class ImagePlan:
    """One image to build. `source` says where the base image's name comes from."""

    target: str
    dockerfile: str
    platform: str
    base_image: str
    source: str
    note: str
    tag: str
    is_pushed: bool

    def command(self) -> tuple[str, ...]:
        """The words of `docker buildx build`, run in the folder that holds `docker/`, `hwc/` and `plugins/`."""
        return (
            *("docker", "buildx", "build", "--platform", self.platform, "--build-arg", f"BASE_IMAGE={self.base_image}"),
            *("--file", self.dockerfile, "--tag", self.tag, "--push" if self.is_pushed else "--load", "."),
        )

    def text(self) -> str:
        """The command as a shell takes it."""
        return shlex.join(self.command())


_JETSON = {
    35: Recipe("jetpack5", "linux/arm64", "nvidia/l4t-jetpack"),
    36: Recipe("jetpack6", "linux/arm64", "nvidia/l4t-jetpack"),
    38: Recipe("jetpack7", "linux/arm64", "nvidia/tensorrt"),
    39: Recipe("jetpack7", "linux/arm64", "nvidia/tensorrt"),
}
_CARD = Recipe("x86", "linux/amd64", "nvidia/tensorrt")


def find_recipe(target: Target) -> Recipe:
    """The recipe for that target's generation.

    Raises:
        TargetError: no Dockerfile is written for it; says which fact decides.
    """
    if target.family in ("datacenter", "geforce"):
        return _CARD
    if target.family != "jetson":
        raise TargetError(
            f"{target.name} has no container",
            expected="a Jetson or an NVIDIA card",
            got=f"family '{target.family}'",
            do="run the bundle with `hwc run` on that machine; only the device half for TensorRT is put into images",
        )
    fact = target.fact("software.l4t")
    major = re.match(r"\d+", str(fact.value))
    recipe = _JETSON.get(int(major.group())) if major else None
    if recipe is None:
        raise TargetError(
            f"no Dockerfile is written for {target.name}",
            expected="L4T 35, 36, 38 or 39 (JetPack 5, 6 or 7)",
            got=f"L4T {'unknown' if fact.value is None else fact.value}",
            source=fact.source,
            do="JetPack 4 has Python 3.6 and the device half needs 3.8: on that board use its own trtexec",
        )
    return recipe


def find_base_image(target: Target, recipe: Recipe) -> str:
    """The newest image of the recipe's repository among the target's facts, with its registry.

    Raises:
        TargetError: the fact is missing, unknown, or names no image of that repository.
    """
    fact = target.facts.get(FACT)
    images = fact.value if fact is not None and isinstance(fact.value, tuple) else ()
    fitting = [str(image) for image in images if str(image).rpartition(":")[0] == recipe.repository]
    if not fitting:
        raise TargetError(
            f"{target.name} has no base image for {recipe.dockerfile}",
            where=f"fact '{FACT}'",
            expected=f"an image {recipe.repository}:TAG",
            got=", ".join(map(str, images)) or "unknown",
            source=fact.source if fact is not None else "",
            do="give one with --base-image, or record it with its source in hwc/targets/data",
        )
    return f"{REGISTRY}/{max(fitting, key=_tag_numbers)}"


def plan_image(
    target: Target, *, platform: str = "", tag: str = "", base_image: str = "", is_pushed: bool = False
) -> ImagePlan:
    """What to build for a target. Empty arguments are taken from the target's facts and name.

    Raises:
        UsageError: a platform or name that Docker would not take, or a platform that the base image is not made for.
        TargetError: no recipe, or no base image.
    """
    recipe = find_recipe(target)
    for flag, value in (("--tag", tag), ("--base-image", base_image)):
        if value and not _IMAGE_NAME.fullmatch(value):
            raise UsageError(f"{flag} is not the name of an image", expected="name:tag", got=repr(value))
    if platform and not _PLATFORM_NAME.fullmatch(platform):
        raise UsageError("--platform is not known", expected="linux/arm64 or linux/amd64", got=repr(platform))
    if platform and platform != recipe.platform and not base_image:
        raise UsageError(
            f"the base image of {target.name} is not made for {platform}",
            expected=recipe.platform,
            got=platform,
            do="leave --platform out, or give a --base-image for it",
        )
    fact = target.facts.get(FACT)
    notes = [fact.note] if fact is not None and fact.note and not base_image else []
    if target.engine == "tensorrt_rtx":
        notes.append(f"serves bundles compiled with --engine tensorrt: {recipe.repository} lacks TensorRT for RTX")
    return ImagePlan(
        target=target.name,
        dockerfile=recipe.dockerfile,
        platform=platform or recipe.platform,
        base_image=base_image or find_base_image(target, recipe),
        source="--base-image" if base_image or fact is None else fact.source,
        note="; ".join(notes),
        tag=tag or f"hwc:{recipe.generation}",
        is_pushed=is_pushed,
    )


def build_image(plan: ImagePlan, context: Path) -> None:
    """Runs the plan's command in `context`; what Docker prints goes to this process's own output as it comes.

    Raises:
        UsageError: `context` is not a checkout, or has no such Dockerfile.
        EngineError: Docker is missing, has no buildx, or the build failed.
    """
    for name in (plan.dockerfile, "hwc/errors.py", "plugins"):
        if not (context / name).exists():
            raise UsageError(
                "images are built from a checkout of hwc",
                where=str(context),
                expected=f"a folder with {name}",
                do="run it there, or give the folder with --context",
            )
    docker = shutil.which("docker")
    if docker is None:
        raise EngineError(
            "docker is not installed",
            expected="the program docker, with buildx, on PATH",
            do="install Docker Engine and its buildx plugin, or print the command with --dry-run and run it elsewhere",
        )
    if subprocess.run([docker, "buildx", "version"], capture_output=True, check=False).returncode:
        raise EngineError("docker has no buildx", where=docker, do="install the plugin docker-buildx")
    code = subprocess.run([docker, *plan.command()[1:]], cwd=context, check=False).returncode
    if code:
        raise EngineError(
            f"docker buildx ended with exit code {code}",
            where=plan.text(),
            do="its own last lines say why; 'exec format error' means that this machine cannot run "
            f"{plan.platform} programs: install qemu-user-static and binfmt-support",
        )


def _tag_numbers(image: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", image.rpartition(":")[2]))
