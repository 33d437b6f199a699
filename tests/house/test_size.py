"""Files stay small enough to hold in mind, and say what they are."""

import ast

import pytest

from tests.house.repository import shown, sources, tree_of

LINES = 400


def faults_of(text_lines: int, tree: ast.Module) -> list[str]:
    """What is wrong with a file: its length, and what lacks a docstring."""
    faults = [f"{text_lines} lines, {LINES} are allowed"] if text_lines > LINES else []
    if not ast.get_docstring(tree):
        faults.append("the module has no docstring")
    for node in tree.body:
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        if isinstance(node, kinds) and not node.name.startswith("_") and not ast.get_docstring(node):
            faults.append(f"'{node.name}' in line {node.lineno} has no docstring")
    return faults


@pytest.mark.parametrize("path", sources(), ids=shown)
def test_a_file_is_short_and_each_public_thing_says_what_it_is(path):
    assert faults_of(len(path.read_text(encoding="utf-8").splitlines()), tree_of(path)) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("x = 1", "the module has no docstring"),
        ('"""M."""\ndef f(): pass', "'f' in line 2 has no docstring"),
        ('"""M."""\nclass C:\n    x = 1', "'C' in line 2 has no docstring"),
        ('"""M."""\nasync def f(): pass', "'f' in line 2 has no docstring"),
    ],
)
def test_the_rule_bites(text, fault):
    assert faults_of(1, ast.parse(text)) == [fault]


def test_the_rule_bites_on_length_and_lets_private_things_be():
    tree = ast.parse('"""M."""\ndef _f(): pass')
    assert faults_of(LINES, tree) == []
    assert faults_of(LINES + 1, tree) == ["401 lines, 400 are allowed"]
