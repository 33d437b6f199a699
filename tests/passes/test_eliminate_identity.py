from hwc.passes.base import run_pass
from hwc.passes.eliminate_identity import eliminate_identity
from tests.passes.check import check_pass, context, model_of, ops

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'


def test_identity_and_dropout_go() -> None:
    text = HEAD + """
    agraph (float[2,3] x) => (float[2,3] y) {
        a = Identity(x)
        b, mask = Dropout(a)
        c = Concat<axis=0>(b)
        y = Relu(c)
    }"""
    after, step, _ = check_pass(eliminate_identity, text, rewrites=3)
    assert ops(after) == ["Relu"]
    assert (step.nodes_before, step.nodes_after) == (4, 1)


def test_nothing_to_do_is_no_change() -> None:
    check_pass(eliminate_identity, HEAD + "agraph (float[2] x) => (float[2] y) { y = Relu(x) }", rewrites=0)


def test_identity_that_names_an_output_stays() -> None:
    text = HEAD + "agraph (float[2] x) => (float[2] y) { y = Identity(x) }"
    _, _, report = check_pass(eliminate_identity, text, rewrites=0)
    assert "graph output" in report.misses[0].reason


def test_dropout_that_may_train_stays() -> None:
    text = HEAD + """
    agraph (float[2] x, bool t) => (float[2] y) {
        r = Constant<value_float = 0.5>()
        d = Dropout(x, r, t)
        y = Relu(d)
    }"""
    _, step, report = run_pass(model_of(text), eliminate_identity, context())
    assert step.rewrites == 0 and "training_mode" in report.misses[0].reason
