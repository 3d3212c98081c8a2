"""The float graph: a model in real numbers, in the few operations that the core knows.

Frontends build it, :mod:`intformer.compiler.float_eval` runs it, the quantizer turns it into
the integer graph. Values have static shapes; nodes stand in execution order. Views (reshape,
permute, slice, cat, expand, take) are those of the integer graph.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from intformer.compiler.integer_graph import Node, View

if TYPE_CHECKING:
    from intformer.compiler.quantize.scales import Coding

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Add",
    "Compare",
    "Embedding",
    "Graph",
    "GraphBuilder",
    "LayerNorm",
    "MatMul",
    "Mul",
    "Node",
    "Not",
    "RMSNorm",
    "Recode",
    "Scale",
    "Softmax",
    "Value",
    "View",
    "WeightCoding",
]

Array = NDArray[Any]

ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "sigmoid", "silu", "tanh")
"""Element-wise functions: ``relu`` by saturation, the others by a table.

Any other function is an expression, see :mod:`intformer.compiler.expressions`.
"""


@dataclass
class WeightCoding:
    """Codes of a linear layer's weights ``[N, K]``: multiples of ``scale[n]``, exactly."""

    scale: Array

    def rows(self, start: int, stop: int) -> WeightCoding:
        """The coding of some rows."""
        return WeightCoding(self.scale[start:stop])


@dataclass
class Value:
    """A tensor of the float graph: ``kind`` is ``"float"``, ``"int"`` (ids) or ``"bool"``.

    ``coding``: the codes that the model itself prescribes for the value, if it is quantized: an
    int8 or int16 coding, or the scale of each row of a linear layer's weights.
    """

    name: str
    shape: tuple[int, ...]
    kind: str = "float"
    const: Array | None = None
    coding: Coding | WeightCoding | None = None


@dataclass
class MatMul(Node):
    """``factor * (a @ b.T) + bias`` over the last axis of both; inputs ``[a, b]``.

    ``a``: ``[..., M, K]``. ``b``: a constant ``[N, K]``, or a computed ``[..., N, K]`` with the
    leading axes of ``a`` (then without bias). ``bias``: ``[N]`` or ``None``.
    """

    bias: Array | None = None
    factor: float = 1.0


@dataclass
class Add(Node):
    """``factors[0] * x + factors[1] * y``.

    One operand has the output's shape; the other broadcasts to it along leading axes.
    """

    factors: tuple[float, float] = (1.0, 1.0)


@dataclass
class Scale(Node):
    """``factor * x``: one number, or a vector along the last axis."""

    factor: float | Array = 1.0


@dataclass
class Activation(Node):
    """``kind(factor * x)``: one of :data:`ACTIVATIONS`, or an expression of ``x``."""

    kind: str = "relu"
    factor: float = 1.0


@dataclass
class Mul(Node):
    """``factor * x * y``, two computed tensors element by element; ``y`` may be a mask.

    Only the frontend makes it: :mod:`intformer.compiler.canonical.products` expands it.
    """

    factor: float = 1.0


@dataclass
class Compare(Node):
    """``x KIND number`` of whole numbers: a mask; ``kind`` is ``eq ne lt le gt ge``."""

    kind: str = "ne"
    number: int = 0


@dataclass
class Softmax(Node):
    """Softmax of ``factor * x`` over the last axis; inputs ``[x]`` or ``[x, mask]`` (true = keep).

    If ``causal``, element ``j`` of row ``i`` is kept only if ``j < i + 1 + causal_offset``.
    """

    factor: float = 1.0
    causal: bool = False
    causal_offset: int = 0


@dataclass
class LayerNorm(Node):
    """LayerNorm over the last axis; ``gamma`` and ``beta`` are vectors of its length."""

    gamma: Array = field(kw_only=True)
    beta: Array = field(kw_only=True)
    eps: float = 1e-5


@dataclass
class RMSNorm(Node):
    """``gamma * x / sqrt(mean(x**2) + eps)`` over the last axis.

    Only the frontend makes it: :mod:`intformer.compiler.canonical` turns it into the LayerNorm of
    ``x`` beside ``-x``, whose mean is 0 and whose variance is ``mean(x**2)``.
    """

    gamma: Array = field(kw_only=True)
    eps: float = 1e-6


@dataclass
class Embedding(Node):
    """Rows of a constant table; inputs ``[ids, table]``."""


@dataclass
class Not(Node):
    """Logical not of a mask."""


@dataclass
class Recode(Node):
    """``x`` again, in a coding of its own: a quantized model quantizes it anew."""


@dataclass
class Graph:
    """Values by name, nodes in execution order, and the names of inputs and outputs."""

    values: dict[str, Value] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)

    def producers(self) -> dict[str, Node]:
        """The node that computes each value (none for inputs and constants)."""
        return {node.output: node for node in self.nodes}

    def consumers(self) -> dict[str, list[Node]]:
        """The nodes that read each value, once for every read."""
        readers: dict[str, list[Node]] = {name: [] for name in self.values}
        for node in self.nodes:
            for name in node.inputs:
                readers[name].append(node)
        return readers


class GraphBuilder:
    """Builds a :class:`Graph` node by node; every method returns the name of its result.

    ``source`` (settable) is recorded in the nodes made from then on; names are made unique.
    ``made`` has the node that computes each value.
    """

    def __init__(self) -> None:
        self.graph = Graph()
        self.source = ""
        self.made: dict[str, Node] = {}

    def value(
        self, name: str, shape: tuple[int, ...], kind: str = "float", const: Array | None = None
    ) -> str:
        """Declare a value under ``name``, or a name made from it if that is taken."""
        unique, count = name, 0
        while unique in self.graph.values:
            count += 1
            unique = f"{name}.{count}"
        self.graph.values[unique] = Value(unique, tuple(int(n) for n in shape), kind, const)
        return unique

    def input(self, name: str, shape: tuple[int, ...], kind: str = "float") -> str:
        """Declare a model input."""
        name = self.value(name, shape, kind)
        self.graph.inputs.append(name)
        return name

    def const(self, array: Array, name: str = "const") -> str:
        """Declare a constant; its kind follows the array's type."""
        array = np.asarray(array)
        kind = {"b": "bool", "i": "int", "u": "int"}.get(array.dtype.kind, "float")
        if kind == "float":
            array = array.astype(np.float32)
        return self.value(name, array.shape, kind, array)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a value."""
        return self.graph.values[name].shape

    def node(
        self,
        node_type: type[Node],
        name: str,
        inputs: list[str],
        shape: tuple[int, ...],
        *,
        value_kind: str = "float",
        **fields: Any,
    ) -> str:
        """Append a node of class ``node_type``."""
        output = self.value(name, shape, value_kind)
        made = node_type(output, inputs, output, self.source, **fields)
        self.graph.nodes.append(made)
        self.made[output] = made
        return output

    def view(self, kind: str, inputs: list[str], arg: Any, name: str | None = None) -> str:
        """Append a view, unless it is the identity."""
        first = self.graph.values[inputs[0]]
        probe = View("", [], "", kind=kind, arg=arg)
        shape = probe.apply(*(np.broadcast_to(np.int8(0), self.shape(x)) for x in inputs)).shape
        same_order = kind != "take" and (kind != "permute" or list(arg) == sorted(arg))
        if len(inputs) == 1 and shape == first.shape and same_order:
            return inputs[0]
        if name is None:
            name = f"{inputs[0]}.{kind}"
        return self.node(View, name, inputs, shape, value_kind=first.kind, kind=kind, arg=arg)

    def reshape(self, x: str, shape: tuple[int, ...], name: str | None = None) -> str:
        """Append a reshape."""
        return self.view("reshape", [x], tuple(int(n) for n in shape), name)

    def permute(self, x: str, axes: tuple[int, ...], name: str | None = None) -> str:
        """Append a permutation of axes."""
        return self.view("permute", [x], tuple(int(a) for a in axes), name)

    def swap_last(self, x: str, name: str | None = None) -> str:
        """Append a transposition of the last two axes."""
        rank = len(self.shape(x))
        return self.permute(x, (*range(rank - 2), rank - 1, rank - 2), name)

    def slice(self, x: str, axis: int, start: int, stop: int, step: int = 1, name: str = "") -> str:
        """Append a slice of one axis."""
        arg = [[0, n, 1] for n in self.shape(x)]
        arg[axis] = [start, stop, step]
        return self.view("slice", [x], arg, name or None)

    def take(self, x: str, index: Array, name: str | None = None) -> str:
        """Append a view of the elements ``index`` (flat indices of ``x``, any shape)."""
        index = np.ascontiguousarray(index, np.int64)
        whole = np.arange(index.size).reshape(index.shape)
        if index.size == np.prod(self.shape(x)) and np.array_equal(index, whole):
            return self.reshape(x, index.shape, name)
        return self.view("take", [x], index, name)

    def expand(self, x: str, shape: tuple[int, ...], name: str | None = None) -> str:
        """Append a broadcast to ``shape``, which has at least the rank of ``x``."""
        rank = len(self.shape(x))
        x = self.reshape(x, (1,) * (len(shape) - rank) + self.shape(x))
        return self.view("expand", [x], tuple(int(n) for n in shape), name)

    def matmul(self, a: str, b: str, *, bias: Array | None = None, name: str = "matmul") -> str:
        """Append ``a @ b.T + bias``."""
        shape = (*self.shape(a)[:-1], self.shape(b)[-2])
        return self.node(MatMul, name, [a, b], shape, bias=bias)
