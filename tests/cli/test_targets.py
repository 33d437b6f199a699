"""`hwc targets` lists what can be compiled for, and gives every fact its unit and source."""

from hwc import targets
from tests.e2e.fixtures import assert_refused, document


def test_every_target_has_a_line(hwc):
    result = hwc("targets", "list")
    assert result.exit_code == 0
    listed = [line.split()[0] for line in result.stdout.splitlines()]
    assert set(targets.names()) <= set(listed)
    assert "agx-xavier = agx-xavier-32gb" in result.stdout


def test_only_targets_with_a_dla_are_listed_on_demand(hwc):
    rows = document(hwc("targets", "list", "--with", "dla", "--format", "json"))
    assert {row["name"] for row in rows} >= {"agx-xavier-32gb", "agx-orin-64gb"}
    assert all(targets.load(row["name"]).number("dla.count") > 0 for row in rows)
    assert len(rows) < len(document(hwc("targets", "list", "--format", "json")))


def test_a_target_shows_every_fact_with_its_source(hwc):
    result = hwc("targets", "show", "agx-xavier")
    target = targets.load("agx-xavier")
    lines = result.stdout.splitlines()
    assert all(any(line.startswith(f"  {name} ") for line in lines) for name in target.facts)
    assert sum("source: " in line for line in lines) >= len(target.facts)
    assert all(mode.name in result.stdout for mode in target.power_modes)


def test_the_json_of_a_target_holds_the_same_facts(hwc):
    shown = document(hwc("targets", "show", "rtx-4090", "--format", "json"))
    assert set(shown["facts"]) == set(targets.load("rtx-4090").facts)
    assert shown["facts"]["gpu.compute_capability"]["value"] == "8.9"


def test_an_unknown_target_is_refused_with_the_closest_names(hwc):
    assert_refused(hwc("targets", "show", "rtx-4091"), 2, "rtx-4091", "rtx-4090", "hwc targets list")
