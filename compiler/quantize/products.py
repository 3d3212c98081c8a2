"""Lowers matrix products, and the sums and activations fused to them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer import reference
from intformer.compiler import graph as fg
from intformer.compiler import integer_graph as ig
from intformer.compiler.float_eval import activation
from intformer.compiler.quantize.layers import LayerSolver
from intformer.compiler.quantize.plan import Plan
from intformer.compiler.quantize.scales import (
    Coding,
    LayerWeights,
    activation_table,
    encode_multiplier,
    function_table,
)
from intformer.compiler.quantize.sites import Site
from intformer.compiler.quantize.smoothing import FittedOperand
from intformer.compiler.quantize.tensors import Tensors, post_params
from intformer.compiler.quantize.token_rows import largest_sums
from intformer.errors import UnsupportedModel, UserError

__all__ = ["Products"]

Array = NDArray[Any]

_BIAS_TOP = 1 << 30
"""Largest bias before zero points, and largest sum of products: half of an accumulator each."""
_SUMS_TOP = 1 << 29
"""Largest sum of products of the real weights, times a row's factor: rounding can double it."""
_INT16_TOP = reference.LIMITS["int16"][1]


class Products(Tensors):
    """Products and epilogues of an integer graph under construction.

    ``solver`` finds the weights; without one they are as the plan's settings say.
    """

    def __init__(self, graph: fg.Graph, plan: Plan, solver: LayerSolver | None = None) -> None:
        super().__init__(graph, plan)
        self.solver = solver or LayerSolver(graph, plan.settings, plan.ranges)
        self._norms = {n.output: n for n in graph.nodes if isinstance(n, fg.LayerNorm)}

    def _result(self, node: fg.Node, output: str, coding: Coding) -> str:
        """The tensor of what ``node`` (or the site that it opens) makes."""
        name = self._tensor(output, self.graph.values[output].shape, coding)
        self._made[output, "native"] = name
        return name

    def _epilogue(
        self,
        site: Site,
        scale: Array,
        bias: Array,
        output: str,
        *,
        partial: str | None = None,
    ) -> ig.PostParams:
        """Post parameters of a site whose main part has real ``scale`` per unit.

        ``partial`` names a tensor that holds the rest of ``u``, residual included.
        """
        final = self._codings[output]
        target = self.plan.index_coding(site, final) if site.table else final
        low, high = reference.LIMITS[target.dtype]
        factor = site.factor
        fields: dict[str, Any] = {}
        if site.activation is not None and not site.table:  # relu
            low = target.zero_point
            factor *= site.activation.factor
        elif site.activation is not None:
            fields |= _function_of(site.activation, target, final, output)
        relative = factor / site.factor
        if partial is not None:
            fields |= self._added(partial, relative, target, output)
        elif site.residual is not None:
            name = self._signed(site.residual)
            fields |= self._added(name, relative * site.res_factor, target, output)
        return post_params(
            output,
            factor * scale / target.scale,
            bias=bias,
            lo=low,
            hi=high,
            zero_point=target.zero_point,
            **fields,
        )

    def _added(self, name: str, factor: float, target: Coding, what: str) -> dict[str, Any]:
        """Fields of post parameters that add ``factor`` times a tensor."""
        coding = self._codings[name]
        assert coding.zero_point == 0, f"residual {name} has a zero point"
        mult, shift = encode_multiplier(factor * coding.scale / target.scale, what=what)
        return {"residual": name, "res_mult": int(mult[0]), "res_shift": int(shift[0])}

    def _matmul(self, site: Site, node: fg.MatMul) -> None:
        depth = self.graph.values[node.inputs[0]].shape[-1]
        if depth * (1 << 15) >= 1 << 31:
            raise UnsupportedModel(
                f"{node.name}: a sum of {depth} products can exceed 32 bits; at most 65535 fit"
            )
        if self.graph.values[node.inputs[1]].const is None:
            self._computed_product(site, node)
        elif self.plan.rows.reads(node):
            self._rows_product(site, node)
        elif self.plan.operand16(node):
            self._two_passes(site, node)
        else:
            self._static(site, node)

    def _computed_product(self, site: Site, node: fg.MatMul) -> None:
        a, b = self._fetch(node.inputs[0], "operand"), self._fetch(node.inputs[1], "int8")
        scale = np.array([self._codings[a].scale * self._codings[b].scale * node.factor])
        output = self._result(node, site.output, self.plan.root_coding(site.output))
        post = self._epilogue(site, scale, np.array([0]), output)
        self.out.nodes.append(ig.MatMul(output, [a, b], output, node.source, post=post))

    def _static(self, site: Site, node: fg.MatMul) -> None:
        a = self._fetch(node.inputs[0], "operand")
        coding = self._codings[a]
        found = self.plan.operand(node.inputs[0])
        weights, bias, b = self._weights(node, [a], coding.scale, found)
        bias = bias - coding.zero_point * weights.integers().sum(axis=1)
        self._check_sums(node, bias, 255 * np.abs(weights.integers()).sum(axis=1))
        scale = coding.scale * weights.scale * node.factor
        output = self._result(node, site.output, self.plan.root_coding(site.output))
        post = self._epilogue(site, scale, bias, output)
        self._product(node, [a, b], output, post, weights)

    def _rows_product(self, site: Site, node: fg.MatMul) -> None:
        """A product of rows with scales of their own.

        The epilogue multiplies a row's sums by ``factor / 2**FACTOR_SHIFT`` before anything else:
        bias and sums are in units of the codes' scale times ``2**FACTOR_SHIFT``.
        """
        a, factors = (self._fetch(node.inputs[0], which) for which in ("rows", "factors"))
        unit = self._codings[a].scale * (1 << reference.FACTOR_SHIFT)
        found = self.plan.rows.smoothing(node.inputs[0])
        weights, bias, b = self._weights(node, [a], unit, found, factors)
        self._check_sums(node, bias, largest_sums(weights.integers()))
        scale = unit * weights.scale * node.factor
        output = self._result(node, site.output, self.plan.root_coding(site.output))
        post = self._epilogue(site, scale, bias, output)
        post.factor = factors
        self._product(node, [a, b], output, post, weights)

    def _two_passes(self, site: Site, node: fg.MatMul) -> None:
        """A product with int16 codes: the lower byte's part, bias and residual; then the rest.

        The part in between is int16 at a scale at which it cannot saturate, whatever the codes.
        """
        low, high = (self._fetch(node.inputs[0], which) for which in ("low", "high"))
        unit, upper = self._codings[low].scale, self._codings[high].scale
        weights, bias, b = self._weights(node, [low, high], unit, None)
        self._check_sums(node, bias, 255 * np.abs(weights.integers()).sum(axis=1))
        output = self._result(node, site.output, self.plan.root_coding(site.output))
        final = self._codings[output]
        scale = unit * weights.scale * node.factor
        target = self.plan.index_coding(site, final) if site.table else final
        coding = self._partial_coding(site, weights, bias, scale, target)
        shape = self.out.tensors[output].shape
        partial = self._tensor(f"{output}.partial", shape, coding)
        first = post_params(
            partial,
            site.factor * scale / coding.scale,
            bias=bias,
            lo=-_INT16_TOP - 1,
            hi=_INT16_TOP,
            **(
                {}
                if site.residual is None
                else self._added(self._signed(site.residual), site.res_factor, coding, partial)
            ),
        )
        self._product(node, [low, b], partial, first, weights)
        scale = upper * weights.scale * node.factor
        post = self._epilogue(site, scale, np.array([0]), output, partial=partial)
        self._product(node, [high, b], output, post, weights)

    def _partial_coding(
        self, site: Site, weights: LayerWeights, bias: Array, scale: Array, target: Coding
    ) -> Coding:
        """int16 coding that holds the lower byte's part, bias and residual, whatever the codes."""
        integers = weights.integers()
        top = bias + 255 * np.maximum(integers, 0).sum(axis=1)
        bottom = bias + 255 * np.minimum(integers, 0).sum(axis=1)
        bound = np.max(np.maximum(np.abs(top), np.abs(bottom)) * np.abs(scale * site.factor))
        if site.residual is not None:
            residual = self._codings[self._signed(site.residual)]
            largest = -reference.LIMITS[residual.dtype][0] * residual.scale
            bound += largest * abs(site.res_factor)
        # Two roundings, and multipliers that are off by up to 2**-15, must fit as well.
        room = _INT16_TOP * (1 - 2.0**-14) - 2
        return Coding("int16", float(max(bound / room, target.scale)))

    def _product(
        self,
        node: fg.MatMul,
        inputs: list[str],
        output: str,
        post: ig.PostParams,
        weights: LayerWeights,
    ) -> None:
        group = f"-g{weights.group}" if weights.group else ""
        operand = self._codings[inputs[0]].dtype
        if self.plan.rows.reads(node):
            operand += " per token"
        elif self.plan.operand16(node):
            operand = "int16"
        bits = self.plan.settings.at(node).format.bits
        self.notes[output] |= {
            "weights": f"int{bits}{group}",
            "solver": self.solver.solved[node.output].solver,
            "operand": operand,
        }
        self.out.nodes.append(
            ig.MatMul(
                output,
                inputs,
                output,
                node.source,
                post=post,
                weight_bits=bits,
                group=weights.group,
                group_scales=weights.group_scales,
            )
        )

    def _weights(
        self,
        node: fg.MatMul,
        operand: list[str],
        unit: float,
        found: FittedOperand | None,
        factors: str | None = None,
    ) -> tuple[LayerWeights, Array, str]:
        """Weights of a layer, its bias in units of the sums, and the tensor of the weights.

        ``operand``: the tensors of the input, smoothed as ``found`` says; ``factors``: that of its
        rows' factors, if they have any; ``unit``: the real value of 1 of what is multiplied by the
        weights and added to the bias.
        """
        matrix = np.asarray(self.graph.values[node.inputs[1]].const, np.float64)
        real_sums = np.zeros(len(matrix))
        if factors is not None:  # they can make sums of weights in groups exceed 32 bits
            real_sums = largest_sums(matrix if found is None else matrix * found.scales)
        weights, real = self.solver.weights(
            node,
            self.out,
            operand,
            [self._codings[name] for name in operand],
            None if found is None else found.scales,
            floor=lambda bias: np.maximum(
                np.abs(bias) / (unit * abs(node.factor) * _BIAS_TOP), real_sums / _SUMS_TOP
            ),
            factor=factors,
        )
        bias = np.rint(real / (unit * node.factor * weights.scale)).astype(np.int64)
        # The scale is per row; the tensor's own says 1.
        name = self._tensor(node.inputs[1], weights.codes.shape, Coding("int8", 1.0), weights.codes)
        return weights, bias, name

    def _check_sums(self, node: fg.MatMul, bias: Array, largest: Array) -> None:
        """``largest``: the magnitude that a channel's sums can have without bias."""
        if (np.abs(bias) + largest).max() >= 1 << 31:
            raise UnsupportedModel(f"{node.name}: its sums can exceed 32 bits")


def _function_of(node: fg.Activation, index: Coding, output: Coding, what: str) -> dict[str, Any]:
    """The field of post parameters that holds an activation function."""
    if index.dtype == "int8":
        return {
            "table": activation_table(
                lambda u: activation(node.kind, node.factor * u), index, output
            )
        }
    try:
        return {"function": function_table(node.kind, node.factor, index, output)}
    except ValueError as error:
        raise UserError(
            f"{what}: {node.kind} cannot take int16 codes here ({error}); "
            'give its layer function = "int8"'
        ) from None
