"""Element-wise operations move up through views, to the products that make their operands."""

from __future__ import annotations

import copy
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer.compiler import graph as fg

__all__ = ["lift_elementwise"]

Array = NDArray[Any]


def lift_elementwise(graph: fg.Graph) -> None:
    """Move activations, scaling and sums in front of the views that they follow, where possible.

    Through permutations and reshapes; through a concatenation of linear layers that nothing else
    reads. Two operands of a sum, and all of a concatenation, move if they are permuted alike. So
    the permutations between two convolutions meet, and cancel.
    """
    _Lifter(graph).run()


class _Lifter:
    def __init__(self, graph: fg.Graph) -> None:
        self.graph = graph
        self.producers = graph.producers()
        self.consumers = graph.consumers()

    def run(self) -> None:
        nodes: list[fg.Node] = []
        for node in self.graph.nodes:
            nodes.extend(self.lifted(node))
        self.graph.nodes = nodes

    def lifted(self, node: fg.Node) -> list[fg.Node]:
        """The nodes that replace ``node``; the last one makes its output."""
        made = self.step(node)
        if made is None:
            self.producers[node.output] = node
            return [node]
        *inner, view = made
        result = [n for part in inner for n in self.lifted(part)]
        self.producers[view.output] = view
        return [*result, view]

    def step(self, node: fg.Node) -> list[fg.Node] | None:
        """``node`` moved up by one view, and the view behind it; ``None`` if it must stay."""
        if isinstance(node, fg.View):
            return self.alike(node) if node.kind == "cat" else None
        if isinstance(node, fg.Add):
            return self.sum(node)
        if not isinstance(node, fg.Activation | fg.Scale):
            return None
        above = self.producers.get(node.inputs[0])
        if not isinstance(above, fg.View):
            return None
        vector = isinstance(node, fg.Scale) and np.ndim(node.factor) > 0
        if above.kind == "cat":
            return self.by_parts(node, above)
        if above.kind not in ("permute", "reshape") or (vector and not self.keeps_last(above)):
            return None
        return self.swapped(node, above, [above.inputs[0]])

    def sum(self, node: fg.Add) -> list[fg.Node] | None:
        consts = [self.graph.values[name].const for name in node.inputs]
        if consts[0] is None and consts[1] is None:
            return self.alike(node)
        main = int(consts[0] is not None)
        above, const = self.producers.get(node.inputs[main]), consts[1 - main]
        shape = self.graph.values[node.output].shape
        straight = self.graph.values[node.inputs[main]].shape == shape
        if not isinstance(above, fg.View) or const is None or not straight:
            return None
        if above.kind == "cat":
            plain = main == 0 and const.shape == (const.size,)
            return self.by_parts(node, above) if plain else None
        if above.kind not in ("permute", "reshape"):
            return None
        moved = self.moved(const, above)
        if moved is None:
            return None
        name = self.value(f"{node.inputs[1 - main]}.moved", moved.shape, moved)
        self.graph.values[name].coding = self.graph.values[node.inputs[1 - main]].coding
        operands = [above.inputs[0], name]
        return self.swapped(node, above, operands if main == 0 else operands[::-1])

    def alike(self, node: fg.Node) -> list[fg.Node] | None:
        """A sum or concatenation of values that one permutation makes of theirs."""
        views = [self.producers.get(name) for name in node.inputs]
        first = views[0]
        if not isinstance(first, fg.View) or first.kind != "permute":
            return None
        for view in views:
            same = isinstance(view, fg.View) and view.kind == "permute" and view.arg == first.arg
            if not same:
                return None
        inputs = [view.inputs[0] for view in views if view is not None]
        if isinstance(node, fg.View):
            axis = first.arg[node.arg]
            shapes = [self.graph.values[name].shape for name in inputs]
            total = sum(shape[axis] for shape in shapes)
            shape = (*shapes[0][:axis], total, *shapes[0][axis + 1 :])
            name = self.value(f"{node.output}.inner", shape)
            self.graph.values[name].coding = self.graph.values[node.output].coding
            inner = fg.View(name, inputs, name, node.source, kind="cat", arg=axis)
            return [inner, self.behind(node, first, name)]
        if len({self.graph.values[name].shape for name in inputs}) > 1:
            return None
        return self.swapped(node, first, inputs)

    def swapped(self, node: fg.Node, above: fg.View, inputs: list[str]) -> list[fg.Node]:
        for name in dict.fromkeys(node.inputs):
            self.release(node, self.producers.get(name))
        name = self.value(f"{node.output}.inner", self.graph.values[above.inputs[0]].shape)
        self.graph.values[name].coding = self.graph.values[node.output].coding
        return [self.copy(node, inputs, name), self.behind(node, above, name)]

    def release(self, node: fg.Node, view: fg.Node | None) -> None:
        """Forget a view that only ``node`` has read as a reader of its own operand."""
        if not isinstance(view, fg.View) or view.output in self.graph.outputs:
            return
        readers = self.consumers.get(view.output, [])
        if all(reader is node for reader in readers):
            for name in view.inputs:
                rest = [r for r in self.consumers.get(name, []) if r is not view]
                self.consumers[name] = rest

    def by_parts(self, node: fg.Node, cat: fg.View) -> list[fg.Node] | None:
        """The operation on each part of a concatenation of linear layers."""
        for name in cat.inputs:
            maker = self.producers.get(name)
            linear = isinstance(maker, fg.MatMul | fg.Activation | fg.Scale | fg.Add)
            if not linear or len(self.consumers.get(name, [1])) != 1 or name in self.graph.outputs:
                return None
        if len(self.consumers.get(cat.output, [1])) != 1 or cat.output in self.graph.outputs:
            return None
        self.release(node, cat)
        values = self.graph.values
        last = cat.arg == len(values[cat.output].shape) - 1
        inner, parts, start = [], [], 0
        for i, name in enumerate(cat.inputs):
            size = values[name].shape[-1] if last else 0
            part = self.value(f"{node.output}.part{i}", values[name].shape)
            values[part].coding = values[node.output].coding
            parts.append(part)
            piece = self.copy(node, [name, *node.inputs[1:]], part)
            if isinstance(piece, fg.Scale) and np.ndim(piece.factor) and last:
                piece.factor = np.asarray(piece.factor)[start : start + size]
            if isinstance(piece, fg.Add):
                const = values[node.inputs[1]].const
                assert const is not None
                if last and const.size > 1:
                    const = const.reshape(-1)[start : start + size]
                    piece.inputs[1] = self.value(f"{node.inputs[1]}.part{i}", const.shape, const)
                    values[piece.inputs[1]].coding = values[node.inputs[1]].coding
            inner.append(piece)
            start += size
        view = fg.View(cat.name, parts, node.output, cat.source, kind="cat", arg=cat.arg)
        return [*inner, view]

    def copy(self, node: fg.Node, inputs: list[str], output: str) -> fg.Node:
        result = copy.copy(node)
        result.name = result.output = output
        result.inputs = inputs
        for name in inputs:
            self.consumers.setdefault(name, []).append(result)
        return result

    def behind(self, node: fg.Node, view: fg.View, name: str) -> fg.View:
        shape = self.graph.values[node.output].shape
        arg = view.arg if view.kind == "permute" else shape
        return fg.View(node.name, [name], node.output, node.source, kind=view.kind, arg=arg)

    def value(self, name: str, shape: tuple[int, ...], const: Array | None = None) -> str:
        unique, count = name, 0
        while unique in self.graph.values:
            count += 1
            unique = f"{name}.{count}"
        self.graph.values[unique] = fg.Value(unique, tuple(shape), "float", const)
        return unique

    def keeps_last(self, view: fg.View) -> bool:
        """Whether a vector along the last axis of the result is one along the operand's."""
        inner = self.graph.values[view.inputs[0]].shape
        if view.kind == "permute":
            return view.arg[-1] == len(inner) - 1
        return inner[-1:] == self.graph.values[view.output].shape[-1:]

    def moved(self, const: Array, view: fg.View) -> Array | None:
        """The constant that, added in front of ``view``, does what ``const`` does behind it."""
        if const.size == 1 or (const.shape == (const.size,) and self.keeps_last(view)):
            return const.reshape(-1)
        inner = self.graph.values[view.inputs[0]].shape
        full = np.broadcast_to(const, self.graph.values[view.output].shape)
        if view.kind == "permute":
            full = full.transpose(np.argsort(view.arg))
        else:
            full = full.reshape(inner)
        while full.ndim > 1 and np.all(full == full[:1]):
            full = full[0]
        return np.ascontiguousarray(full) if prod(full.shape) <= const.size else None
