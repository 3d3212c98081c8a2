"""Rules that pick elements by constant indices, and padding: views of one kind, ``take``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from intformer.compiler.frontend.issues import Unsupported
from intformer.compiler.frontend.lowering import Lowering, Tensor, rule

__all__ = ["take_by"]


def take_by(lo: Lowering, x: Tensor, move: Callable[[torch.Tensor], torch.Tensor]) -> Tensor:
    """The view of ``x`` that ``move`` makes of a tensor of its shape."""
    places = torch.arange(int(np.prod(x.shape))).reshape(x.shape)
    return lo.wrap(lo.build.take(x.name, move(places).numpy(), lo.name))


@rule("aten.roll", view=True)
def _roll(lo: Lowering, x: Tensor, shifts: Any, axes: Any = ()) -> Tensor:
    return take_by(lo, x, lambda places: torch.roll(places, shifts, tuple(axes) or None))


@rule("aten.flip", view=True)
def _flip(lo: Lowering, x: Tensor, axes: Sequence[int]) -> Tensor:
    return take_by(lo, x, lambda places: torch.flip(places, tuple(axes)))


@rule("aten.index_select", view=True)
def _index_select(lo: Lowering, x: Tensor, axis: int, index: torch.Tensor) -> Tensor:
    _constant(index)
    return take_by(lo, x, lambda places: places.index_select(axis, index))


@rule("aten.index", view=True)
def _index(lo: Lowering, x: Tensor, indices: Sequence[torch.Tensor | None]) -> Tensor:
    for index in indices:
        if index is not None:
            _constant(index)
    chosen = tuple(slice(None) if index is None else index for index in indices)
    return take_by(lo, x, lambda places: places[chosen])


@rule("aten.gather")
def _gather(
    lo: Lowering, x: Tensor | torch.Tensor, axis: int, index: Tensor | torch.Tensor, **_kw: Any
) -> Tensor | torch.Tensor:
    if isinstance(x, torch.Tensor) and x.numel() and bool((x == x.flatten()[0]).all()):
        return x.flatten()[0].expand(tuple(index.shape))
    _constant(index)
    assert isinstance(x, Tensor)
    return take_by(lo, x, lambda places: places.gather(axis, index))


def _constant(index: Any) -> None:
    if not isinstance(index, torch.Tensor):
        raise Unsupported(
            "picks elements by a computed index", "use constant indices, or an embedding table"
        )


@rule("aten.unfold", view=True)
def _unfold(lo: Lowering, x: Tensor, axis: int, size: int, step: int) -> Tensor:
    return take_by(lo, x, lambda places: places.unfold(axis, size, step))


@rule("aten.pixel_shuffle", view=True)
def _pixel_shuffle(lo: Lowering, x: Tensor, factor: int) -> Tensor:
    return take_by(lo, x, lambda places: torch.pixel_shuffle(places, factor))


@rule("aten.pixel_unshuffle", view=True)
def _pixel_unshuffle(lo: Lowering, x: Tensor, factor: int) -> Tensor:
    return take_by(lo, x, lambda places: torch.pixel_unshuffle(places, factor))


@rule("aten.pad", "aten.constant_pad_nd")
def _pad(
    lo: Lowering, x: Tensor, pad: Sequence[int], mode: Any = "constant", value: float | None = None
) -> Tensor:
    """Padding by a constant: concatenations; negative padding cuts."""
    if not isinstance(mode, str):  # constant_pad_nd has no mode
        mode, value = "constant", mode
    if mode != "constant":
        raise Unsupported(f"pads in mode {mode!r}", "pad with a constant")
    name = x.name
    for i in range(len(pad) // 2):
        name = _pad_axis(lo, name, x.rank - 1 - i, pad[2 * i], pad[2 * i + 1], float(value or 0.0))
    return lo.wrap(name)


def _pad_axis(lo: Lowering, name: str, axis: int, front: int, back: int, value: float) -> str:
    shape = lo.build.shape(name)
    if front < 0 or back < 0:
        name = lo.build.slice(name, axis, max(-front, 0), shape[axis] - max(-back, 0))
        shape = lo.build.shape(name)
    parts = [name]
    for count, place in ((front, 0), (back, len(parts))):
        if count > 0:
            sizes = (*shape[:axis], count, *shape[axis + 1 :])
            parts.insert(place if place == 0 else len(parts), _filled(lo, name, sizes, value))
    return name if len(parts) == 1 else lo.build.view("cat", parts, axis)


def _filled(lo: Lowering, like: str, shape: tuple[int, ...], value: float) -> str:
    kind = lo.build.graph.values[like].kind
    dtype = {"float": np.float32, "int": np.int64, "bool": np.bool_}[kind]
    return lo.build.const(np.full(shape, value, dtype), f"{lo.name}.padding")
