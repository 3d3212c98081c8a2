"""Builds the integer graph, site by site."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer import reference
from intformer.compiler import graph as fg
from intformer.compiler import integer_graph as ig
from intformer.compiler.float_eval import activation
from intformer.compiler.quantize.norms import norm_parameters
from intformer.compiler.quantize.plan import Plan
from intformer.compiler.quantize.scales import (
    Coding,
    activation_table,
    encode_multiplier,
    exp_table,
    quantize_weights,
)
from intformer.compiler.quantize.sites import Site
from intformer.errors import UnsupportedModel

__all__ = ["Lowerer"]

Array = NDArray[Any]

_BIAS_TOP = 1 << 30
"""Largest bias before zero points, and largest sum of products: half of an accumulator each."""


class Lowerer:
    """Turns the sites of a float graph into an integer graph under a :class:`Plan`."""

    def __init__(self, graph: fg.Graph, plan: Plan, *, weight_bits: int) -> None:
        self.graph = graph
        self.plan = plan
        self.weight_bits = weight_bits
        self.out = ig.IntGraph({}, [], [], [])
        self._codings: dict[str, Coding] = {}
        self._made: dict[tuple[str, str], str] = {}
        self._views = {n.output: n for n in graph.nodes if isinstance(n, fg.View)}

    def run(self, sites: list[Site]) -> ig.IntGraph:
        """Lower all sites in order."""
        for name in self.graph.inputs:
            value, coding = self.graph.values[name], self.plan.root_coding(name)
            self._tensor(name, value.shape, coding)
            self._made[name, "native"] = name
        self.out.inputs = list(self.graph.inputs)
        for site in sites:
            if not isinstance(site.node, fg.View):
                self._site(site)
        self.out.outputs = [self._fetch(name, "native") for name in self.graph.outputs]
        return self.out

    # Tensors

    def _tensor(
        self, name: str, shape: tuple[int, ...], coding: Coding, const: Array | None = None
    ) -> str:
        """Add a tensor under ``name``, or a name made from it."""
        unique, count = name, 0
        while unique in self.out.tensors:
            count += 1
            unique = f"{name}.{count}"
        self.out.tensors[unique] = ig.Tensor(
            unique, tuple(shape), coding.dtype, coding.scale, coding.zero_point, const
        )
        self._codings[unique] = coding
        return unique

    def _fetch(self, name: str, dtype: str) -> str:
        """The integer tensor of a float value, as ``int8``, ``int16``, or ``native``.

        ``operand`` means a product's operand: int8, or uint8 if the value is stored so.
        """
        if (name, dtype) not in self._made:
            self._made[name, dtype] = self._make(name, dtype)
        return self._made[name, dtype]

    def _make(self, name: str, dtype: str) -> str:
        value = self.graph.values[name]
        if value.const is not None:
            return self._constant(value, dtype)
        if name in self._views:
            return self._view(self._views[name], dtype)
        native = self._fetch(name, "native")
        coding = self._codings[native]
        if dtype == "native" or coding.dtype == dtype:
            return native
        if dtype == "operand":
            return native if coding.dtype == "uint8" else self._fetch(name, "int8")
        return self._convert(native, f"{name}.{dtype}", self.plan.coding(name, dtype))

    def _constant(self, value: fg.Value, dtype: str) -> str:
        assert value.const is not None
        if value.kind != "float":
            coding = self.plan.root_coding(value.name)
        elif dtype == "operand" and _is_int8(value.const):
            coding = Coding("int8", 1.0)
        else:
            wanted = {"native": self.plan.main(value.name), "operand": "int8"}.get(dtype, dtype)
            coding = self.plan.coding(value.name, wanted)
        codes = coding.encode(value.const)
        return self._tensor(value.name, codes.shape, coding, codes)

    def _view(self, node: fg.View, dtype: str) -> str:
        parts = [self._fetch(name, dtype) for name in node.inputs]
        codings = {self._codings[part] for part in parts}
        if len(codings) > 1:  # a concatenation of values that are stored differently
            dtype = self.plan.main(node.output) if dtype in ("native", "operand") else dtype
            coding = self.plan.coding(node.output, dtype)
            parts = [
                part
                if self._codings[part] == coding
                else self._convert(part, f"{part}.{dtype}", coding)
                for part in parts
            ]
        else:
            (coding,) = codings
        key = (node.output, f"view {coding}")
        if key not in self._made:
            output = self._tensor(node.output, self.graph.values[node.output].shape, coding)
            view = ig.View(output, parts, output, node.source, kind=node.kind, arg=node.arg)
            self.out.nodes.append(view)
            self._made[key] = output
        return self._made[key]

    def _convert(self, source: str, name: str, coding: Coding) -> str:
        """A copy of a tensor in another coding."""
        have = self._codings[source]
        output = self._tensor(name, self.out.tensors[source].shape, coding)
        low, high = reference.LIMITS[coding.dtype]
        post = self._post(
            output,
            have.scale / coding.scale,
            bias=np.array([-have.zero_point]),
            lo=low,
            hi=high,
            zero_point=coding.zero_point,
        )
        self.out.nodes.append(ig.Pointwise(output, [source], output, "", post=post))
        return output

    @staticmethod
    def _post(what: str, scale: Array | float, *, bias: Array, **fields: Any) -> ig.PostParams:
        mult, shift = encode_multiplier(scale, what=what)
        return ig.PostParams(bias=np.asarray(bias, np.int32), mult=mult, shift=shift, **fields)

    # Sites

    def _site(self, site: Site) -> None:
        node = site.node
        if isinstance(node, fg.MatMul):
            self._matmul(site, node)
        elif isinstance(node, fg.Softmax):
            self._softmax(node)
        elif isinstance(node, fg.LayerNorm):
            self._layernorm(node)
        elif isinstance(node, fg.Embedding):
            self._embedding(node)
        elif isinstance(node, fg.Not):
            self._not(node)
        elif isinstance(node, fg.Scale):
            self._stored(site, node.inputs[0], np.asarray(node.factor, np.float64))
        else:
            assert site.x is not None
            self._stored(site, site.x, np.asarray(1.0))

    def _result(self, node: fg.Node, output: str, coding: Coding) -> str:
        name = self._tensor(output, self.graph.values[output].shape, coding)
        self._made[output, "native"] = name
        return name

    def _epilogue(self, site: Site, scale: Array, bias: Array, output: str) -> ig.PostParams:
        """Post parameters of a site whose main part has real ``scale`` per unit."""
        final = self._codings[output]
        target = self.plan.index_coding(site, final) if site.table else final
        low, high = reference.LIMITS[target.dtype]
        factor = site.factor
        fields: dict[str, Any] = {}
        if site.activation is not None and not site.table:  # relu
            low = target.zero_point
            factor *= site.activation.factor
        elif site.activation is not None:
            kind, inner = site.activation.kind, site.activation.factor
            fields["table"] = activation_table(lambda u: activation(kind, inner * u), target, final)
        if site.residual is not None:
            name = self._fetch(site.residual, "native")
            coding = self._codings[name]
            relative = factor / site.factor * site.res_factor * coding.scale / target.scale
            mult, shift = encode_multiplier(relative, what=output)
            fields |= {
                "residual": name,
                "res_mult": int(mult[0]),
                "res_shift": int(shift[0]),
            }
            assert coding.zero_point == 0, f"residual {name} has a zero point"
        return self._post(
            output,
            factor * scale / target.scale,
            bias=bias,
            lo=low,
            hi=high,
            zero_point=target.zero_point,
            **fields,
        )

    def _matmul(self, site: Site, node: fg.MatMul) -> None:
        a = self._fetch(node.inputs[0], "operand")
        static = self.graph.values[node.inputs[1]].const is not None
        depth = self.graph.values[node.inputs[0]].shape[-1]
        if depth * (1 << 15) >= 1 << 31:
            raise UnsupportedModel(
                f"{node.name}: a sum of {depth} products can exceed 32 bits; at most 65535 fit"
            )
        if static:
            b, row_scale, bias = self._weights(node, self._codings[a])
        else:
            b = self._fetch(node.inputs[1], "int8")
            row_scale, bias = np.array([self._codings[b].scale]), np.array([0])
        scale = self._codings[a].scale * row_scale * node.factor
        output = self._result(node, site.output, self.plan.root_coding(site.output))
        post = self._epilogue(site, scale, bias, output)
        bits = self.weight_bits if static else 8
        self.out.nodes.append(
            ig.MatMul(output, [a, b], output, node.source, post=post, weight_bits=bits)
        )

    def _weights(self, node: fg.MatMul, a: Coding) -> tuple[str, Array, Array]:
        """Weight tensor, scale of each row, and bias with the zero point of ``a`` folded in."""
        matrix = self.graph.values[node.inputs[1]].const
        assert matrix is not None
        real = np.zeros(len(matrix)) if node.bias is None else np.asarray(node.bias, np.float64)
        unit = a.scale * abs(node.factor)
        codes, scale = quantize_weights(
            matrix, self.weight_bits, floor=np.abs(real) / (unit * _BIAS_TOP)
        )
        bias = np.rint(real / (a.scale * node.factor * scale)).astype(np.int64)
        bias -= a.zero_point * codes.astype(np.int64).sum(axis=1)
        largest = np.abs(bias) + 255 * np.abs(codes.astype(np.int64)).sum(axis=1)
        if largest.max() >= 1 << 31:
            raise UnsupportedModel(f"{node.name}: its sums can exceed 32 bits")
        # The scale is per row; the tensor's own says 1.
        name = self._tensor(node.inputs[1], codes.shape, Coding("int8", 1.0), codes)
        return name, scale, bias

    def _stored(self, site: Site, x: str, factor: Array) -> None:
        source = self._fetch(x, "native")
        coding = self._codings[source]
        output = self._result(site.node, site.output, self.plan.root_coding(site.output))
        post = self._epilogue(site, factor * coding.scale, np.array([-coding.zero_point]), output)
        node = ig.Pointwise(output, [source], output, site.node.source, post=post)
        self.out.nodes.append(node)

    def _softmax(self, node: fg.Softmax) -> None:
        x = self._fetch(node.inputs[0], "int8")
        inputs = [x, *(self._fetch(name, "native") for name in node.inputs[1:])]
        output = self._result(node, node.output, self.plan.root_coding(node.output))
        self.out.nodes.append(
            ig.Softmax(
                output,
                inputs,
                output,
                node.source,
                exp_table=exp_table(self._codings[x].scale * node.factor),
                causal=node.causal,
                causal_offset=node.causal_offset,
            )
        )

    def _layernorm(self, node: fg.LayerNorm) -> None:
        x = self._fetch(node.inputs[0], "int16")
        coding = self.plan.root_coding(node.output)
        output = self._result(node, node.output, coding)
        parameters = norm_parameters(
            node.gamma,
            node.beta,
            node.eps,
            input_scale=self._codings[x].scale,
            output_scale=coding.scale,
        )
        low, high = reference.LIMITS[coding.dtype]
        self.out.nodes.append(
            ig.LayerNorm(
                output,
                [x],
                output,
                node.source,
                lo=low,
                hi=high,
                zero_point=coding.zero_point,
                **parameters,
            )
        )

    def _embedding(self, node: fg.Embedding) -> None:
        ids = self._fetch(node.inputs[0], "native")
        coding = self.plan.root_coding(node.output)
        real = self.graph.values[node.inputs[1]].const
        assert real is not None
        table = self._tensor(node.inputs[1], real.shape, coding, coding.encode(real))
        output = self._result(node, node.output, coding)
        self.out.nodes.append(ig.Gather(output, [ids, table], output, node.source))

    def _not(self, node: fg.Not) -> None:
        x = self._fetch(node.inputs[0], "native")
        output = self._result(node, node.output, self.plan.root_coding(node.output))
        post = self._post(output, -1.0, bias=np.array([-1]), lo=0, hi=1)
        self.out.nodes.append(ig.Pointwise(output, [x], output, node.source, post=post))


def _is_int8(array: Array) -> bool:
    return bool(np.abs(array).max(initial=0) <= 127 and np.array_equal(array, np.rint(array)))
