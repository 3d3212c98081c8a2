"""The integer tensors of float values, made when they are first asked for."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer import reference
from intformer.compiler import graph as fg
from intformer.compiler import integer_graph as ig
from intformer.compiler.quantize.plan import Plan
from intformer.compiler.quantize.scales import Coding, encode_multiplier, is_int8
from intformer.compiler.quantize.token_rows import ROW_TOP

__all__ = ["Tensors", "post_params"]

Array = NDArray[Any]


class Tensors:
    """An integer graph under construction, and which tensor holds which float value.

    A value may have several tensors: as it was computed, and copies in other code types. Views
    and copies are made in front of their first reader.
    """

    def __init__(self, graph: fg.Graph, plan: Plan) -> None:
        self.graph = graph
        self.plan = plan
        self.out = ig.IntGraph({}, [], [], [])
        self.notes: dict[str, dict[str, Any]] = defaultdict(dict)
        self._codings: dict[str, Coding] = {}
        self._made: dict[tuple[str, str], str] = {}
        self._views = {n.output: n for n in graph.nodes if isinstance(n, fg.View)}

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

        ``operand`` means a product's operand: int8, or uint8 if the value is stored so. ``high``
        and ``low`` are the bytes of the int16 codes: ``256 * high + low``, int8 and uint8.
        ``smoothed``: int16 codes with a scale for each channel; ``rows`` and ``factors``: what a
        :class:`~intformer.compiler.integer_graph.RowScale` makes of them, or of the int16 codes.
        """
        if (name, dtype) not in self._made:
            self._made[name, dtype] = self._make(name, dtype)
        return self._made[name, dtype]

    def _make(self, name: str, dtype: str) -> str:
        value = self.graph.values[name]
        if value.const is not None:
            return self._constant(value, dtype)
        if dtype in ("rows", "factors"):
            return self._row_scale(name, dtype)
        if dtype == "smoothed" and self.plan.rows.origin(name) == name:
            return self._smoothed(name)
        if name in self._views:
            return self._view(self._views[name], dtype)
        native = self._fetch(name, "native")
        coding = self._codings[native]
        if dtype == "native" or coding.dtype == dtype:
            return native
        if dtype == "operand":
            return native if coding.dtype == "uint8" else self._fetch(name, "int8")
        if dtype in ("high", "low"):
            return self._byte(name, dtype)
        return self._copy(name, native, dtype)

    def _copy(self, name: str, native: str, dtype: str) -> str:
        """A value in another code type than the one that it is computed in."""
        found = self.plan.operand(name) if dtype == "int8" else None
        coding = self.plan.coding(name, dtype)
        copy = self._convert(
            native, f"{name}.{dtype}", coding, scales=None if found is None else found.scales
        )
        if found is not None:
            self.notes[copy]["smoothing"] = found.alpha
        return copy

    def _smoothed(self, name: str) -> str:
        """int16 codes of a value with a scale for each channel."""
        found, coding = self.plan.rows.smoothing(name), self.plan.rows.coding(name)
        assert found is not None
        wide = self._fetch(name, "int16")
        copy = self._convert(wide, f"{name}.smoothed", coding, scales=found.scales)
        self.notes[copy]["smoothing"] = found.alpha
        return copy

    def _row_scale(self, name: str, which: str) -> str:
        """The int8 codes of a value's rows, each row at a scale of its own, or their factors."""
        smoothed = self.plan.rows.smoothing(name) is not None
        source = self._fetch(name, "smoothed" if smoothed else "int16")
        shape, coding = self.out.tensors[source].shape, self._codings[source]
        # A row's codes are worth this scale times the row's factor.
        codes = self._tensor(f"{name}.rows", shape, Coding("int8", coding.scale / ROW_TOP))
        factors = self._tensor(f"{name}.factors", (*shape[:-1], 1), Coding("int16", 1.0))
        self.out.nodes.append(ig.RowScale(codes, [source], codes, "", factor=factors))
        self.notes[codes]["scales"] = "token"
        self._made |= {(name, "rows"): codes, (name, "factors"): factors}
        return self._made[name, which]

    def _byte(self, name: str, which: str) -> str:
        """The upper or the lower byte of the int16 codes of a value."""
        wide = self._fetch(name, "int16")
        coding, shape = self._codings[wide], self.out.tensors[wide].shape
        if which == "high":
            # (x - 128) / 256, rounded half up, is the floor of x / 256.
            output = self._tensor(f"{wide}.high", shape, Coding("int8", 256 * coding.scale))
            post = post_params(output, 2.0**-8, bias=np.array([-128]), lo=-128, hi=127)
        else:
            high = self._fetch(name, "high")
            output = self._tensor(f"{wide}.low", shape, Coding("uint8", coding.scale))
            mult, shift = encode_multiplier(-256.0, what=output)
            post = post_params(output, 1.0, bias=np.array([0]), lo=0, hi=255, residual=high)
            post.res_mult, post.res_shift = int(mult[0]), int(shift[0])
        self.out.nodes.append(ig.Pointwise(output, [wide], output, "", post=post))
        return output

    def _constant(self, value: fg.Value, dtype: str) -> str:
        assert value.const is not None
        if value.kind != "float":
            coding = self.plan.root_coding(value.name)
        elif dtype == "operand" and is_int8(value.const):
            coding = Coding("int8", 1.0)
        elif dtype in ("high", "low"):
            return self._byte(value.name, dtype)
        else:
            wanted = {"native": self.plan.main(value.name), "operand": "int8"}.get(dtype, dtype)
            coding = self.plan.coding(value.name, wanted)
        codes = coding.encode(value.const)
        return self._tensor(value.name, codes.shape, coding, codes)

    def _view(self, node: fg.View, dtype: str) -> str:
        fixed = {name for name in node.inputs if self._is_constant(name)}
        if len(fixed) == len(set(node.inputs)) or dtype in ("high", "low"):
            fixed = set()
        made = {name: self._fetch(name, dtype) for name in node.inputs if name not in fixed}
        if fixed:  # constants take the coding of what stands beside them
            codings = {self._codings[part] for part in made.values()}
            coding = codings.pop() if len(codings) == 1 else self._main_coding(node, dtype)
            made |= {name: self._encoded(name, coding) for name in fixed}
        parts = [made[name] for name in node.inputs]
        codings = {self._codings[part] for part in parts}
        if len(codings) > 1:  # a concatenation of values that are stored differently
            coding = self._main_coding(node, dtype)
            parts = [
                part
                if self._codings[part] == coding
                else self._convert(part, f"{part}.{coding.dtype}", coding)
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

    def _main_coding(self, node: fg.View, dtype: str) -> Coding:
        dtype = self.plan.main(node.output) if dtype in ("native", "operand") else dtype
        return self.plan.coding(node.output, dtype)

    def _is_constant(self, name: str) -> bool:
        """Whether a float value is a constant, or a view of one."""
        while name in self._views and len(self._views[name].inputs) == 1:
            name = self._views[name].inputs[0]
        return self.graph.values[name].const is not None and self.graph.values[name].kind == "float"

    def _encoded(self, name: str, coding: Coding) -> str:
        """The tensor of a constant, or of a view of one, in a given coding."""
        key = (name, f"coded {coding}")
        if key not in self._made:
            const = self.graph.values[name].const
            if const is not None:
                self._made[key] = self._tensor(name, const.shape, coding, coding.encode(const))
            else:
                view = self._views[name]
                source = self._encoded(view.inputs[0], coding)
                output = self._tensor(name, self.graph.values[name].shape, coding)
                node = ig.View(output, [source], output, view.source, kind=view.kind, arg=view.arg)
                self.out.nodes.append(node)
                self._made[key] = output
        return self._made[key]

    def _signed(self, name: str) -> str:
        """The tensor that an element-wise operation reads: the native one, but never uint8."""
        native = self._fetch(name, "native")
        return native if self._codings[native].dtype != "uint8" else self._fetch(name, "int16")

    def _convert(
        self, source: str, name: str, coding: Coding, *, scales: Array | None = None
    ) -> str:
        """A copy of a tensor in another coding, each channel divided by its one of ``scales``."""
        have = self._codings[source]
        shape = self.out.tensors[source].shape
        output = self._tensor(name, shape, coding)
        low, high = reference.LIMITS[coding.dtype]
        post = post_params(
            output,
            have.scale / coding.scale / (1.0 if scales is None else scales),
            bias=np.array([-have.zero_point]),
            lo=low,
            hi=high,
            zero_point=coding.zero_point,
        )
        node: ig.Node
        if have.dtype == "uint8":  # only the array reads unsigned codes: a product with ones
            ones = np.eye(shape[-1], dtype=np.int8)
            identity = self._tensor(f"{name}.identity", ones.shape, Coding("int8", 1.0), ones)
            node = ig.MatMul(output, [source, identity], output, "", post=post)
        else:
            node = ig.Pointwise(output, [source], output, "", post=post)
        self.out.nodes.append(node)
        return output


def post_params(what: str, scale: Array | float, *, bias: Array, **fields: Any) -> ig.PostParams:
    """Post parameters that rescale by ``scale``; ``what`` names the site in errors."""
    mult, shift = encode_multiplier(scale, what=what)
    return ig.PostParams(bias=np.asarray(bias, np.int32), mult=mult, shift=shift, **fields)
