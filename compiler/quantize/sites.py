"""Sites: groups of float nodes that become one integer node each."""

from __future__ import annotations

from dataclasses import dataclass

from intformer.compiler import graph as fg

__all__ = ["Site", "find_sites"]


@dataclass
class Site:
    """A node, alone or fused with the sum and the activation behind it.

    ``u = factor * main + res_factor * residual``, then ``activation`` of ``u``. ``main`` is a
    product, or the stored value ``x``. ``before`` names the value ``u``.
    """

    node: fg.Node
    output: str
    x: str | None = None
    factor: float = 1.0
    residual: str | None = None
    res_factor: float = 1.0
    before: str = ""
    activation: fg.Activation | None = None

    @property
    def table(self) -> bool:
        """Whether the site ends in a table lookup."""
        return self.activation is not None and self.activation.kind != "relu"


def find_sites(graph: fg.Graph) -> list[Site]:
    """Sites in execution order; nodes other than products, sums and activations stay alone."""
    finder = _Finder(graph)
    for node in graph.nodes:
        site = finder.site_of(node)
        finder.sites.pop(site.output, None)  # a fused site moves to its last node's place
        site.output = node.output
        finder.sites[node.output] = site
    return list(finder.sites.values())


class _Finder:
    """The sites so far, by the value that each makes."""

    def __init__(self, graph: fg.Graph) -> None:
        self.graph = graph
        self.sites: dict[str, Site] = {}
        self._consumers = graph.consumers()
        self._order = {node.output: i for i, node in enumerate(graph.nodes)}

    def site_of(self, node: fg.Node) -> Site:
        """The site that ``node`` joins or opens."""
        if isinstance(node, fg.Add):
            return self._sum(node)
        if isinstance(node, fg.Activation):
            source = node.inputs[0]
            site = self._open(source) or Site(node, node.output, x=source, before=source)
            site.activation = node
            return site
        return Site(node, node.output, before=node.output)

    def _open(self, name: str) -> Site | None:
        """The site that makes ``name``, if more can be fused to it."""
        site = self.sites.get(name)
        if site is None or not isinstance(site.node, fg.MatMul | fg.Add | fg.Scale):
            return None
        if site.activation is not None or len(self._consumers[name]) != 1:
            return None
        if self.graph.values[name].coding is not None:  # to be stored as the model says
            return None
        return None if name in self.graph.outputs else site

    def _sum(self, node: fg.Add) -> Site:
        """The site of a sum: the latest product that feeds only it takes the other operand."""
        shape = self.graph.values[node.output].shape
        products: list[tuple[int, int, Site]] = []
        for i, name in enumerate(node.inputs):
            site = self._open(name)
            if site is None or site.residual is not None:
                continue
            if not isinstance(site.node, fg.MatMul | fg.Scale):
                continue
            if self.graph.values[name].shape == shape:
                products.append((self._order[name], i, site))
        if products:
            _, main, site = max(products, key=lambda item: item[:2])
        else:
            values = [self.graph.values[name] for name in node.inputs]
            main = int(values[0].shape != shape or values[0].const is not None)
            site = Site(node, node.output, x=node.inputs[main])
        site.factor, site.res_factor = node.factors[main], node.factors[1 - main]
        site.residual, site.before = node.inputs[1 - main], node.output
        return site
