"""Builds the integer graph, site by site."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer import reference
from intformer.compiler import graph as fg
from intformer.compiler import integer_graph as ig
from intformer.compiler.float_eval import compare
from intformer.compiler.quantize.norms import norm_parameters
from intformer.compiler.quantize.products import Products
from intformer.compiler.quantize.scales import Coding, exp_table
from intformer.compiler.quantize.sites import Site
from intformer.compiler.quantize.smoothing import FittedOperand
from intformer.compiler.quantize.tensors import post_params

__all__ = ["Lowerer"]

Array = NDArray[Any]


class Lowerer(Products):
    """Turns the sites of a float graph into an integer graph under a plan."""

    def run(self, sites: list[Site]) -> ig.IntGraph:
        """Lower all sites in order."""
        for name in self.graph.inputs:
            value, coding = self.graph.values[name], self.plan.root_coding(name)
            self._tensor(name, value.shape, coding)
            self._made[name, "native"] = name
        self.out.inputs = list(self.graph.inputs)
        ends = self._last_reads(sites)
        for i, site in enumerate(sites):
            if not isinstance(site.node, fg.View):
                self._site(site)
            dead = {made for (name, _), made in self._made.items() if ends[name] == i}
            self.solver.forget(dead)
        self.out.outputs = [self._fetch(name, "native") for name in self.graph.outputs]
        return self.out

    def _last_reads(self, sites: list[Site]) -> dict[str, int]:
        """For each value, the last site that reads it, directly or through views."""
        ends: dict[str, int] = defaultdict(int)
        for i in reversed(range(len(sites))):
            site = sites[i]
            if isinstance(site.node, fg.View):
                reads, end = site.node.inputs, ends[site.output]
            else:
                reads = [*site.node.inputs, *(n for n in (site.x, site.residual) if n)]
                end = i
            for name in reads:
                ends[name] = max(ends[name], end)
        return ends

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
        if self.plan.only_smoothed(node.output) and self._is_dual(node):
            self._fetch(node.output, "smoothed")
            return
        coding = self.plan.root_coding(node.output)
        output = self._result(node, node.output, coding)
        found = self.plan.operand(node.output) if coding.dtype == "int8" else None
        self._normalize(node, output, coding, found)

    def _is_dual(self, node: fg.LayerNorm) -> bool:
        return self.plan.settings.at(node).norm == "dual"

    def _copy(self, name: str, native: str, dtype: str) -> str:
        maker = self._norms.get(name)
        if maker is None or dtype != "int8" or not self._is_dual(maker):
            return super()._copy(name, native, dtype)
        coding = self.plan.coding(name, dtype)
        output = self._tensor(f"{name}.{dtype}", self.graph.values[name].shape, coding)
        self._normalize(maker, output, coding, self.plan.operand(name))
        return output

    def _smoothed(self, name: str) -> str:
        maker = self._norms.get(name)
        if maker is None or not self._is_dual(maker):
            return super()._smoothed(name)
        coding = self.plan.rows.coding(name)
        output = self._tensor(f"{name}.smoothed", self.graph.values[name].shape, coding)
        self._normalize(maker, output, coding, self.plan.rows.smoothing(name))
        return output

    def _normalize(
        self, node: fg.LayerNorm, output: str, coding: Coding, found: FittedOperand | None
    ) -> None:
        """Append a LayerNorm with results in ``coding``, smoothed as ``found`` says."""
        x = self._fetch(node.inputs[0], "int16")
        divisor = np.ones(len(node.gamma)) if found is None else found.scales
        if found is not None:
            self.notes[output]["smoothing"] = found.alpha
        parameters = norm_parameters(
            node.gamma / divisor,
            node.beta / divisor,
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
