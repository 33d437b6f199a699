"""Constants for text models by name, only those that the text uses: an unused one would count as dead."""

import re

SCALARS = {
    "zero": 0.0, "half": 0.5, "one": 1.0, "two": 2.0, "three": 3.0, "four": 4.0, "six": 6.0, "sixth": 0.16666667,
    "root2": 1.4142135381698608, "inverse_root2": 0.7071, "wrong": 0.70, "cubic": 0.044715, "root_2_pi": 0.7978845608,
    "k": 1.702, "epsilon": 1e-5, "minus_half": -0.5,
}  # fmt: skip


def with_scalars(body: str) -> str:
    """The body of a text graph behind Constant nodes for the scalars that it names."""
    used = [name for name in SCALARS if re.search(rf"\b{name}\b", body)]
    return "".join(f"{name} = Constant<value_float = {SCALARS[name]}>()\n" for name in used) + body
