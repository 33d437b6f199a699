"""What a rule found about one layer, and what would help.

| kind      | means                                                                                        |
|-----------|----------------------------------------------------------------------------------------------|
| blocks    | the layer falls back to the GPU: a source forbids it, or does not list it                     |
| unsure    | no source says whether it may run there; the plan tries it, and the board has the last word  |
| condition | it may run there if something else holds, which the finding names                            |
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from hwc.dla.board import Board
from hwc.dla.rewrites import REWRITES, Rewrite


@dataclass(frozen=True)
class Finding:
    """One rule, one layer. `fact` is the name of the fact that the rule asked; `source` is that fact's."""

    node: str
    op_type: str
    kind: str
    rule: str
    fact: str
    expected: str
    got: str
    source: str
    rewrite: Rewrite | None = None

    def __str__(self) -> str:
        text = f"{self.rule}: {self.got}; DLA takes {self.expected}"
        return text + (f"; {self.rewrite}" if self.rewrite is not None else "")


@dataclass(frozen=True)
class Judge:
    """Makes the findings of one rule family about one node."""

    node: ir.Node
    board: Board

    def find(
        self, rule: str, fact: str, *, expected: str, got: str, rewrite: str = "", kind: str = "blocks"
    ) -> Finding:
        """A finding with the source of `fact`; `rewrite` is a key of `REWRITES`."""
        return Finding(
            str(self.node.name), self.node.op_type, kind, rule, fact, expected, got, self.board.fact(fact).source,
            REWRITES[rewrite] if rewrite else None,
        )

    def beyond(
        self, rule: str, fact: str, values: tuple[int, ...] | list[int], *, low: int, what: str, rewrite: str = ""
    ) -> list[Finding]:
        """A finding if any value lies outside [low, the fact's number]."""
        high = int(self.board.number(fact))
        if all(low <= value <= high for value in values):
            return []
        shown = "x".join(str(value) for value in values)
        return [self.find(rule, fact, expected=f"[{low}, {high}]", got=f"{what} {shown}", rewrite=rewrite)]

    def allowed(self, rule: str, fact: str, *, got: str, expected: str, rewrite: str = "") -> list[Finding]:
        """For a yes/no fact: nothing on yes, a finding on no, an unsure one where the fact is unknown."""
        value = self.board.fact(fact).value
        if value is True:
            return []
        kind = "unsure" if value is None else "blocks"
        return [self.find(rule, fact, expected=expected, got=got, rewrite=rewrite, kind=kind)]
