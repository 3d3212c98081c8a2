"""The canonical integer graph: what a model computes, exactly, before it is mapped.

A graph is a list of tensors and a list of nodes in execution order. Values are NumPy arrays
of the tensors' code types; :func:`execute` runs a graph with the functions of
:mod:`intformer.reference`. Frontends and quantizers produce this graph; schedulers consume it.

A real value is ``scale * (code - zero_point)``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer import reference

__all__ = [
    "Gather",
    "IntGraph",
    "LayerNorm",
    "MatMul",
    "Node",
    "Pointwise",
    "PostParams",
    "RowScale",
    "Softmax",
    "Tensor",
    "View",
    "check_groups",
    "execute",
    "step",
]

Array = NDArray[Any]


@dataclass
class Tensor:
    """A tensor of codes.

    Attributes
    ----------
    name: unique name; the report and mismatch messages use it.
    shape: static shape.
    dtype: ``"int8"``, ``"uint8"`` (stored in the activation scratchpad) or ``"int16"`` (wide).
    scale, zero_point: the real value of a code is ``scale * (code - zero_point)``.
    const: the codes of a constant; ``None`` for inputs and computed tensors.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float = 1.0
    zero_point: int = 0
    const: Array | None = None


@dataclass
class PostParams:
    """Arguments of :func:`intformer.reference.post` shared by MatMul and Pointwise.

    ``bias`` (int32), ``mult`` (int16) and ``shift`` (uint8) have one entry per output channel
    (last axis), or one entry in all. ``residual`` names a tensor of the output's shape (or
    broadcastable to it along leading axes). ``factor``, for MatMul only, names the int16 tensor
    ``[..., M, 1]`` of the factors of a product's rows: that of the :class:`RowScale` whose codes
    are its moving operand.
    """

    bias: Array
    mult: Array
    shift: Array
    lo: int
    hi: int
    zero_point: int = 0
    residual: str | None = None
    res_mult: int = 0
    res_shift: int = reference.SHIFT_MIN
    table: Array | None = None  # 256 entries, int8 or uint8
    function: reference.QuadraticTable | None = None  # int16 codes to int8, uint8 or int16
    factor: str | None = None


@dataclass
class Node:
    """Base of all nodes: ``inputs`` are tensor names, ``output`` the name produced."""

    name: str
    inputs: list[str]
    output: str
    source: str = ""  # module path in the user's model

    @property
    def outputs(self) -> list[str]:
        """Names of all tensors produced, ``output`` first."""
        return [self.output]


@dataclass
class MatMul(Node):
    """``post(a @ b.T)``; inputs ``[a, b]``.

    ``a``: ``[..., M, K]`` int8 or uint8. ``b``: a constant ``[N, K]`` int8 (``weight_bits`` 8 or
    4; 4 means codes -7..7), or a computed int8 tensor ``[..., N, K]`` with the leading axes of
    ``a``. Output ``[..., M, N]``.

    With ``group`` above 0 every ``group`` elements of the contraction have a scale of their own:
    ``group`` divides K, ``group_scales`` is uint8 ``[N, K / group]``, ``b`` is a constant, and the
    product is :func:`intformer.reference.grouped_matmul`, whose sums must fit 32 bits.
    """

    post: PostParams = field(kw_only=True)
    weight_bits: int = 8
    group: int = 0
    group_scales: Array | None = None


@dataclass
class Pointwise(Node):
    """``post(x)`` on a stored tensor: requantize, add (via ``residual``), clip, table lookup."""

    post: PostParams = field(kw_only=True)


@dataclass
class Softmax(Node):
    """Row softmax, int8 to uint8. Inputs ``[x]`` or ``[x, mask]`` (nonzero code = keep).

    Element ``j`` of row ``i`` (index on the second-last axis) is kept if also
    ``j < i + 1 + causal_offset`` when ``causal``.
    ``mask`` broadcasts against ``x`` along every axis but the last.
    """

    exp_table: Array = field(kw_only=True)
    causal: bool = False
    causal_offset: int = 0


@dataclass
class LayerNorm(Node):
    """LayerNorm over the last axis, int16 to int8 or int16; see ``reference.layernorm``."""

    gamma: Array = field(kw_only=True)
    beta: Array = field(kw_only=True)
    shift: Array = field(kw_only=True)
    eps: int = 0
    lo: int = -128
    hi: int = 127
    zero_point: int = 0


@dataclass
class RowScale(Node):
    """int16 rows to int8 codes, each row at a scale of its own; see ``reference.row_codes``.

    Input ``[..., M, K]``; ``output`` has the codes, ``factor`` names the int16 tensor
    ``[..., M, 1]`` of the rows' factors.
    """

    factor: str = field(kw_only=True)

    @property
    def outputs(self) -> list[str]:
        """The codes and the factors."""
        return [self.output, self.factor]


@dataclass
class Gather(Node):
    """Embedding lookup; inputs ``[ids, table]``: int16 ids ``[...]``, constant ``[V, D]``."""


@dataclass
class View(Node):
    """Data movement without arithmetic.

    ``kind`` and ``arg``: ``reshape`` (shape), ``permute`` (axes), ``slice`` (list of
    ``[start, stop, step]`` per axis, step > 0), ``cat`` (axis; several inputs), ``expand`` (shape),
    ``take`` (an int64 array of the output's shape: flat indices of the elements).
    """

    kind: str = field(kw_only=True)
    arg: Any = field(kw_only=True)

    def apply(self, *arrays: Array) -> Array:
        """The result for NumPy arrays; also maps arrays of addresses."""
        (first, *_) = arrays
        if self.kind == "reshape":
            return first.reshape(self.arg)
        if self.kind == "permute":
            return first.transpose(self.arg)
        if self.kind == "slice":
            return first[tuple(slice(*s) for s in self.arg)]
        if self.kind == "cat":
            return np.concatenate(arrays, axis=self.arg)
        if self.kind == "expand":
            return np.broadcast_to(first, self.arg)
        if self.kind == "take":
            return first.reshape(-1)[self.arg]
        raise ValueError(f"{self.name}: unknown view {self.kind!r}")


@dataclass
class IntGraph:
    """Tensors by name, nodes in execution order, and the names of inputs and outputs."""

    tensors: dict[str, Tensor]
    nodes: list[Node]
    inputs: list[str]
    outputs: list[str]
    meta: dict[str, Any] = field(default_factory=dict)

    def macs(self) -> int:
        """Multiply-accumulates of all matrix products, padding not counted."""
        total = 0
        for node in self.nodes:
            if isinstance(node, MatMul):
                out, a = self.tensors[node.output], self.tensors[node.inputs[0]]
                total += int(np.prod(out.shape)) * a.shape[-1]
        return total


def execute(graph: IntGraph, inputs: dict[str, Array]) -> dict[str, Array]:
    """Run ``graph`` on input codes; return the codes of every tensor, constants included.

    Raises
    ------
    ValueError
        If an input is missing or its shape or code range is wrong.
    """
    values: dict[str, Array] = {
        t.name: np.asarray(t.const) for t in graph.tensors.values() if t.const is not None
    }
    for name in graph.inputs:
        tensor = graph.tensors[name]
        if name not in inputs:
            raise ValueError(f"input {name!r} is missing")
        codes = np.asarray(inputs[name])
        low, high = reference.LIMITS[tensor.dtype]
        if codes.shape != tensor.shape:
            raise ValueError(f"input {name!r} must have shape {tensor.shape}, not {codes.shape}")
        if codes.size and (codes.min() < low or codes.max() > high):
            raise ValueError(f"input {name!r} has codes outside {tensor.dtype}")
        values[name] = codes.astype(tensor.dtype)
    for node in graph.nodes:
        step(graph, node, values)
    return values


def step(graph: IntGraph, node: Node, values: dict[str, Array]) -> None:
    """Run one node of ``graph``: ``values`` has what it reads, and gets its outputs."""
    result = _EXECUTE[type(node)](node, values)
    results = result if isinstance(result, tuple) else (result,)
    for name, array in zip(node.outputs, results, strict=True):
        values[name] = np.ascontiguousarray(array).astype(graph.tensors[name].dtype)


def _post(p: PostParams, x: Array, values: dict[str, Array]) -> Array:
    return reference.post(
        x,
        factor=None if p.factor is None else values[p.factor],
        bias=p.bias,
        mult=p.mult,
        shift=p.shift,
        residual=None if p.residual is None else values[p.residual],
        res_mult=p.res_mult,
        res_shift=p.res_shift,
        zero_point=p.zero_point,
        lo=p.lo,
        hi=p.hi,
        table=p.table,
        function=p.function,
    )


def _matmul(node: MatMul, values: dict[str, Array]) -> Array:
    a, b = (values[n] for n in node.inputs)
    check_groups(node, b.shape)
    if node.group_scales is None:
        return _post(node.post, reference.matmul(a, b), values)
    # post() checks that the sums fit.
    return _post(node.post, reference.grouped_matmul(a, b, node.group_scales), values)


def _pointwise(node: Pointwise, values: dict[str, Array]) -> Array:
    return _post(node.post, values[node.inputs[0]], values)


def _softmax(node: Softmax, values: dict[str, Array]) -> Array:
    x = values[node.inputs[0]]
    keep = np.ones(x.shape, bool)
    if len(node.inputs) > 1:
        keep &= np.broadcast_to(values[node.inputs[1]] != 0, x.shape)
    if node.causal:
        rows, n = x.shape[-2:]
        keep &= np.arange(n) < np.arange(rows)[:, None] + 1 + node.causal_offset
    return reference.softmax(x, exp_table=node.exp_table, keep=keep)


def _layernorm(node: LayerNorm, values: dict[str, Array]) -> Array:
    return reference.layernorm(
        values[node.inputs[0]],
        gamma=node.gamma,
        beta=node.beta,
        shift=node.shift,
        eps=node.eps,
        zero_point=node.zero_point,
        lo=node.lo,
        hi=node.hi,
    )


def _row_scale(node: RowScale, values: dict[str, Array]) -> tuple[Array, Array]:
    return reference.row_codes(values[node.inputs[0]])


def _gather(node: Gather, values: dict[str, Array]) -> Array:
    ids, table = (values[n] for n in node.inputs)
    if ids.size and (ids.min() < 0 or ids.max() >= len(table)):
        raise ValueError(f"{node.name}: ids must be from 0 to {len(table) - 1}")
    return table[ids]


def _view(node: View, values: dict[str, Array]) -> Array:
    return node.apply(*(values[n] for n in node.inputs))


_EXECUTE: dict[type[Node], Any] = {
    MatMul: _matmul,
    Pointwise: _pointwise,
    Softmax: _softmax,
    LayerNorm: _layernorm,
    RowScale: _row_scale,
    Gather: _gather,
    View: _view,
}


def check_groups(node: MatMul, shape: tuple[int, ...]) -> None:
    """Check the groups of a product whose stationary operand has ``shape``.

    Raises
    ------
    ValueError
        If ``group`` and ``group_scales`` do not fit each other or ``shape``.
    """
    if (node.group_scales is None) != (node.group == 0) or node.group < 0:
        raise ValueError(f"{node.name}: group {node.group} and group_scales belong together")
    if node.group_scales is None:
        return
    n, k = shape[-2:]
    if k % node.group:
        raise ValueError(f"{node.name}: groups of {node.group} do not divide {k}")
    scales = np.asarray(node.group_scales)
    if len(shape) != 2 or scales.shape != (n, k // node.group):
        raise ValueError(
            f"{node.name}: group_scales of {shape} in groups of {node.group} must have shape "
            f"{(n, k // node.group)}, not {scales.shape}"
        )
    if scales.min() < 0 or scales.max() >= 1 << reference.GROUP_SCALE_BITS:
        raise ValueError(
            f"{node.name}: group scales must be uint8, not {scales.min()}..{scales.max()}"
        )


def fields_of(node: Node) -> dict[str, Any]:
    """Fields of a node by name, without recursion into arrays."""
    return {f.name: getattr(node, f.name) for f in dataclasses.fields(node)}
