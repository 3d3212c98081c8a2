"""Walks a ``torch.export`` graph and lowers each operation by a rule.

Rules live in ``ops_*.py``, registered by the operation's name without its overload. A rule gets
the :class:`Lowering` and the operation's arguments, where a computed tensor is a
:class:`Tensor`, and constants are ``torch.Tensor``. Operations on constants alone are folded.
"""

from __future__ import annotations

import importlib
import operator
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.export.graph_signature import InputKind, OutputKind

from intformer.compiler import graph as fg
from intformer.compiler.frontend.codings import Codings
from intformer.compiler.frontend.issues import Issues, Unsupported, module_path, source_line
from intformer.compiler.frontend.pt2e_constants import CodedTensor, coded_constant
from intformer.compiler.quantize.scales import Coding
from intformer.errors import UserError

__all__ = [
    "Lowering",
    "MaskTerm",
    "Masked",
    "Tensor",
    "load_rules",
    "lower",
    "rule",
    "takes_masked",
]

Rule = Callable[..., Any]
_RULES: dict[str, Rule] = {}
_VIEWS: set[str] = set()


def rule(*names: str, view: bool = False) -> Callable[[Rule], Rule]:
    """Register the decorated function for operations such as ``"aten.linear"``.

    ``view`` says that it only moves the elements of its first argument, so that it applies to
    masked scores, too.
    """

    def register(function: Rule) -> Rule:
        for name in names:
            _RULES[name] = function
            if view:
                _VIEWS.add(name)
        return function

    return register


@dataclass(frozen=True)
class Tensor:
    """A computed tensor: its name in the float graph, and its shape."""

    name: str
    shape: tuple[int, ...]
    coding: Coding | None = None  # of the dequantization that it comes from

    @property
    def rank(self) -> int:
        return len(self.shape)

    def axis(self, axis: int) -> int:
        """A possibly negative axis, counted from the front."""
        return axis % max(self.rank, 1)


@dataclass(frozen=True)
class Masked:
    """Scores under a mask, on their way to a softmax: elements not kept count as -inf."""

    scores: Tensor
    mask: Tensor | torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.scores.shape


@dataclass(frozen=True)
class MaskTerm:
    """A mask to be added to scores: ``bias`` (or 0) where ``mask`` is true, else -inf."""

    mask: Tensor
    bias: Tensor | torch.Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        if self.bias is None:
            return self.mask.shape
        return np.broadcast_shapes(self.mask.shape, tuple(self.bias.shape))


class Lowering:
    """State of one lowering: the builder, and what each FX node became.

    ``bounds`` has the largest value of tensors of whole numbers from 0 on, where it is known.
    ``made`` lists, for each operation in order, the FX node, what it became, and the nodes of the
    float graph that were made for it.
    """

    def __init__(self) -> None:
        self.build = fg.GraphBuilder()
        self.issues = Issues()
        self.name = ""
        self.codings = Codings(self.build)
        self.bounds: dict[str, int] = {}
        self.made: list[tuple[Any, Any, list[fg.Node]]] = []
        self._env: dict[Any, Any] = {}

    def wrap(self, name: str) -> Tensor:
        """The :class:`Tensor` of a name in the graph."""
        return Tensor(name, self.build.shape(name))

    def kind(self, x: Tensor) -> str:
        """``"float"``, ``"int"`` or ``"bool"``."""
        return self.build.graph.values[x.name].kind

    def const(self, tensor: torch.Tensor, name: str = "") -> str:
        """Put a constant into the graph."""
        result = self.build.const(tensor.detach().cpu().numpy(), name or f"{self.name}.const")
        if isinstance(tensor, CodedTensor):
            self.codings.scales[result] = tensor.scale.numpy()
        return result

    def name_of(self, x: Tensor | torch.Tensor) -> str:
        """Name of an operand in the graph; a constant is put there."""
        return x.name if isinstance(x, Tensor) else self.const(x)

    def run(self, program: Any) -> fg.Graph:
        """Lower a whole exported program."""
        self.walk(program)
        self.issues.raise_if_any()
        self.codings.finish()
        return self.build.graph

    def walk(self, program: Any) -> None:
        """Lower every operation that an output needs, and note what cannot be mapped."""
        needed = _needed(program.graph)
        constants = _constants(program)
        users = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
        for node in program.graph.nodes:
            if node.op == "placeholder":
                if node.name in constants:
                    self._env[node] = constants[node.name]
                elif users[node.name].kind == InputKind.USER_INPUT:
                    self._env[node] = self._input(node)
            elif node.op == "call_function" and node in needed:
                before = len(self.build.graph.nodes)
                self._env[node] = self._call(node)
                new = self.build.graph.nodes[before:]
                self.made.append((node, self._env[node], new))
            elif node.op == "output":
                self._outputs(program, node)

    def _input(self, node: Any) -> Any:
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            raise UserError(f"model input {node.name!r} must be a tensor, not {value!r}")
        kind = _kind(value, node.name)
        return self.wrap(self.build.input(node.name, _static(value, node.name), kind))

    def _call(self, node: Any) -> Any:
        args = torch.fx.map_arg(node.args, lambda n: self._env[n])
        kwargs = torch.fx.map_arg(node.kwargs, lambda n: self._env[n])
        if node.target is operator.getitem:
            return args[0][args[1]]
        op = str(node.target)
        path = module_path(node)
        self.name = f"{path}/{node.name}" if path else node.name
        self.build.source = " ".join(filter(None, (path, source_line(node))))
        try:
            if not _has_tensor((args, kwargs)):
                with torch.no_grad():
                    return coded_constant(op, args, node.target(*args, **kwargs))
            key = op.rpartition(".")[0]
            if key not in _RULES:
                raise Unsupported(
                    "the core has no such operation",
                    "write it with the supported ones (docs: matrix products, add, scaling by "
                    "constants, softmax, LayerNorm, GELU and other activations, views, mean)",
                )
            masked = [a for a in args if isinstance(a, Masked | MaskTerm)]
            if masked and key in _VIEWS and masked[0] is args[0]:
                return self._masked_view(node, key, args, kwargs)
            if key not in _TAKES_MASKED and masked:
                raise Unsupported(
                    "masked scores can only go straight into a softmax over the last axis",
                    "apply softmax right after the mask",
                )
            return _RULES[key](self, *args, **kwargs)
        except Unsupported as problem:
            self.issues.add(op, node, problem)
            return self._stand_in(node)

    def operands(self, node: Any) -> list[str]:
        """Names of the computed tensors that an FX node reads."""
        found = [self._env.get(x) for x in node.all_input_nodes]
        flat = [y for x in found for y in (x if isinstance(x, list | tuple) else [x])]
        return [x.name for x in flat if isinstance(x, Tensor)]

    def _masked_view(self, node: Any, key: str, args: Any, kwargs: Any) -> Masked | MaskTerm:
        """Masked scores, or a mask, moved: the scores and the mask each by themselves."""
        first, *rest = args

        def moved(x: Tensor | torch.Tensor | None) -> Any:
            if x is None:
                return None
            if isinstance(x, torch.Tensor):
                return node.target(x.expand(first.shape), *rest, **kwargs)
            whole = self.wrap(self.build.expand(x.name, first.shape))
            return _RULES[key](self, whole, *rest, **kwargs)

        if isinstance(first, MaskTerm):
            return MaskTerm(moved(first.mask), moved(first.bias))
        return Masked(moved(first.scores), moved(first.mask))

    def _stand_in(self, node: Any) -> Any:
        """Something of the right shape, to go on and find further problems."""

        def make(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                kind = _kind(value, node.name)
                shape = tuple(value.shape)
                return self.wrap(self.build.value(f"{self.name}.unsupported", shape, kind))
            return value

        value = node.meta.get("val")
        if isinstance(value, list | tuple):
            return [make(v) for v in value]
        return make(value)

    def _outputs(self, program: Any, node: Any) -> None:
        results = node.args[0]
        for spec, result in zip(program.graph_signature.output_specs, results, strict=True):
            value = self._env[result] if isinstance(result, torch.fx.Node) else result
            if spec.kind != OutputKind.USER_OUTPUT:
                raise UserError(
                    f"the model changes its state ({spec.target!r}); only models without state "
                    "(KV caches, running statistics) can be compiled"
                )
            if not isinstance(value, Tensor):
                raise UserError("every model output must be a tensor that depends on the inputs")
            self.build.graph.outputs.append(value.name)


_TAKES_MASKED = {
    "aten.softmax",
    "aten._softmax",
    "aten.clone",
    "aten.contiguous",
    "aten.dropout",
    "aten.to",
    "aten._to_copy",
    "aten.type_as",
    "aten.add",
    "aten.add_",
    "aten.scaled_dot_product_attention",
}


def takes_masked(name: str) -> None:
    """Let the rule of an operation have masked scores as they are."""
    _TAKES_MASKED.add(name)


def lower(program: Any) -> fg.Graph:
    """The float graph of a decomposed ``torch.export.ExportedProgram``."""
    load_rules()
    return Lowering().run(program)


def load_rules() -> None:
    """Import the modules ``ops_*``: their rules register themselves."""
    import intformer.compiler.frontend as package

    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("ops_"):
            importlib.import_module(f"{package.__name__}.{module.name}")


def _needed(graph: Any) -> set[Any]:
    """The nodes that the outputs depend on."""
    needed: set[Any] = set()
    for node in reversed(graph.nodes):
        if node.op == "output" or node in needed:
            needed.add(node)
            needed.update(node.all_input_nodes)
    return needed


def _constants(program: Any) -> dict[str, torch.Tensor]:
    """Parameters, buffers and lifted constants by placeholder name."""
    result = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
            for store in (program.state_dict, program.constants):
                if spec.target in store:
                    result[spec.arg.name] = store[spec.target].detach()
                    break
    return result


def _has_tensor(tree: Any) -> bool:
    if isinstance(tree, dict):
        return any(_has_tensor(v) for v in tree.values())
    if isinstance(tree, list | tuple):
        return any(_has_tensor(v) for v in tree)
    return isinstance(tree, Tensor | Masked | MaskTerm)


def _static(value: torch.Tensor, name: str) -> tuple[int, ...]:
    for size in value.shape:
        if not isinstance(size, int):
            raise UserError(
                f"input {name!r} has the dynamic shape {tuple(value.shape)}: export the model "
                "with static shapes"
            )
    return tuple(value.shape)


def _kind(value: torch.Tensor, name: str) -> str:
    if value.dtype == torch.bool:
        return "bool"
    if value.dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        return "int"
    if value.dtype.is_floating_point:
        return "float"
    raise UserError(f"input {name!r} has type {value.dtype}; allowed are floats, integers, bool")


def to_array(tensor: torch.Tensor) -> np.ndarray:
    """A constant as a float32 array."""
    return tensor.detach().cpu().to(torch.float32).numpy()
