from hwc.dla.form_units import form_units
from tests.dla.judged import model

WEIGHTS = {"w": (4, 4, 1, 1), "s": (4, 1, 1)}


def kinds(body: str, outputs: str = "float[1,4,8,8] y", illegal: tuple[str, ...] = ()) -> list[str]:
    graph = model(body, "float[1,4,8,8] x, float[1,4,8,8] z", outputs, arrays=WEIGHTS)
    legal = {str(node.name): node.op_type not in illegal for node in graph.graph}
    return ["+".join(node.op_type for node in unit.nodes) for unit in form_units(list(graph.graph), legal)]


def test_riders_join_the_convolution_in_front() -> None:
    assert kinds("c = Conv(x, w) a = Mul(c, s) b = Add(a, z) y = Relu(b)") == ["Conv+Mul+Add+Relu"]


def test_of_two_producers_the_later_takes_the_sum() -> None:
    assert kinds("c = Conv(x, w) d = Conv(z, w) a = Add(c, d) y = Relu(a)") == ["Conv", "Conv+Add+Relu"]


def test_a_second_reader_or_an_output_keeps_a_rider_out() -> None:
    assert kinds("c = Conv(x, w) a = Relu(c) y = Add(a, c)") == ["Conv", "Relu", "Add"]
    assert kinds("c = Conv(x, w) y = Relu(c)", "float[1,4,8,8] y, float[1,4,8,8] c") == ["Conv", "Relu"]


def test_a_rider_of_another_legality_stands_alone() -> None:
    assert kinds("c = Conv(x, w) h = HardSwish(c) y = Relu(h)", illegal=("HardSwish",)) == ["Conv", "HardSwish", "Relu"]


def test_units_are_in_topological_order() -> None:
    # The sum joins the second Conv's unit, which then has to stand behind the pool that the sum reads.
    body = "c = Conv(x, w) p = MaxPool<kernel_shape=[1,1]>(c) d = Conv(z, w) y = Add(p, d)"
    assert kinds(body) == ["Conv", "MaxPool", "Conv+Add"]
