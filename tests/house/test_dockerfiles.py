"""The Dockerfiles keep to rules that were each paid for by someone: a linter of a page, and the proof that it bites.

Where the base comes from is an argument without default, nothing is fetched by address, apt's lists do not stay in a
layer, the last user is not root, what changes often is copied last, and no engine is built in an image.
"""

import json
import re

import pytest

from tests.house.repository import ROOT, shown

# A stage is on the board's image, or on a plain Python of the machine that builds.
BASE = r"(\$\{BASE_IMAGE\}|--platform=\$\{BUILDPLATFORM\} \$\{PYTHON_IMAGE\})( AS [a-z]+)?"
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))


def instructions_of(text: str) -> list[tuple[str, str]]:
    """(NAME, arguments) of each instruction, comments out and continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    pairs = (line.strip().partition(" ") for line in joined.splitlines() if line.strip())
    return [(name.upper(), rest.strip()) for name, _, rest in pairs]


def stages_of(steps: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    starts = [index for index, (name, _) in enumerate(steps) if name == "FROM"]
    return [steps[start:end] for start, end in zip(starts, [*starts[1:], len(steps)])]


def faults_of(text: str) -> list[str]:
    steps = instructions_of(text)
    stages = stages_of(steps)
    if len(stages) < 2:
        return ["one stage: compilers would stay in the image"]
    faults = []
    if ("ARG", "BASE_IMAGE") not in steps[: steps.index(stages[0][0])]:
        faults.append("no `ARG BASE_IMAGE` without default before the first FROM")
    for name, rest in steps:
        faults += faults_of_step(name, rest)
    for stage in stages:
        faults += faults_of_order(stage)
    return faults + faults_of_last(stages[-1])


def faults_of_step(name: str, rest: str) -> list[str]:
    faults = []
    if name == "FROM" and not re.fullmatch(BASE, rest):
        faults.append(f"FROM {rest}: neither ${{BASE_IMAGE}} nor ${{PYTHON_IMAGE}}")
    if name == "ARG" and rest.startswith("PYTHON_IMAGE") and not re.search(r"=[a-z/]+:[0-9]+\.[0-9]+", rest):
        faults.append("PYTHON_IMAGE has no version")
    if name == "ADD":
        faults.append("ADD fetches and unpacks; COPY does neither")
    if ":latest" in rest:
        faults.append("the tag latest says nothing")
    if name in ("ENTRYPOINT", "CMD") and not is_words(rest):
        faults.append(f"{name} in shell form: signals do not reach the program")
    if name == "HEALTHCHECK" and not is_words(rest.partition("CMD ")[2]):
        faults.append("HEALTHCHECK in shell form")
    if name == "WORKDIR" and not rest.startswith("/"):
        faults.append("WORKDIR is not absolute")
    if name == "RUN":
        faults += faults_of_run(rest)
    return faults


def faults_of_run(rest: str) -> list[str]:
    faults = []
    if re.search(r"\b(curl|wget)\b|https?://", rest):
        faults.append("RUN fetches by address")
    if re.search(r"\bsudo\b|\bapt install\b|\bapt-get (dist-)?upgrade\b", rest):
        faults.append("RUN with sudo, apt or upgrade")
    if re.search(r"trtexec|hwc\.pyz['\"]? build", rest):
        faults.append("RUN builds an engine, which belongs to the GPU it is built on")
    if "apt-get install" in rest:
        install = rest[rest.index("apt-get install") :]
        if "apt-get update &&" not in rest[: rest.index("apt-get install")]:
            faults.append("apt-get install without update in the same layer")
        if not re.search(r"\brm -rf /var/lib/apt/lists/\*", install):
            faults.append("apt's lists stay in the layer")
        faults += [
            f"apt-get install without {flag}" for flag in ("--yes", "--no-install-recommends") if flag not in install
        ]
    return faults


def faults_of_order(stage: list[tuple[str, str]]) -> list[str]:
    """Sources of the checkout are copied one by one, the ones that change most last, after the last apt-get."""
    copies = [(at, rest.split()[0]) for at, (name, rest) in enumerate(stage) if name == "COPY" and "--from" not in rest]
    faults = [f"COPY {source}: copies the whole checkout" for _, source in copies if source in (".", "./", "/")]
    apt = [at for at, (name, rest) in enumerate(stage) if name == "RUN" and "apt-get" in rest]
    if copies and apt and copies[0][0] < apt[-1]:
        faults.append("COPY before apt-get: each edit would install the packages anew")
    if any(source.startswith("hwc") for _, source in copies[:-1]):
        faults.append("hwc/ changes most and is not copied last")
    return faults


def faults_of_last(stage: list[tuple[str, str]]) -> list[str]:
    users = [at for at, (name, _) in enumerate(stage) if name == "USER"]
    faults = []
    if not users or stage[users[-1]][1].split(":")[0] in ("root", "0"):
        faults.append("the last USER is root")
    elif any(name in ("RUN", "COPY") for name, _ in stage[users[-1] :]):
        faults.append("RUN or COPY after the last USER: the files would be writable by it")
    if any(name == "COPY" and not rest.startswith("--from=") for name, rest in stage):
        faults.append("the last stage copies from the checkout")
    faults += [f"no {name}" for name in ("ENTRYPOINT", "HEALTHCHECK") if name not in [n for n, _ in stage]]
    return faults


def is_words(text: str) -> bool:
    try:
        return isinstance(json.loads(text), list)
    except ValueError:
        return False


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_a_dockerfile_keeps_the_rules(path):
    assert faults_of(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_what_a_dockerfile_copies_exists_and_is_sent_to_the_builder(path):
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for name, rest in instructions_of(path.read_text(encoding="utf-8")):
        if name == "COPY" and "--from" not in rest:
            source = rest.split()[0].rstrip("/")
            assert (ROOT / source).exists()
            assert f"!{source}" in sent


def test_each_recipe_has_its_dockerfile_and_each_dockerfile_its_recipe():
    from hwc import docker

    recipes = {*docker._JETSON.values(), docker._CARD}
    assert {recipe.dockerfile for recipe in recipes} == {shown(path) for path in FILES}


APT = "RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*"
GOOD = FILES[0].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("ARG BASE_IMAGE\n", "ARG BASE_IMAGE=debian:12\n", "without default"),
        ("FROM ${BASE_IMAGE} AS build", "FROM debian:12 AS build", "neither ${BASE_IMAGE}"),
        ("FROM ${BASE_IMAGE} AS build", "FROM debian:latest AS build", "the tag latest"),
        ("COPY plugins/", "ADD plugins/", "ADD fetches"),
        ("RUN sh docker", "RUN curl -O x && sh docker", "fetches by address"),
        ("rm -rf /var/lib/apt/lists/*", "true", "lists stay"),
        ("apt-get update && apt-get install --yes", "apt-get install --yes", "without update"),
        ("install --yes --no-install-recommends", "install --yes", "without --no-install-recommends"),
        ("USER hwc", "USER root", "the last USER is root"),
        ("USER hwc", "USER 0:0", "the last USER is root"),
        ("USER hwc\n", "", "the last USER is root"),
        ("WORKDIR /data", "RUN touch /opt/x\nWORKDIR /data", "after the last USER"),
        ("WORKDIR /data", "WORKDIR data", "not absolute"),
        ("COPY plugins/ plugins/", "COPY . .", "whole checkout"),
        ("RUN sh docker", f"{APT}\nRUN sh docker", "COPY before apt-get"),
        ("USER root\nWORKDIR /src", "COPY hwc/ hwc/\nUSER root\nWORKDIR /src", "not copied last"),
        ("=python:3.12-slim", "=python", "PYTHON_IMAGE has no version"),
        ("--platform=${BUILDPLATFORM} ", "", "neither ${BASE_IMAGE}"),
        ("COPY --from=build /out/", "COPY hwc/", "copies from the checkout"),
        ('CMD ["doctor"]', "CMD doctor", "CMD in shell form"),
        ("HEALTHCHECK", "# HEALTHCHECK", "no HEALTHCHECK"),
        ("RUN sh docker", "RUN python3 hwc.pyz build x && sh docker", "builds an engine"),
        ("RUN sh docker", "RUN sudo sh docker", "sudo"),
    ],
)
def test_each_rule_bites(old, new, fault):
    assert old in GOOD
    assert any(fault in found for found in faults_of(GOOD.replace(old, new)))


def test_one_stage_is_refused():
    assert faults_of("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nUSER hwc\n") == [
        "one stage: compilers would stay in the image"
    ]
