"""Builds the integer graph, site by site."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer import reference
from intformer.compiler import graph as fg
from intformer.compiler import integer_graph as ig
from intformer.compiler.float_eval import activation, compare
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
from intformer.compiler.quantize.tensors import Tensors, post_params
from intformer.errors import UnsupportedModel

__all__ = ["Lowerer"]

Array = NDArray[Any]

_BIAS_TOP = 1 << 30
"""Largest bias before zero points, and largest sum of products: half of an accumulator each."""


class Lowerer(Tensors):
    """Turns the sites of a float graph into an integer graph under a :class:`Plan`."""

    def __init__(self, graph: fg.Graph, plan: Plan, *, weight_bits: int) -> None:
        super().__init__(graph, plan)
        self.weight_bits = weight_bits

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
        elif isinstance(node, fg.Compare):
            self._compare(node)
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
            name = self._signed(site.residual)
            coding = self._codings[name]
            relative = factor / site.factor * site.res_factor * coding.scale / target.scale
            mult, shift = encode_multiplier(relative, what=output)
            fields |= {
                "residual": name,
                "res_mult": int(mult[0]),
                "res_shift": int(shift[0]),
            }
            assert coding.zero_point == 0, f"residual {name} has a zero point"
        return post_params(
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
        source = self._signed(x)
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
        post = post_params(output, -1.0, bias=np.array([-1]), lo=0, hi=1)
        self.out.nodes.append(ig.Pointwise(output, [x], output, node.source, post=post))

    def _compare(self, node: fg.Compare) -> None:
        """The distance to the number, saturated to int8, and a table of where it holds."""
        x = self._fetch(node.inputs[0], "native")
        output = self._result(node, node.output, self.plan.root_coding(node.output))
        distance = np.arange(256).astype(np.uint8).view(np.int8)
        post = post_params(
            output,
            1.0,
            bias=np.array([-node.number]),
            lo=-128,
            hi=127,
            table=compare(node.kind, distance, 0).astype(np.int8),
        )
        self.out.nodes.append(ig.Pointwise(output, [x], output, node.source, post=post))
