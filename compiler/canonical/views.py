"""Chains of views become at most one reshape and one permutation."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from math import inf, prod
from typing import Any

from intformer.compiler import graph as fg

__all__ = ["merge_views", "remove_unused"]


@dataclass(frozen=True)
class _Strided:
    """A value as a strided view of the row-major buffer of ``root``, all of it.

    The stride of an axis of size 1 is 0.
    """

    root: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def merge_views(graph: fg.Graph) -> None:
    """Merge chains of reshapes and permutations, drop identities, share equal views."""
    forms: dict[str, _Strided] = {}
    alias: dict[str, str] = {}
    known: dict[Any, str] = {}
    nodes: list[fg.Node] = []
    for node in graph.nodes:
        node.inputs = [alias.get(name, name) for name in node.inputs]
        if not isinstance(node, fg.View):
            nodes.append(node)
            continue
        form = _form(graph, forms, node)
        for view in [node] if form is None else _views(graph, form, node):
            view.inputs = [alias.get(name, name) for name in view.inputs]
            arg = view.arg.tobytes() if view.kind == "take" else str(view.arg)
            key = (view.kind, tuple(view.inputs), graph.values[view.output].shape, arg)
            if key in known:
                alias[view.output] = known[key]
            else:
                known[key] = view.output
                nodes.append(view)
        if form is not None:
            forms[node.output] = form
            if form == _whole(graph, form.root):
                alias[node.output] = form.root
    graph.nodes = nodes
    graph.outputs = [alias.get(name, name) for name in graph.outputs]


def _whole(graph: fg.Graph, name: str) -> _Strided:
    shape = graph.values[name].shape
    strides = (prod(shape[i + 1 :]) if n != 1 else 0 for i, n in enumerate(shape))
    return _Strided(name, shape, tuple(strides))


def _form(graph: fg.Graph, forms: dict[str, _Strided], node: fg.View) -> _Strided | None:
    if node.kind not in ("reshape", "permute"):
        return None
    source = node.inputs[0]
    form = forms.get(source) or _whole(graph, source)
    if node.kind == "permute":
        return _Strided(
            form.root,
            tuple(form.shape[a] for a in node.arg),
            tuple(form.strides[a] for a in node.arg),
        )
    strides = _reshaped(form, tuple(node.arg))
    if strides is None:  # not strided: the value in front becomes a root of its own
        form = _whole(graph, source)
        strides = _reshaped(form, tuple(node.arg))
        assert strides is not None
    return _Strided(form.root, tuple(node.arg), strides)


def _reshaped(form: _Strided, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Strides after a reshape; ``None`` if it merges axes that do not follow each other."""
    axes = [(n, s) for n, s in zip(form.shape, form.strides, strict=True) if n != 1]
    strides = [0] * len(shape)
    wanted = [i for i, n in enumerate(shape) if n != 1]
    while wanted:
        outputs, inputs = [wanted.pop()], [axes.pop()]
        while (p := prod(shape[i] for i in outputs)) != (q := prod(n for n, _ in inputs)):
            if p < q:
                outputs.append(wanted.pop())
            else:
                inputs.append(axes.pop())
        for (n, s), (_, outer) in itertools.pairwise(inputs):
            if outer != n * s:
                return None
        stride = inputs[0][1]
        for i in outputs:
            strides[i] = stride
            stride *= shape[i]
    return tuple(strides)


def _views(graph: fg.Graph, form: _Strided, node: fg.View) -> list[fg.View]:
    """A reshape and a permutation that make ``form`` of its root, as far as needed."""
    if form == _whole(graph, form.root):
        return []
    keys: list[float] = []
    for i, (n, stride) in enumerate(zip(form.shape, form.strides, strict=True)):
        leading = all(m == 1 for m in form.shape[: i + 1])
        keys.append(inf if leading else stride if n != 1 else keys[i - 1])
    order = sorted(range(len(keys)), key=lambda i: (-keys[i], i))
    shape = tuple(form.shape[i] for i in order)
    source, views = form.root, []
    axes = tuple(order.index(i) for i in range(len(order)))
    moves = axes != tuple(range(len(axes)))
    if shape != graph.values[source].shape:
        name = _unused(graph, f"{node.output}.axes") if moves else node.output
        graph.values[name] = fg.Value(name, shape, graph.values[source].kind)
        views.append(fg.View(name, [source], name, node.source, kind="reshape", arg=shape))
        source = name
    if moves:
        views.append(
            fg.View(node.name, [source], node.output, node.source, kind="permute", arg=axes)
        )
    return views


def _unused(graph: fg.Graph, name: str) -> str:
    unique, count = name, 0
    while unique in graph.values:
        count += 1
        unique = f"{name}.{count}"
    return unique


def remove_unused(graph: fg.Graph) -> None:
    """Drop nodes and constants that no output needs; inputs stay."""
    needed = set(graph.outputs)
    nodes = []
    for node in reversed(graph.nodes):
        if node.output in needed:
            needed.update(node.inputs)
            nodes.append(node)
    graph.nodes = nodes[::-1]
    keep = needed | set(graph.inputs)
    graph.values = {name: value for name, value in graph.values.items() if name in keep}
