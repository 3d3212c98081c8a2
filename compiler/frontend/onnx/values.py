"""What a name of an ONNX graph can stand for while it is lowered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from intformer.compiler.quantize.scales import Coding

if TYPE_CHECKING:
    from intformer.compiler.frontend.onnx.lowering import Lowering

__all__ = [
    "Centred",
    "Const",
    "Curve",
    "Deviation",
    "MaskForm",
    "Masked",
    "Mean",
    "Normalized",
    "Partial",
    "Quantized",
    "Tensor",
    "Unknown",
]

Array = NDArray[Any]


@dataclass(frozen=True)
class Tensor:
    """A computed tensor: its name in the float graph, its shape, and the coding it came through.

    ``coding`` is that of the DequantizeLinear that made it (views keep it).
    """

    name: str
    shape: tuple[int, ...]
    coding: Coding | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    def axis(self, axis: int) -> int:
        """A possibly negative axis, counted from the front."""
        return axis % max(self.rank, 1)


@dataclass(frozen=True)
class Const:
    """A constant. ``scale``: of a dequantized one, the scale of each element; see :meth:`view`."""

    array: Array
    scale: Array | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def size(self) -> int:
        return int(self.array.size)

    def view(self, move: Callable[[Array], Array]) -> Const:
        """The constant after an operation that only moves elements."""
        scale = None
        if self.scale is not None:
            scale = move(np.broadcast_to(self.scale, self.array.shape))
        return Const(move(self.array), scale)

    def number(self) -> float:
        """The value of a constant with one element."""
        return float(self.array.reshape(-1)[0])


@dataclass(frozen=True)
class Quantized:
    """What a QuantizeLinear makes, on its way to DequantizeLinear."""

    value: Any
    coding: Coding
    codes: Array | None = None


@dataclass(frozen=True)
class Unknown:
    """The result of a node that cannot be mapped; what reads it cannot be judged."""


class Partial:
    """A part of a composite operation that is not yet whole."""

    shape: tuple[int, ...]

    def tensor(self, lo: Lowering) -> Tensor:
        """The value as a tensor; raises :class:`Unsupported` if only the whole can be mapped."""
        raise NotImplementedError


def _incomplete(what: str, instead: str) -> Any:
    from intformer.compiler.frontend.issues import Unsupported

    raise Unsupported(what, instead)


@dataclass(frozen=True)
class Curve(Partial):
    """``scale * f(inner * x) + offset``, on the way to a GELU; ``name``: of the node that made it.

    ``kind``: ``"erf"``: f(z) = erf(z / sqrt 2); ``"cube"``: f(z) = z^3, and ``offset`` is a
    multiple of x; ``"tanh"``: f(z) = tanh(sqrt(2 / pi) * (z + 0.044715 z^3)); ``"gelu"``,
    ``"gelu_tanh"``: the whole, which becomes a tensor, with ``coding`` if it has been quantized.
    """

    kind: str
    x: Tensor
    name: str
    scale: float = 1.0
    offset: float = 0.0
    inner: float = 1.0
    coding: Coding | None = None

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.x.shape

    def scaled(self, factor: float, name: str) -> Curve:
        """``factor`` times the curve."""
        return replace(
            self, name=name, scale=self.scale * factor, offset=self.offset * factor, coding=None
        )

    def tensor(self, lo: Lowering) -> Tensor:
        if self.kind in ("gelu", "gelu_tanh"):
            return lo.curve(self)
        what = {"erf": "erf", "cube": "a power"}.get(self.kind, "tanh of a cubic polynomial")
        return _incomplete(
            f"{what} that is no part of a GELU",
            "use GELU, or an activation of ReLU, SiLU, tanh, ...",
        )


@dataclass(frozen=True)
class Mean(Partial):
    """Mean of ``x`` over its last axis, kept; made into a tensor where it is no LayerNorm's."""

    x: Tensor
    make: Callable[[], Tensor]
    coding: Coding | None = None

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (*self.x.shape[:-1], 1)

    def tensor(self, lo: Lowering) -> Tensor:
        return lo.coded(self.make(), self.coding)


@dataclass(frozen=True)
class Centred(Partial):
    """``(x - mean(x))`` to the power 1 or 2."""

    x: Tensor
    power: int = 1

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.x.shape

    def tensor(self, lo: Lowering) -> Tensor:
        return _incomplete("subtracts the mean of a row, but no LayerNorm follows", "use LayerNorm")


@dataclass(frozen=True)
class Deviation(Partial):
    """Variance of ``x`` plus ``eps``; its root; or one over its root (``power`` 2, 1, -1)."""

    x: Tensor
    eps: float = 0.0
    power: int = 2

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (*self.x.shape[:-1], 1)

    def tensor(self, lo: Lowering) -> Tensor:
        return _incomplete("the variance of a row, but no LayerNorm follows", "use LayerNorm")


@dataclass(frozen=True)
class Normalized(Partial):
    """LayerNorm of ``x``, still taking factors (``gamma``) and addends (``beta``)."""

    x: Tensor
    name: str
    eps: float
    gamma: Array
    beta: Array | None = None
    coding: Coding | None = None

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.x.shape

    def tensor(self, lo: Lowering) -> Tensor:
        beta = np.zeros_like(self.gamma) if self.beta is None else self.beta
        return lo.coded(lo.layernorm(self.x, self.gamma, beta, self.eps, self.name), self.coding)


@dataclass(frozen=True)
class MaskForm(Partial):
    """Numbers made from a mask: ``one`` where ``keep`` is true, ``zero`` where it is false."""

    keep: Tensor
    one: float = 1.0
    zero: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.keep.shape

    def map(self, function: Callable[[float], float]) -> MaskForm:
        """The form of ``function`` of both values."""
        return MaskForm(self.keep, float(function(self.one)), float(function(self.zero)))

    def tensor(self, lo: Lowering) -> Tensor:
        return _incomplete(
            "computes with a mask as numbers", "use masks only in front of a softmax"
        )


@dataclass(frozen=True)
class Masked(Partial):
    """Scores under masks, on their way to a softmax: elements not kept count as -inf.

    ``keep``: a computed mask; ``fixed``: a constant one; both must be true.
    """

    scores: Tensor
    keep: Tensor | None = None
    fixed: Array | None = None

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.scores.shape

    def tensor(self, lo: Lowering) -> Tensor:
        return _incomplete(
            "masked scores can only go straight into a softmax over the last axis",
            "apply softmax right after the mask",
        )
