"""Lowers a graph with given codings so that the integers are those that the model prescribes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer import reference
from intformer.compiler import graph as fg
from intformer.compiler import integer_graph as ig
from intformer.compiler.canonical import canonicalize
from intformer.compiler.canonical.products import expand_products
from intformer.compiler.quantize.calibrate import Ranges, calibrate
from intformer.compiler.quantize.data import runs
from intformer.compiler.quantize.given import (
    GivenPlan,
    coded_ranges,
    separate_codings,
    spread_codings,
)
from intformer.compiler.quantize.given_sums import FineSum, fine_bias, fine_constant, fine_sum
from intformer.compiler.quantize.layers import LayerSolver
from intformer.compiler.quantize.lower import Lowerer
from intformer.compiler.quantize.report import describe
from intformer.compiler.quantize.scales import Coding
from intformer.compiler.quantize.sites import Site, find_sites
from intformer.compiler.quantize.tensors import post_params
from intformer.compiler.stationary import clip_stationary
from intformer.errors import UnsupportedModel

__all__ = ["GivenLowerer", "quantize_given"]

Array = NDArray[Any]

_WEIGHT_TOP = 127


def quantize_given(
    graph: fg.Graph, calibration: Mapping[str, Array] | None = None, *, weight_min: int
) -> ig.IntGraph:
    """The integer graph of a graph that prescribes codings.

    ``calibration`` is for the values that have none. ``meta["replaced_codings"]`` lists the softmax
    results that the model codes otherwise than the core.

    Raises
    ------
    UserError
        If parameters are contradictory, or missing and there is no data; names the value.
    """
    canonical = separate_codings(spread_codings(canonicalize(spread_codings(graph))))
    ranges, source = Ranges(), "the model"
    shapes = {name: canonical.values[name].shape for name in canonical.inputs}
    if calibration is not None:
        ranges, source = calibrate(canonical, runs(shapes, calibration)), "the model, and data"
    known = expand_products(canonical, ranges.all | coded_ranges(canonical))
    if known is not None and calibration is not None:
        ranges = calibrate(canonical, runs(shapes, calibration))
        ranges.all |= known
    sites = find_sites(canonical)
    plan = GivenPlan(canonical, sites, ranges)
    lowerer = GivenLowerer(canonical, plan, LayerSolver(canonical, plan.settings, ranges, {}))
    result = lowerer.run(sites)
    if weight_min > reference.LIMITS["int8"][0]:
        clip_stationary(result)
    result.meta |= {
        "weights": "int8",
        "activations": "the model's",
        "overrides": {},
        "calibration": {"source": source, "runs": ranges.runs},
        "replaced_codings": plan.replaced,
        "exact_inputs": [n for n in result.inputs if canonical.values[n].kind != "float"],
        "model": graph.meta.get("model", ""),
        "sites": describe(result, lowerer.notes),
    }
    return result


class GivenLowerer(Lowerer):
    """As :class:`Lowerer`, with the scales, zero points and weight codes of the model.

    - Weights are ``code - zero_point``. Where that leaves -127..127 (asymmetric weights), the
      operand stands several times in the contraction, and the parts add up.
    - A computed operand with a zero point gets further elements along the contraction: constants
      that multiply the other operand by minus the zero point.
    - A sum of 8-bit codes goes through 16 bits (:mod:`.given_sums`).

    So every accumulator, bias included, is the sum of ``(a - z_a) * (b - z_b)`` exactly.
    """

    plan: GivenPlan

    def _site(self, site: Site) -> None:
        if isinstance(site.node, fg.Recode):
            self._stored(site, site.node.inputs[0], np.asarray(1.0))
        else:
            super()._site(site)

    def _signed(self, name: str) -> str:
        """Residuals have no zero point: those with one are copied to int16, exactly."""
        native = super()._signed(name)
        return native if self._codings[native].zero_point == 0 else self._fetch(name, "int16")

    def _matmul(self, site: Site, node: fg.MatMul) -> None:
        a = self._fetch(node.inputs[0], "operand")
        weights = self.graph.values[node.inputs[1]]
        given = isinstance(weights.coding, fg.WeightCoding)
        if weights.const is not None and not given:
            super()._matmul(site, node)
            return
        if given:
            a, b, row_scale, bias = self._given_weights(node, a)
        else:
            a, b, bias = self._operands(node, a)
            row_scale = np.array([self._codings[b].scale])
        depth = self.out.tensors[a].shape[-1]
        if depth * (1 << 15) >= 1 << 31:
            raise UnsupportedModel(
                f"{node.name}: a sum of {depth} products can exceed 32 bits; at most 65535 fit"
            )
        scale = self._codings[a].scale * row_scale * node.factor
        output = self._result(site.node, site.output, self.plan.root_coding(site.output))
        post = self._epilogue(site, scale, bias, output)
        codes = self.out.tensors[b].const
        bits = 4 if given and codes is not None and np.abs(codes).max(initial=0) <= 7 else 8
        self.out.nodes.append(
            ig.MatMul(output, [a, b], output, node.source, post=post, weight_bits=bits)
        )

    def _given_weights(self, node: fg.MatMul, a: str) -> tuple[str, str, Array, Array]:
        """Operands, scale of each row, and bias with the zero point of ``a`` folded in."""
        value, coding = self.graph.values[node.inputs[1]], self._codings[a]
        assert value.const is not None and isinstance(value.coding, fg.WeightCoding)
        scale = np.asarray(value.coding.scale, np.float64)
        codes = np.rint(np.asarray(value.const, np.float64) / scale[:, None]).astype(np.int64)
        real = np.zeros(len(codes)) if node.bias is None else np.asarray(node.bias, np.float64)
        bias = np.rint(real / (coding.scale * node.factor * scale)).astype(np.int64)
        bias -= coding.zero_point * codes.sum(axis=1)
        parts = _parts(codes)
        matrix = np.concatenate(parts, axis=1).astype(np.int8)
        largest = np.abs(bias) + 255 * np.abs(matrix.astype(np.int64)).sum(axis=1)
        if largest.max() >= 1 << 31:
            raise UnsupportedModel(f"{node.name}: its sums can exceed 32 bits")
        b = self._tensor(node.inputs[1], matrix.shape, Coding("int8", 1.0), matrix)
        if len(parts) > 1:
            a = self._joined(f"{node.output}.operand", [a] * len(parts), coding, node.source)
        return a, b, scale, bias

    def _operands(self, node: fg.MatMul, a: str) -> tuple[str, str, Array]:
        """Operands of a product of computed tensors, and the bias that its zero points leave."""
        b = self._fetch(node.inputs[1], "int8")
        ca, cb = self._codings[a], self._codings[b]
        za, zb = ca.zero_point, cb.zero_point
        depth = self.out.tensors[a].shape[-1]
        bias = np.array([depth * za * zb])
        fixed = self.out.tensors[a].const
        if fixed is not None and za == 0:
            sums = fixed.astype(np.int64).sum(axis=-1)
            if (sums == np.ravel(sums)[0]).all():  # a mean: the same for all rows
                return a, b, np.array([-zb * int(np.ravel(sums)[0])])
        left, right = [a], [b]
        for value in _constants(-za):
            left.append(self._filled(a, value, ca))
            right.append(b)
        for value in _constants(-zb):
            left.append(a)
            right.append(self._filled(b, value, cb))
        if len(left) > 1:
            # The codings from here on are of the products' sum: the zero points are dealt with.
            a = self._joined(f"{node.output}.a", left, replace(ca, zero_point=0), node.source)
            b = self._joined(f"{node.output}.b", right, replace(cb, zero_point=0), node.source)
        return a, b, bias

    def _filled(self, like: str, value: int, coding: Coding) -> str:
        """A tensor as large as ``like`` of one code, as a view of a constant row."""
        shape = self.out.tensors[like].shape
        row = np.full((*(1 for _ in shape[:-1]), shape[-1]), value, coding.dtype)
        const = self._tensor(f"{like}.zero_point", row.shape, coding, row)
        if shape == row.shape:
            return const
        output = self._tensor(f"{like}.zero_points", shape, coding)
        self.out.nodes.append(ig.View(output, [const], output, "", kind="expand", arg=shape))
        return output

    def _joined(self, name: str, parts: list[str], coding: Coding, source: str) -> str:
        """A concatenation along the contraction."""
        shapes = [self.out.tensors[part].shape for part in parts]
        shape = (*shapes[0][:-1], sum(s[-1] for s in shapes))
        output = self._tensor(name, shape, coding)
        self.out.nodes.append(
            ig.View(output, parts, output, source, kind="cat", arg=len(shape) - 1)
        )
        return output

    def _stored(self, site: Site, x: str, factor: Array) -> None:
        output = self.plan.root_coding(site.output)
        plain = site.residual is not None and not site.table and output.dtype == "int8"
        if plain and self._sum(site, x, output):
            return
        source = self._fetch(x, "native")
        if self._codings[source].dtype == "uint8":
            source = self._fetch(x, "int16")
        coding = self._codings[source]
        name = self._result(site.node, site.output, output)
        bias = np.array([-coding.zero_point])
        post = self._epilogue(site, factor * coding.scale, bias, name)
        self.out.nodes.append(ig.Pointwise(name, [source], name, site.node.source, post=post))

    def _sum(self, site: Site, x: str, output: Coding) -> bool:
        """A sum by way of 16 bits; false if the codings do not allow it."""
        assert site.residual is not None
        shapes = {self.graph.values[name].shape for name in (x, site.residual)}
        vector = self.graph.values[site.residual].const
        fixed = vector is not None
        width = self.graph.values[site.output].shape[-1]
        native = self._fetch(x, "native")
        narrow = self._codings[native].dtype == "int8"
        if vector is not None and narrow and vector.shape[-1:] == (vector.size,):
            reals = np.broadcast_to(vector.reshape(-1), (width,))
            self._fine_bias(site, native, reals, output)
            return True
        if vector is not None and narrow and self._fine_constant(site, native, vector, output):
            return True
        orders = [(x, site.residual, (site.factor, site.res_factor))]
        if len(shapes) == 1 and not fixed:
            orders.append((site.residual, x, (site.res_factor, site.factor)))
        found: list[tuple[float, str, str, float, FineSum]] = []
        for main, other, factors in orders:
            names = [self._fetch(name, "native") for name in (main, other)]
            codings = [self._codings[name] for name in names]
            if "uint8" in (c.dtype for c in codings):
                return False
            fine = fine_sum(codings[0], codings[1], output, factors)
            if fine is not None:
                found.append((fine.error, names[0], names[1], factors[0], fine))
        if not found:
            return False
        _, main, other, factor, fine = min(found, key=lambda item: item[0])
        self._fine_sum(site, main, other, factor, fine, output)
        return True

    def _fine_bias(self, site: Site, x: str, vector: Array, output: Coding) -> None:
        """The sum of an int8 tensor and a vector of constants."""
        coding = self._codings[x]
        fine = fine_bias(coding, vector, output, (site.factor, site.res_factor))
        unit = Coding(
            "int16", float(fine.units.mean())
        )  # of reports only: each channel has its own
        low, high = reference.LIMITS["int16"]
        wide = self._tensor(f"{site.output}.sum", self.graph.values[site.output].shape, unit)
        exact = np.array([0])
        post = post_params(wide, fine.multiples, bias=exact, lo=low, hi=high)
        self.out.nodes.append(ig.Pointwise(wide, [x], wide, site.node.source, post=post))
        self._rounded(site, wide, fine.units, fine.bias, output)

    def _fine_constant(self, site: Site, x: str, constant: Array, output: Coding) -> bool:
        """The sum of an int8 tensor and constants of each row; false if there is no unit for it."""
        factors = (site.factor, site.res_factor)
        fine = fine_constant(self._codings[x], constant, output, factors)
        if fine is None:
            return False
        unit = Coding("int16", fine.coding.scale)
        codes = self._tensor(f"{site.output}.constant", constant.shape, unit, fine.codes)
        self._wide_sum(site, (x, fine.multiple), (codes, 1), fine.coding, output)
        return True

    def _fine_sum(
        self, site: Site, x: str, residual: str, factor: float, fine: FineSum, output: Coding
    ) -> None:
        main = factor * self._codings[x].scale / fine.coding.scale
        self._wide_sum(site, (x, main), (residual, fine.multiple), fine.coding, output)

    def _wide_sum(
        self,
        site: Site,
        x: tuple[str, float],
        residual: tuple[str, int],
        coding: Coding,
        output: Coding,
    ) -> None:
        """Two tensors, each times a factor, in ``coding``, 16 bits; then rounded to ``output``."""
        shape = self.graph.values[site.output].shape
        low, high = reference.LIMITS["int16"]
        wide = self._tensor(f"{site.output}.sum", shape, coding)
        source, factor = x
        other, multiple = residual
        post = post_params(
            wide,
            factor,
            bias=np.array([-self._codings[source].zero_point]),
            lo=low,
            hi=high,
            zero_point=coding.zero_point - multiple * self._codings[other].zero_point,
            residual=other,
            res_mult=multiple << reference.SHIFT_MIN,
            res_shift=reference.SHIFT_MIN,
        )
        self.out.nodes.append(ig.Pointwise(wide, [source], wide, site.node.source, post=post))
        bias = np.array([-coding.zero_point])
        self._rounded(site, wide, np.array([coding.scale]), bias, output)

    def _rounded(self, site: Site, wide: str, units: Array, bias: Array, output: Coding) -> None:
        """The second step of a sum: from 16 bits to the output's codes."""
        name = self._result(site.node, site.output, output)
        low, high = reference.LIMITS[output.dtype]
        ratio = units / output.scale
        if site.activation is not None:  # relu
            low, ratio = output.zero_point, ratio * site.activation.factor
        post = post_params(
            name,
            ratio,
            bias=bias,
            lo=low,
            hi=high,
            zero_point=output.zero_point,
        )
        self.out.nodes.append(ig.Pointwise(name, [wide], name, site.node.source, post=post))


def _parts(codes: Array) -> list[Array]:
    """``codes`` as a sum of matrices with codes of -127..127, as few as possible."""
    parts: list[Array] = []
    rest = codes
    while not parts or rest.any():
        part = np.clip(rest, -_WEIGHT_TOP, _WEIGHT_TOP)
        parts.append(part)
        rest = rest - part
    return parts


def _constants(value: int) -> list[int]:
    """``value`` as a sum of codes of -127..127, none if it is 0."""
    parts = []
    while value:
        part = int(np.clip(value, -_WEIGHT_TOP, _WEIGHT_TOP))
        parts.append(part)
        value -= part
    return parts
