"""The plan of an image comes from the target's facts, and a build says plainly why it cannot be done."""

import dataclasses
import os
import shlex
import stat

import pytest

from hwc import docker, targets
from hwc.artifacts import Fact
from hwc.errors import EngineError, TargetError, UsageError
from tests.house.repository import ROOT


@pytest.mark.parametrize(
    ("name", "dockerfile", "platform"),
    [
        ("agx-xavier", "docker/jetpack5.Dockerfile", "linux/arm64"),
        ("xavier-nx", "docker/jetpack5.Dockerfile", "linux/arm64"),
        ("orin-nano", "docker/jetpack6.Dockerfile", "linux/arm64"),
        ("agx-thor", "docker/jetpack7.Dockerfile", "linux/arm64"),
        ("t4", "docker/x86.Dockerfile", "linux/amd64"),
        ("rtx-4090", "docker/x86.Dockerfile", "linux/amd64"),
    ],
)
def test_each_generation_has_its_dockerfile_and_platform(name, dockerfile, platform):
    plan = docker.plan_image(targets.load(name))
    assert (plan.dockerfile, plan.platform) == (dockerfile, platform)
    assert (ROOT / plan.dockerfile).is_file()


def test_the_base_image_is_an_entry_of_the_fact_and_brings_its_source():
    for name in targets.names():
        target = targets.load(name)
        try:
            plan = docker.plan_image(target)
        except TargetError:
            continue
        fact = target.fact(docker.FACT)
        registry, _, image = plan.base_image.partition("/")
        assert registry == docker.REGISTRY
        assert image in fact.value
        assert plan.source == fact.source


def with_images(name: str, images: tuple[str, ...] | None):
    target = targets.load(name)
    facts = dict(target.facts)
    facts.pop(docker.FACT)
    if images is not None:
        facts[docker.FACT] = Fact(images, "images", "a test")
    return dataclasses.replace(target, facts=facts)


def test_of_several_tags_the_newest_is_taken_by_number_and_not_by_spelling():
    target = with_images(
        "agx-xavier", ("nvidia/l4t-jetpack:r35.10.1", "nvidia/l4t-jetpack:r35.9.1", "nvidia/other:r99")
    )
    assert docker.plan_image(target).base_image == "nvcr.io/nvidia/l4t-jetpack:r35.10.1"


@pytest.mark.parametrize(
    "images", [None, (), ("nvidia/l4t-tensorrt:r8.5.2-runtime",), ("nvidia/l4t-jetpack-x:r35.4.1",)]
)
def test_a_target_without_a_fitting_image_is_refused_unless_one_is_given(images):
    target = with_images("agx-xavier", images)
    with pytest.raises(TargetError, match="no base image") as caught:
        docker.plan_image(target)
    assert "--base-image" in caught.value.do
    assert docker.plan_image(target, base_image="mine:1").base_image == "mine:1"


def test_an_unknown_image_fact_is_refused_with_its_source():
    target = targets.load("agx-xavier")
    facts = {**target.facts, docker.FACT: Fact(None, "images", "looked for, not found")}
    with pytest.raises(TargetError) as caught:
        docker.plan_image(dataclasses.replace(target, facts=facts))
    assert caught.value.source == "looked for, not found"


@pytest.mark.parametrize(
    ("name", "what"), [("tx2", "L4T 32.7.6"), ("jetson-nano", "L4T 32.7.6"), ("cpu", "family 'cpu'")]
)
def test_what_has_no_dockerfile_is_refused(name, what):
    with pytest.raises(TargetError) as caught:
        docker.plan_image(targets.load(name), base_image="mine:1")
    assert caught.value.got == what


def test_a_board_whose_l4t_is_unknown_is_refused():
    target = targets.load("agx-xavier")
    facts = {**target.facts, "software.l4t": Fact(None, "version", "nowhere")}
    with pytest.raises(TargetError, match="no Dockerfile"):
        docker.plan_image(dataclasses.replace(target, facts=facts))


def test_a_geforce_card_is_told_which_bundles_its_image_serves():
    assert "--engine tensorrt" in docker.plan_image(targets.load("rtx-4090")).note
    assert "--engine tensorrt" not in docker.plan_image(targets.load("t4")).note


def test_another_platform_needs_a_base_image_for_it():
    xavier = targets.load("agx-xavier")
    with pytest.raises(UsageError, match="not made for linux/amd64"):
        docker.plan_image(xavier, platform="linux/amd64")
    assert docker.plan_image(xavier, platform="linux/arm64").platform == "linux/arm64"
    assert docker.plan_image(xavier, platform="linux/amd64", base_image="mine:1").platform == "linux/amd64"


@pytest.mark.parametrize(
    "flags",
    [{"tag": "--push"}, {"tag": "a b"}, {"base_image": "x;rm"}, {"platform": "linux/riscv64"}, {"platform": "arm64"}],
)
def test_what_docker_would_not_take_is_refused_before_it_is_asked(flags):
    with pytest.raises(UsageError):
        docker.plan_image(targets.load("agx-xavier"), **flags)


def test_the_text_is_the_command_as_a_shell_reads_it():
    plan = docker.plan_image(targets.load("agx-orin"), tag="registry.local/hwc:1", is_pushed=True)
    assert tuple(shlex.split(plan.text())) == plan.command()
    assert plan.command()[-2:] == ("--push", ".")
    assert docker.plan_image(targets.load("agx-orin")).command()[-2:] == ("--load", ".")


def put_fake_docker(folder, script: str) -> None:
    """A stand-in for the program docker: writes its words to `words` and ends as `script` says."""
    fake = folder / "docker"
    fake.write_text(f'#!/bin/sh\n[ "$2" = version ] || echo "$PWD|$*" > "{folder}/words"\n{script}\n')
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)


def test_a_build_runs_the_printed_command_in_the_checkout(tmp_path, monkeypatch):
    put_fake_docker(tmp_path, "exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    plan = docker.plan_image(targets.load("agx-xavier"))
    docker.build_image(plan, ROOT)
    assert (tmp_path / "words").read_text().strip() == f"{ROOT}|{' '.join(plan.command()[1:])}"


@pytest.mark.parametrize(
    ("script", "what"), [('[ "$2" = version ]', "exit code 1"), ('[ "$2" != version ]', "has no buildx")]
)
def test_a_failing_docker_is_an_engine_error(tmp_path, monkeypatch, script, what):
    put_fake_docker(tmp_path, script)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(EngineError, match=what):
        docker.build_image(docker.plan_image(targets.load("agx-xavier")), ROOT)


def test_a_missing_docker_and_a_folder_that_is_no_checkout_are_told_apart(tmp_path, monkeypatch):
    plan = docker.plan_image(targets.load("agx-xavier"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="docker is not installed"):
        docker.build_image(plan, ROOT)
    with pytest.raises(UsageError, match="built from a checkout"):
        docker.build_image(plan, tmp_path)
