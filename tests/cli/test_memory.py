"""`hwc memory`: a bundle's plan, anyone's problem, and the judge."""

from tests.e2e.fixtures import assert_refused, document
from tests.memory.problems import instance


def test_a_bundle_shows_its_plan(hwc, cpu_bundle):
    result = hwc("memory", cpu_bundle)
    assert result.exit_code == 0, result.stderr
    for word in ("plan ", "bound ", "no plan is smaller", "apart ", "peak ", "engine ", "<- most"):
        assert word in result.stdout, result.stdout
    shown = document(hwc("memory", "show", cpu_bundle, "--format", "json"))
    assert shown["kind"] == "memory" and shown["plan"]["is_optimal"] and shown["plan"]["fits"]
    assert shown["engine"]["runtime"].startswith("openvino")


def test_an_int8_bundle_says_how_it_was_planned(hwc, int8_bundle):
    result = hwc("memory", int8_bundle)
    assert result.exit_code == 0, result.stderr
    assert "Q/DQ" in result.stdout


def test_a_capacity_that_cannot_be_met_is_exit_code_1(hwc, cpu_bundle):
    result = hwc("memory", cpu_bundle, "--capacity", 16)
    assert result.exit_code == 1 and "cannot be met, proved" in result.stdout
    assert result.stdout.splitlines()[-1] == "&&&& FAILED hwc.memory.show"


def test_a_problem_is_planned_written_and_judged(hwc, tmp_path):
    problem, capacity = instance("example")
    out = tmp_path / "solution.csv"
    result = hwc("memory", "plan", problem, "--capacity", capacity, "-o", out, "--draw")
    assert result.exit_code == 0 and "fits" in result.stdout and "<- most" in result.stdout, result.output
    assert hwc("memory", "check", out, "--capacity", capacity).exit_code == 0
    small = hwc("memory", "check", out, "--capacity", capacity - 1)
    assert small.exit_code == 1 and "wrong: the plan needs" in small.stdout
    lines = out.read_text().splitlines()
    out.write_text("\n".join([*lines[:-1], lines[-1].rsplit(",", 1)[0] + ",1"]))
    wrong = hwc("memory", "check", out)
    assert wrong.exit_code == 1 and "share bytes" in wrong.stdout


def test_what_is_no_bundle_or_problem_is_refused(hwc, tmp_path):
    assert_refused(hwc("memory", tmp_path), 2, "is not a bundle")
    assert_refused(hwc("memory", "plan", tmp_path / "absent.csv"), 2, "cannot read")
    assert_refused(hwc("memory", "check", instance("example")[0]), 2, "has no offset")
    assert hwc("memory").exit_code == 2
