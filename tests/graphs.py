"""Small integer graphs: a builder, hand-made ones, and hypothesis strategies for random ones.

All graphs are legal: sums fit, shifts lie in range, K of every product is small. Rescaling
parameters are random but keep the codes spread over their range.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from intformer import reference
from intformer.compiler.integer_graph import (
    Gather,
    IntGraph,
    LayerNorm,
    MatMul,
    Node,
    Pointwise,
    PostParams,
    RowScale,
    Softmax,
    Tensor,
    View,
)
from intformer.config import CoreConfig

Array = Any

# Few, so that cores built for one example serve the others.
CONFIGS = (
    CoreConfig(name="r4c4", rows=4, cols=4, lanes=2, bus_bytes=4, act_words=2048, wide_words=2048),
    CoreConfig(
        name="r8c4p",
        rows=8,
        cols=4,
        lanes=4,
        bus_bytes=8,
        act_words=1024,
        wide_words=1024,
        array="dsp_packed",
    ),
    CoreConfig(
        name="r6c10", rows=6, cols=10, lanes=2, bus_bytes=2, act_words=2048, wide_words=2048
    ),
)


class GraphBuilder:
    """Adds nodes with random parameters; every method returns the name of the new tensor."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.graph = IntGraph(tensors={}, nodes=[], inputs=[], outputs=[])

    def shape(self, name: str) -> tuple[int, ...]:
        return self.graph.tensors[name].shape

    def dtype(self, name: str) -> str:
        return self.graph.tensors[name].dtype

    def tensor(self, shape: tuple[int, ...], dtype: str, const: Array | None = None) -> str:
        name = f"t{len(self.graph.tensors)}"
        self.graph.tensors[name] = Tensor(name, tuple(shape), dtype, const=const)
        return name

    def input(self, shape: tuple[int, ...], dtype: str = "int8") -> str:
        name = self.tensor(shape, dtype)
        self.graph.inputs.append(name)
        return name

    def const(self, shape: tuple[int, ...], dtype: str = "int8", *, limit: int = 127) -> str:
        codes = self.rng.integers(-limit, limit, shape, endpoint=True).astype(dtype)
        return self.tensor(shape, dtype, codes)

    def post(self, *, n: int, spread: float, dtype: str, table: bool = False) -> PostParams:
        """Rescaling that brings values of about ``spread`` to about half the output's range."""
        rng = self.rng
        lo, hi = reference.LIMITS["int8" if table else dtype]
        channels = n if rng.integers(2) else 1
        gain = 0.5 * hi / spread * rng.uniform(0.5, 1.5, channels)
        shift = np.clip(14 - np.ceil(np.log2(gain)), 2, 47).astype(np.int64)
        mult = np.clip(np.round(gain * 2.0**shift), 1, 32767).astype(np.int64)
        mult *= rng.choice([-1, 1], channels)
        if rng.integers(4) == 0:
            lo, hi = lo // 2, hi // 2
        return PostParams(
            bias=rng.integers(-int(spread), int(spread), channels, endpoint=True),
            mult=mult,
            shift=shift,
            lo=lo,
            hi=hi,
            zero_point=int(rng.integers(-9, 10)),
            table=rng.integers(-128, 128, 256).astype(np.int8) if table else None,
        )

    def residual(self, post: PostParams, name: str, dtype: str) -> None:
        """Add ``name``, rescaled to about a quarter of the output's range."""
        spread = reference.LIMITS[self.dtype(name)][1]
        gain = 0.25 * reference.LIMITS[dtype][1] / spread
        post.residual = name
        post.res_shift = int(np.clip(14 - np.ceil(np.log2(gain)), 2, 47))
        post.res_mult = round(gain * 2.0**post.res_shift) * int(self.rng.choice([-1, 1]))

    def add(
        self, node_type: type[Node], inputs: list[str], shape: Any, dtype: str, **kw: Any
    ) -> str:
        name = self.tensor(shape, dtype)
        self.graph.nodes.append(node_type(f"n{len(self.graph.nodes)}", list(inputs), name, **kw))
        return name

    def linear(
        self,
        x: str,
        n: int,
        *,
        dtype: str = "int8",
        bits: int = 8,
        residual: str | None = None,
        table: bool = False,
        scaled: bool = False,
    ) -> str:
        """A product with constant weights; ``scaled``: int16 ``x``, a scale for each row."""
        k = self.shape(x)[-1]
        factor = None
        spread = (8.0 if bits == 4 else 127.0) * 64 * np.sqrt(k)
        if scaled:
            x, factor = self.row_scale(x)
            spread *= 1 << (14 - reference.FACTOR_SHIFT)
        w = self.const((n, k), limit=7 if bits == 4 else 127)
        name = self._matmul(x, w, n, spread, dtype, residual=residual, table=table, bits=bits)
        self.graph.nodes[-1].post.factor = factor
        return name

    def row_scale(self, x: str) -> tuple[str, str]:
        """int8 codes of the rows of ``x``, int16, and their factors."""
        shape = self.shape(x)
        factor = self.tensor((*shape[:-1], 1), "int16")
        return self.add(RowScale, [x], shape, "int8", factor=factor), factor

    def product(self, a: str, b: str, *, dtype: str = "int8") -> str:
        """``a @ b.T`` of two computed tensors."""
        k = self.shape(a)[-1]
        return self._matmul(a, b, self.shape(b)[-2], 64.0 * 64 * np.sqrt(k), dtype)

    def _matmul(
        self,
        a: str,
        b: str,
        n: int,
        spread: float,
        dtype: str,
        *,
        residual: str | None = None,
        table: bool = False,
        bits: int = 8,
    ) -> str:
        post = self.post(n=n, spread=spread, dtype=dtype, table=table)
        if residual is not None:
            self.residual(post, residual, dtype)
        shape = (*self.shape(a)[:-1], n)
        return self.add(MatMul, [a, b], shape, dtype, post=post, weight_bits=bits)

    def pointwise(
        self, x: str, *, dtype: str = "int8", residual: str | None = None, table: bool = False
    ) -> str:
        spread = reference.LIMITS[self.dtype(x)][1]
        post = self.post(n=self.shape(x)[-1], spread=spread, dtype=dtype, table=table)
        if residual is not None:
            self.residual(post, residual, dtype)
        return self.add(Pointwise, [x], self.shape(x), dtype, post=post)

    def softmax(self, x: str, *, causal: bool = False, mask: str | None = None) -> str:
        step = self.rng.uniform(0.01, 0.2)
        table = np.round((2**reference.EXP_BITS - 1) * np.exp(-step * np.arange(256)))
        inputs = [x] if mask is None else [x, mask]
        return self.add(
            Softmax,
            inputs,
            self.shape(x),
            "uint8",
            exp_table=table.astype(np.int32),
            causal=causal,
        )

    def layernorm(self, x: str, *, dtype: str = "int8") -> str:
        n = self.shape(x)[-1]
        lo, hi = reference.LIMITS[dtype]
        gain = hi / 3 * self.rng.uniform(0.5, 1.5, n)
        shift = np.clip(30 - np.ceil(np.log2(gain)), 2, 47).astype(np.int64)
        gamma = np.clip(np.round(gain * 2.0 ** (shift - 16)), 1, 32767).astype(np.int64)
        return self.add(
            LayerNorm,
            [x],
            self.shape(x),
            dtype,
            gamma=gamma * self.rng.choice([-1, 1], n),
            beta=self.rng.integers(-(1 << 20), 1 << 20, n),
            shift=shift,
            eps=int(self.rng.integers(0, 1 << 16)),
            lo=lo,
            hi=hi,
            zero_point=int(self.rng.integers(-5, 6)),
        )

    def gather(self, ids: str, table: str) -> str:
        shape = (*self.shape(ids), self.shape(table)[-1])
        return self.add(Gather, [ids, table], shape, self.dtype(table))

    def view(self, kind: str, arg: Any, *names: str) -> str:
        shapes = [np.broadcast_to(np.int8(0), self.shape(n)) for n in names]
        shape = View("", [], "", kind=kind, arg=arg).apply(*shapes).shape
        return self.add(View, list(names), shape, self.dtype(names[0]), kind=kind, arg=arg)

    def attention(self, q: str, k: str, v: str, heads: int, *, causal: bool = False) -> str:
        """Heads split, ``softmax(q k^T) v``, heads merged; inputs ``[T, D]``."""
        split = [self._heads(name, heads) for name in (q, k, v)]
        scores = self.product(split[0], split[1])
        p = self.softmax(scores, causal=causal)
        columns = self.view("permute", (0, 2, 1), split[2])
        mixed = self.product(p, columns)
        merged = self.view("permute", (1, 0, 2), mixed)
        return self.view("reshape", self.shape(q), merged)

    def _heads(self, name: str, heads: int) -> str:
        t, d = self.shape(name)
        split = self.view("reshape", (t, heads, d // heads), name)
        return self.view("permute", (1, 0, 2), split)

    def finish(self, *outputs: str) -> IntGraph:
        self.graph.outputs.extend(outputs)
        return self.graph


def random_inputs(graph: IntGraph, seed: int) -> dict[str, Array]:
    """Random codes for every input, corner values included; ids stay within their table."""
    rng = np.random.default_rng(seed)
    ids = {n.inputs[0]: n.inputs[1] for n in graph.nodes if isinstance(n, Gather)}
    values = {}
    for name in graph.inputs:
        tensor = graph.tensors[name]
        lo, hi = reference.LIMITS[tensor.dtype]
        if name in ids:
            lo, hi = 0, graph.tensors[ids[name]].shape[0] - 1
        codes = rng.integers(lo, hi, tensor.shape, endpoint=True)
        corners = rng.random(tensor.shape) < 0.1
        values[name] = np.where(corners, rng.choice([lo, hi], tensor.shape), codes).astype(
            tensor.dtype
        )
    return values


# Hand-made graphs, by name


def _linear(b: GraphBuilder) -> IntGraph:
    return b.finish(b.linear(b.input((5, 7)), 6))


def _linear_int4(b: GraphBuilder) -> IntGraph:
    return b.finish(b.linear(b.input((3, 13)), 9, bits=4, table=True))


def _one_token(b: GraphBuilder) -> IntGraph:
    x = b.input((1, 9), "int16")
    return b.finish(b.linear(b.pointwise(x), 11, dtype="int16"))


def _residual_norm(b: GraphBuilder) -> IntGraph:
    x = b.input((4, 10), "int16")
    y = b.linear(b.layernorm(x), 10, dtype="int16", residual=x)
    return b.finish(b.layernorm(y), y)


def _mlp(b: GraphBuilder) -> IntGraph:
    x = b.input((6, 8))
    hidden = b.linear(x, 20, table=True)
    return b.finish(b.linear(hidden, 8, dtype="int16", residual=x))


def _attention(b: GraphBuilder) -> IntGraph:
    x = b.input((5, 12))
    return b.finish(b.attention(*(b.linear(x, 12) for _ in range(3)), 2))


def _causal_attention(b: GraphBuilder) -> IntGraph:
    x = b.input((9, 8))
    return b.finish(b.attention(*(b.linear(x, 8) for _ in range(3)), 1, causal=True))


def _masked_softmax(b: GraphBuilder) -> IntGraph:
    x, mask = b.input((2, 3, 11)), b.input((1, 3, 11), "uint8")
    return b.finish(b.softmax(x, mask=mask))


def _embedding(b: GraphBuilder) -> IntGraph:
    ids = b.input((6,), "int16")
    x = b.gather(ids, b.const((17, 10), "int16", limit=30000))
    return b.finish(b.linear(b.layernorm(x), 5))


def _views(b: GraphBuilder) -> IntGraph:
    x, y = b.input((4, 6)), b.input((3, 6))
    both = b.view("cat", 0, x, y)
    part = b.view("slice", [[1, 7, 2], [0, 6, 1]], both)
    turned = b.view("permute", (1, 0), part)
    return b.finish(b.pointwise(turned), b.linear(both, 4))


HAND_MADE: dict[str, Callable[[GraphBuilder], IntGraph]] = {
    "linear": _linear,
    "linear_int4": _linear_int4,
    "one_token": _one_token,
    "residual_norm": _residual_norm,
    "mlp": _mlp,
    "attention": _attention,
    "causal_attention": _causal_attention,
    "masked_softmax": _masked_softmax,
    "embedding": _embedding,
    "views": _views,
}


def hand_made(name: str, seed: int = 0) -> IntGraph:
    """The hand-made graph ``name``."""
    return HAND_MADE[name](GraphBuilder(seed))


# Random graphs


@st.composite
def int_graphs(draw: st.DrawFn, *, max_ops: int = 6) -> IntGraph:
    """A random legal graph: a chain with side branches, of up to ``max_ops`` operations."""
    b = GraphBuilder(draw(st.integers(0, 2**31)))
    x = _random_source(b, draw)
    made = [x]
    for _ in range(draw(st.integers(1, max_ops))):
        choices = [step for legal, step in _STEPS if legal(b, x)]
        x = draw(st.sampled_from(choices))(b, x, made, draw)
        made.append(x)
    extra = [m for m in made[1:-1] if draw(st.integers(0, 3)) == 0][:1]
    if all(isinstance(node, View) for node in b.graph.nodes):
        x = b.pointwise(x, dtype=b.dtype(x))
    return b.finish(*extra, x)


def core_configs() -> st.SearchStrategy[CoreConfig]:
    """Small random cores."""

    def build(lanes: int, rows: int, cols: int, bus: int, depth: int, packed: bool) -> CoreConfig:
        packed = packed and max(2, cols * lanes) % 2 == 0
        return CoreConfig(
            name=f"r{rows * lanes}c{cols * lanes}l{lanes}b{bus}",
            rows=max(2, rows * lanes),
            cols=max(2, cols * lanes),
            lanes=lanes,
            bus_bytes=bus,
            act_words=4096,
            wide_words=4096,
            acc_depth=128,
            queue_depth=depth,
            array="dsp_packed" if packed else "dsp",
        )

    return st.builds(
        build,
        st.sampled_from([1, 2, 4]),
        st.integers(1, 4),
        st.integers(1, 4),
        st.sampled_from([1, 2, 4, 8]),
        st.integers(1, 6),
        st.booleans(),
    )


def _random_source(b: GraphBuilder, draw: st.DrawFn) -> str:
    kind = draw(st.sampled_from(["int8", "int8", "int16", "embedding"]))
    t, d = draw(st.integers(1, 9)), 2 * draw(st.integers(1, 9))
    if kind == "embedding":
        table = b.const((draw(st.integers(1, 20)), d), "int16", limit=32767)
        return b.gather(b.input((t,), "int16"), table)
    return b.input((t, d), kind)


def _matching(b: GraphBuilder, x: str, shape: Any, made: list[str], draw: st.DrawFn) -> str | None:
    """A residual of ``shape``, sometimes."""
    fits = [m for m in made if b.shape(m) == tuple(shape) and b.dtype(m) != "uint8"]
    return draw(st.sampled_from([None, *fits])) if fits else None


def _do_linear(b: GraphBuilder, x: str, made: list[str], draw: st.DrawFn) -> str:
    n = draw(st.sampled_from([b.shape(x)[-1], 2 * draw(st.integers(1, 12))]))
    table = draw(st.booleans()) and draw(st.booleans())
    return b.linear(
        x,
        n,
        dtype="int8" if table else draw(st.sampled_from(["int8", "int16"])),
        bits=draw(st.sampled_from([8, 4])),
        residual=_matching(b, x, (*b.shape(x)[:-1], n), made, draw),
        table=table,
    )


def _do_pointwise(b: GraphBuilder, x: str, made: list[str], draw: st.DrawFn) -> str:
    table = draw(st.booleans())
    dtype = "int8" if table else draw(st.sampled_from(["int8", "int16"]))
    residual = _matching(b, x, b.shape(x), made, draw)
    return b.pointwise(x, dtype=dtype, residual=residual, table=table)


def _do_softmax(b: GraphBuilder, x: str, made: list[str], draw: st.DrawFn) -> str:
    return b.linear(b.softmax(x, causal=draw(st.booleans())), 2 * draw(st.integers(1, 6)))


def _do_layernorm(b: GraphBuilder, x: str, made: list[str], draw: st.DrawFn) -> str:
    return b.layernorm(x, dtype=draw(st.sampled_from(["int8", "int16"])))


def _do_attention(b: GraphBuilder, x: str, made: list[str], draw: st.DrawFn) -> str:
    heads = draw(st.sampled_from([1, 2]))
    d = heads * draw(st.integers(1, 7))
    q, k, v = (b.linear(x, d) for _ in range(3))
    return b.attention(q, k, v, heads, causal=draw(st.booleans()))


def _do_transpose(b: GraphBuilder, x: str, made: list[str], draw: st.DrawFn) -> str:
    return b.view("permute", (1, 0), x)


def _do_cat(b: GraphBuilder, x: str, made: list[str], draw: st.DrawFn) -> str:
    return b.view("cat", draw(st.integers(0, 1)), x, x)


def _do_slice(b: GraphBuilder, x: str, made: list[str], draw: st.DrawFn) -> str:
    arg = []
    for size in b.shape(x):
        start = draw(st.integers(0, size - 1))
        arg.append([start, draw(st.integers(start + 1, size)), draw(st.integers(1, 2))])
    return b.view("slice", arg, x)


def _narrow(b: GraphBuilder, x: str) -> bool:
    return b.dtype(x) == "int8"


def _small(b: GraphBuilder, x: str) -> bool:
    return max(b.shape(x)) <= 20


_STEPS: tuple[tuple[Callable[[GraphBuilder, str], bool], Callable[..., str]], ...] = (
    (_narrow, _do_linear),
    (lambda b, x: True, _do_pointwise),
    (_narrow, _do_softmax),
    (lambda b, x: b.dtype(x) == "int16", _do_layernorm),
    (lambda b, x: _narrow(b, x) and _small(b, x), _do_attention),
    (lambda b, x: True, _do_transpose),
    (_small, _do_cat),
    (lambda b, x: True, _do_slice),
)
