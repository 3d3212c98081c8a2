"""Walks an ONNX graph and lowers each node by a rule.

Rules live in ``ops_*.py``, registered by operation. A rule gets the :class:`Lowering`, the node and
its operands: :class:`Tensor`, :class:`Const`, ``None`` for one left out, and, where the rule is
registered with ``partial``, the parts of composite operations of :mod:`.values`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer.compiler import graph as fg
from intformer.compiler.frontend.codings import Codings
from intformer.compiler.frontend.issues import Issues, Unsupported
from intformer.compiler.frontend.onnx.reader import OnnxModel, OnnxNode
from intformer.compiler.frontend.onnx.values import (
    Const,
    Curve,
    Partial,
    Quantized,
    Tensor,
    Unknown,
)
from intformer.compiler.quantize.scales import Coding
from intformer.errors import UserError

__all__ = ["Lowering", "lower", "rule"]

Array = NDArray[Any]
Rule = Callable[..., Any]
_RULES: dict[str, tuple[Rule, bool]] = {}


def rule(*names: str, partial: bool = False) -> Callable[[Rule], Rule]:
    """Register the decorated function for ONNX operations; ``partial``: it takes partial values."""

    def register(function: Rule) -> Rule:
        for name in names:
            _RULES[name] = (function, partial)
        return function

    return register


class Lowering:
    """State of one lowering: the builder, and what each name became."""

    def __init__(self, model: OnnxModel) -> None:
        self.model = model
        self.build = fg.GraphBuilder()
        self.issues = Issues()
        self.node: OnnxNode = OnnxNode("", "", [], [], {})
        self.name = ""
        self._env: dict[str, Any] = {name: Const(a) for name, a in model.constants.items()}
        self.codings = Codings(self.build)
        self._whole: dict[int, tuple[Partial, Tensor]] = {}

    def wrap(self, name: str, coding: Coding | None = None) -> Tensor:
        """The :class:`Tensor` of a name in the graph."""
        return Tensor(name, self.build.shape(name), coding)

    def const(self, const: Const, name: str = "") -> str:
        """Put a constant into the graph."""
        result = self.build.const(const.array, name or f"{self.name}.const")
        if const.scale is not None:
            self.codings.scales[result] = const.scale
        return result

    def name_of(self, x: Tensor | Const) -> str:
        """Name of an operand in the graph; a constant is put there."""
        return x.name if isinstance(x, Tensor) else self.const(x)

    def kind(self, x: Tensor) -> str:
        """``"float"``, ``"int"`` or ``"bool"``."""
        return self.build.graph.values[x.name].kind

    def layernorm(self, x: Tensor, gamma: Array, beta: Array, eps: float, name: str = "") -> Tensor:
        """Append a LayerNorm over the last axis."""
        n = x.shape[-1]
        g, b = (np.broadcast_to(np.asarray(v, np.float32), (n,)).copy() for v in (gamma, beta))
        name = self.build.node(
            fg.LayerNorm, name or self.name, [x.name], x.shape, gamma=g, beta=b, eps=float(eps)
        )
        return self.wrap(name)

    def activation(self, x: Tensor, kind: str, factor: float = 1.0, name: str = "") -> Tensor:
        """Append an activation of ``factor * x``."""
        node = self.build.node
        name = name or self.name
        return self.wrap(
            node(fg.Activation, name, [x.name], x.shape, kind=kind, factor=float(factor))
        )

    def scale(self, x: Tensor, factor: float, name: str = "") -> Tensor:
        """``factor * x``."""
        if factor == 1.0:
            return x
        if factor == 0.0 or not np.isfinite(factor):
            raise Unsupported(f"scales by {factor}", "scale by a finite number that is not 0")
        node = self.build.node(fg.Scale, name or self.name, [x.name], x.shape, factor=float(factor))
        return self.wrap(node)

    def curve(self, curve: Curve) -> Tensor:
        """Append a GELU, scaled where the model leaves a factor."""
        factor = curve.scale if abs(curve.scale - 1.0) > 1e-6 else 1.0
        inside = curve.name if factor == 1.0 else f"{curve.name}.{curve.kind}"
        y = self.activation(curve.x, curve.kind, curve.inner, inside)
        return self.coded(self.scale(y, factor, curve.name), curve.coding)

    def coded(self, x: Tensor, coding: Coding | None) -> Tensor:
        """Let a value have the coding that the current QuantizeLinear gives it.

        One that has come through another coding is coded again.
        """
        if coding is None:
            return x
        name = self.codings.attach(x.name, coding, through=x.coding, node=self.node.name)
        return self.wrap(name, coding)

    def whole(self, x: Any) -> Any:
        """A partial value made whole, once however many nodes read it; others as they are."""
        if not isinstance(x, Partial):
            return x
        if id(x) not in self._whole:
            self._whole[id(x)] = (x, x.tensor(self))
        return self._whole[id(x)][1]

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute of the current node."""
        return self.node.attributes.get(name, default)

    def run(self) -> fg.Graph:
        """Lower the whole model."""
        for name, (shape, kind) in self.model.inputs.items():
            self._env[name] = self.wrap(self.build.input(name, shape, kind))
        for node in self.model.nodes:
            self._call(node)
        self.issues.raise_if_any()
        for name in self.model.outputs:
            self._output(name)
        try:
            self.codings.finish()
        except Unsupported as problem:
            self.issues.add_node("DequantizeLinear", "weights", problem)
        self.issues.raise_if_any()
        self._check_ids()
        return self.build.graph

    def _value(self, name: str) -> Any:
        if name not in self._env:
            raise UserError(
                f"{self.node.op} {self.node.name!r} reads {name!r}, which nothing makes"
            )
        return self._env[name]

    def _output(self, name: str) -> None:
        self.node = OnnxNode("output", name, [], [], {})
        value = self._value(name)
        if isinstance(value, Partial):
            try:
                value = self.whole(value)
            except Unsupported as problem:
                self.issues.add_node("output", name, problem)
                return
        if isinstance(value, Quantized):
            value = value.value
        if not isinstance(value, Tensor):
            raise UserError(f"model output {name!r} does not depend on the inputs")
        self.build.graph.outputs.append(self._renamed(value.name, name))

    def _renamed(self, name: str, wanted: str) -> str:
        """An output gets the name that the model gives it, unless it is one already."""
        graph = self.build.graph
        if wanted in graph.values or name in graph.inputs or name in graph.outputs:
            return name
        value = graph.values.pop(name)
        value.name = wanted
        graph.values[wanted] = value
        for node in graph.nodes:
            node.inputs = [wanted if x == name else x for x in node.inputs]
            if node.output == name:
                node.output = node.name = wanted
        return wanted

    def _call(self, node: OnnxNode) -> None:
        self.node = node
        self.name = node.outputs[0] if node.outputs else node.name
        self.build.source = node.name
        operands = [self._value(name) if name else None for name in node.inputs]
        key = f"{node.domain}.{node.op}" if node.domain else node.op
        try:
            result = self._result(key, operands)
        except Unsupported as problem:
            self.issues.add_node(key, node.name, problem)
            result = Unknown()
        except (ValueError, IndexError) as error:  # shapes that no valid model has
            broken = Unsupported(f"its operands do not fit: {error}", "check the model")
            self.issues.add_node(key, node.name, broken)
            result = Unknown()
        results = result if isinstance(result, list) else [result]
        for i, name in enumerate(node.outputs):
            if name:
                self._env[name] = results[i] if i < len(results) else Unknown()

    def _result(self, key: str, operands: list[Any]) -> Any:
        quantization = self.node.op in ("QuantizeLinear", "DequantizeLinear")
        if not quantization and all(x is None or isinstance(x, Const) for x in operands):
            return self._folded([None if x is None else x.array for x in operands])
        if key not in _RULES:
            raise Unsupported(
                "the core has no such operation",
                "write it with the supported ones (docs/compiler.md lists them)",
            )
        if any(isinstance(x, Unknown) for x in operands):
            return Unknown()
        function, partial = _RULES[key]
        if not partial:
            operands = [self.whole(x) for x in operands]
        return function(self, *operands)

    def _folded(self, arrays: list[Array | None]) -> list[Const]:
        """A node on constants alone, computed by the reference implementation of ``onnx``."""
        names = self.node.inputs
        source = self._env[names[0]] if names and names[0] else None
        if (
            self.node.op in _VIEWS_OF_CONSTANTS
            and isinstance(source, Const)
            and source.scale is not None
        ):
            # The scales move along.
            scale = np.broadcast_to(source.scale, source.shape)
            return [
                Const(value, moved)
                for value, moved in zip(
                    self._evaluate(arrays), self._evaluate([scale, *arrays[1:]]), strict=True
                )
            ]
        return [Const(value) for value in self._evaluate(arrays)]

    def _evaluate(self, arrays: list[Array | None]) -> list[Array]:
        onnx = importlib.import_module("onnx")
        evaluator = importlib.import_module("onnx.reference").ReferenceEvaluator
        proto = self.node.proto
        names = [name for name in dict.fromkeys(self.node.inputs) if name]
        values = {n: a for n, a in zip(self.node.inputs, arrays, strict=True) if n}
        try:
            infos = [
                onnx.helper.make_tensor_value_info(
                    n, onnx.helper.np_dtype_to_tensor_dtype(np.asarray(values[n]).dtype), None
                )
                for n in names
            ]
            results = [onnx.helper.make_empty_tensor_value_info(o) for o in proto.output if o]
            graph = onnx.helper.make_graph([proto], "constant", infos, results)
            imports = [onnx.helper.make_opsetid("", self.model.opset)]
            model = onnx.helper.make_model(graph, opset_imports=imports)
            return [np.asarray(r) for r in evaluator(model).run(None, values)]
        except Exception as error:  # whatever the reference implementation raises
            first = str(error).strip().splitlines()
            raise Unsupported(
                f"cannot compute it on constants: {type(error).__name__}: "
                f"{first[0] if first else ''}",
                "fold constants before the export (onnxruntime's basic optimizations do)",
            ) from None

    def as_mask(self, x: Tensor) -> Tensor:
        """An integer input used as a mask becomes a boolean one, and so do views of it."""
        values, producers = self.build.graph.values, self.build.graph.producers()
        name = x.name
        while True:
            values[name].kind = "bool"
            node = producers.get(name)
            if node is None:
                return x
            if not isinstance(node, fg.View):
                raise Unsupported("computes a mask from integers", "use a boolean mask")
            name = node.inputs[0]

    def _check_ids(self) -> None:
        """No input may be both ids and a mask."""
        for node in self.build.graph.nodes:
            if isinstance(node, fg.Embedding):
                ids = self.build.graph.values[node.inputs[0]]
                if ids.kind != "int":
                    raise UserError(
                        f"{node.source or node.name}: {ids.name!r} serves as ids and as a mask"
                    )


_VIEWS_OF_CONSTANTS = (
    "Transpose",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Identity",
    "Slice",
    "Split",
    "Expand",
)


def lower(model: OnnxModel) -> fg.Graph:
    """The float graph of an ONNX model."""
    for name in ("ops_attention", "ops_conv", "ops_math", "ops_norm", "ops_qdq", "ops_views"):
        # The rules register themselves on import.
        importlib.import_module(f"intformer.compiler.frontend.onnx.{name}")
    return Lowering(model).run()
