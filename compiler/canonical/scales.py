"""Scaling by numbers moves into the operations that consume the scaled values."""

from __future__ import annotations

from intformer.compiler import graph as fg

__all__ = ["sink_scales"]


def sink_scales(graph: fg.Graph) -> None:
    """Fold every :class:`~intformer.compiler.graph.Scale` by a number into its consumers.

    Scales pass through views. They stay (as nodes in front) where a consumer has no factor:
    LayerNorm, concatenation, a graph output, and a softmax of negated scores.
    """
    _Sinker(graph).run()


class _Sinker:
    def __init__(self, graph: fg.Graph) -> None:
        self.graph = graph
        self.factor: dict[str, float] = {}  # of a value whose node now leaves it unscaled
        self.base: dict[str, str] = {}  # the unscaled value of a dropped Scale's output
        self.ready: dict[str, str] = {}  # scaled values put back as nodes
        self.nodes: list[fg.Node] = []

    def run(self) -> None:
        for node in self.graph.nodes:
            self.visit(node)
        self.graph.outputs = [self.scaled(name, None) for name in self.graph.outputs]
        self.graph.nodes = self.nodes

    def unscaled(self, name: str) -> tuple[str, float]:
        return self.base.get(name, name), self.factor.get(name, 1.0)

    def scaled(self, name: str, like: fg.Node | None) -> str:
        """A value with its factor applied: a Scale node if there is one to apply."""
        base, factor = self.unscaled(name)
        if factor == 1.0:
            return base
        if name not in self.ready:
            value = self.graph.values[name]
            output = f"{name}.scaled"
            self.graph.values[output] = fg.Value(output, value.shape)
            source = like.source if like else ""
            self.nodes.append(fg.Scale(output, [base], output, source, factor=factor))
            self.ready[name] = output
        return self.ready[name]

    def visit(self, node: fg.Node) -> None:
        pairs = [self.unscaled(name) for name in node.inputs]
        given = self.graph.values[node.output].coding is not None  # to be computed as it is
        if isinstance(node, fg.Scale) and isinstance(node.factor, float | int) and not given:
            self.base[node.output] = pairs[0][0]
            self.factor[node.output] = pairs[0][1] * node.factor
            return
        if not self.absorb(node, [factor for _, factor in pairs]):
            node.inputs = [self.scaled(name, node) for name in node.inputs]
        else:
            node.inputs = [base for base, _ in pairs]
        self.nodes.append(node)

    def absorb(self, node: fg.Node, factors: list[float]) -> bool:
        """Let ``node`` apply the factors of its inputs; false if it cannot."""
        if isinstance(node, fg.View) and node.kind != "cat":
            self.factor[node.output] = factors[0]
        elif isinstance(node, fg.MatMul | fg.Mul):
            node.factor *= factors[0] * factors[1]
        elif isinstance(node, fg.Add):
            node.factors = (node.factors[0] * factors[0], node.factors[1] * factors[1])
        elif isinstance(node, fg.Activation | fg.Scale) or (
            isinstance(node, fg.Softmax) and factors[0] > 0
        ):
            node.factor = node.factor * factors[0]
        else:
            return False
        return True
