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
    producers, consumers = graph.producers(), graph.consumers()
    order = {id(node): i for i, node in enumerate(graph.nodes)}
    sites: dict[str, Site] = {}

    def open_site(name: str) -> Site | None:
        """The site that makes ``name``, if more can be fused to it."""
        site = sites.get(name)
        if site is None or not isinstance(site.node, fg.MatMul | fg.Add | fg.Scale):
            return None
        if site.activation is not None or len(consumers[name]) != 1:
            return None
        return None if name in graph.outputs else site

    for node in graph.nodes:
        if isinstance(node, fg.MatMul):
            sites[node.output] = Site(node, node.output, before=node.output)
        elif isinstance(node, fg.Add):
            site = _fuse_add(graph, producers, order, node, open_site)
            sites.pop(site.output if site.output != node.output else "", None)
            site.output = site.before = node.output
            sites[node.output] = site
        elif isinstance(node, fg.Activation):
            site = open_site(node.inputs[0])
            if site is None:
                site = Site(node, node.output, x=node.inputs[0], before=node.inputs[0])
            else:
                del sites[site.output]
            site.activation, site.output = node, node.output
            sites[node.output] = site
        else:
            sites[node.output] = Site(node, node.output, before=node.output)
    return list(sites.values())


def _fuse_add(graph, producers, order, node: fg.Add, open_site) -> Site:  # type: ignore[no-untyped-def]
    """The site of a sum: the latest product that feeds only it takes the other operand."""
    shape = graph.values[node.output].shape
    best, best_order = None, -1
    for i in (0, 1):
        site = open_site(node.inputs[i])
        if site is None or not isinstance(site.node, fg.MatMul) or site.residual is not None:
            continue
        if graph.values[node.inputs[i]].shape != shape:
            continue
        if order[id(producers[node.inputs[i]])] > best_order:
            best, best_order = i, order[id(producers[node.inputs[i]])]
    if best is not None:
        site = open_site(node.inputs[best])
        site.factor, site.res_factor = node.factors[best], node.factors[1 - best]
        site.residual = node.inputs[1 - best]
        return site
    main = 0 if graph.values[node.inputs[0]].shape == shape else 1
    if graph.values[node.inputs[main]].const is not None:
        main = 1 - main
    return Site(
        node,
        node.output,
        x=node.inputs[main],
        factor=node.factors[main],
        residual=node.inputs[1 - main],
        res_factor=node.factors[1 - main],
    )
