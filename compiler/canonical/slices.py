"""Slices move up, towards what makes the values that they cut."""

from __future__ import annotations

from math import prod

from intformer.compiler import graph as fg

__all__ = ["lift_slices"]


def lift_slices(graph: fg.Graph) -> None:
    """Move slices in front of the permutations and reshapes that they follow, where possible."""
    producers = graph.producers()
    nodes: list[fg.Node] = []
    for node in graph.nodes:
        if isinstance(node, fg.View) and node.kind == "slice":
            nodes.extend(_lifted(graph, producers, node))
        else:
            nodes.append(node)
    graph.nodes = nodes


def _lifted(graph: fg.Graph, producers: dict[str, fg.Node], node: fg.View) -> list[fg.Node]:
    """The nodes that replace a slice: a slice further up and the views again behind it."""
    after: list[fg.Node] = []
    while True:
        above = producers.get(node.inputs[0])
        if not isinstance(above, fg.View):
            break
        arg = _arg_above(graph, node, above)
        if arg is None:
            break
        inner = graph.values[above.inputs[0]]
        shape = tuple(len(range(*part)) for part in arg)
        name = f"{node.output}.part{len(after)}"
        coding = graph.values[node.output].coding
        graph.values[name] = fg.Value(name, shape, inner.kind, coding=coding)
        view_arg = above.arg if above.kind == "permute" else graph.values[node.output].shape
        view = fg.View(node.name, [name], node.output, node.source, kind=above.kind, arg=view_arg)
        after.insert(0, view)
        node = fg.View(name, [inner.name], name, node.source, kind="slice", arg=arg)
    return [node, *after]


def _arg_above(graph: fg.Graph, node: fg.View, above: fg.View) -> list[list[int]] | None:
    """The slice of ``above``'s input that equals the slice of its output, if there is one."""
    inner = graph.values[above.inputs[0]].shape
    if above.kind == "permute":
        arg = [[0, n, 1] for n in inner]
        for axis, part in zip(above.arg, node.arg, strict=True):
            arg[axis] = list(part)
        return arg
    if above.kind != "reshape":
        return None
    outer = graph.values[above.output].shape
    cut = [i for i, part in enumerate(node.arg) if list(part) != [0, outer[i], 1]]
    if len(cut) != 1 or node.arg[cut[0]][2] != 1:
        return None
    return _through_reshape(inner, outer, cut[0], node.arg[cut[0]])


def _through_reshape(
    inner: tuple[int, ...], outer: tuple[int, ...], axis: int, part: list[int]
) -> list[list[int]] | None:
    """A slice of the outermost factor of a split axis is a slice of the axis itself."""
    before, step = prod(outer[:axis]), prod(outer[axis + 1 :])
    for i, n in enumerate(inner):
        tail = prod(inner[i + 1 :])
        if prod(inner[:i]) == before and n * tail == outer[axis] * step and step % tail == 0:
            unit = step // tail
            arg = [[0, m, 1] for m in inner]
            arg[i] = [part[0] * unit, part[1] * unit, 1]
            return arg
    return None
