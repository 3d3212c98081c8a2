"""Rules for operations that move data without arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from intformer.compiler import graph as fg
from intformer.compiler.frontend.issues import Unsupported
from intformer.compiler.frontend.onnx.lowering import Lowering, rule
from intformer.compiler.frontend.onnx.values import (
    Const,
    MaskForm,
    Partial,
    Quantized,
    Tensor,
)

__all__ = ["moved", "reshape"]


def moved(lo: Lowering, x: Any, move: Callable[[Tensor], Tensor]) -> Any:
    """``move`` applied to whatever ``x`` stands for; codes and mask forms move with it."""
    if isinstance(x, Quantized):
        return replace(x, value=moved(lo, x.value, move))
    if isinstance(x, MaskForm):
        return replace(x, keep=move(x.keep))
    if isinstance(x, Partial):
        x = lo.whole(x)
    return replace(move(x), coding=x.coding)


def _inner(x: Any) -> Any:
    """The tensor whose shape counts."""
    return x.value if isinstance(x, Quantized) else x


def ints(x: Any, what: str) -> list[int]:
    """A constant operand as integers."""
    if not isinstance(x, Const):
        raise Unsupported(f"{what} are computed from the inputs", "export with static shapes")
    return [int(v) for v in np.ravel(x.array)]


def reshape(lo: Lowering, x: Tensor, shape: Sequence[int]) -> Tensor:
    """Reshape to a whole shape."""
    return lo.wrap(lo.build.reshape(x.name, tuple(shape), lo.name))


def full_shape(shape: Sequence[int], wanted: Sequence[int], *, zero_copies: bool) -> list[int]:
    """``wanted`` with its 0 and -1 replaced, as Reshape does it."""
    sizes = [shape[i] if n == 0 and zero_copies else n for i, n in enumerate(wanted)]
    known = prod(n for n in sizes if n != -1)
    return [prod(shape) // max(known, 1) if n == -1 else n for n in sizes]


@rule("Identity", "Dropout", partial=True)
def _identity(lo: Lowering, x: Any, *_rest: Any) -> Any:
    if lo.node.op == "Dropout" and len(_rest) > 1 and _rest[1] is not None:
        training = _rest[1]
        if not isinstance(training, Const) or bool(training.array.any()):
            raise Unsupported("dropout in training mode is random", "export in inference mode")
    return x


@rule("Shape", partial=True)
def _shape(lo: Lowering, x: Any) -> Const:
    start, end = lo.attribute("start", 0), lo.attribute("end")
    return Const(np.array(_inner(x).shape[start:end], np.int64))


@rule("Size", partial=True)
def _size(_lo: Lowering, x: Any) -> Const:
    return Const(np.array(prod(_inner(x).shape), np.int64))


@rule("Reshape", partial=True)
def _reshape(lo: Lowering, x: Any, shape: Any) -> Any:
    wanted = ints(shape, "the sizes of a reshape")
    sizes = full_shape(_inner(x).shape, wanted, zero_copies=not lo.attribute("allowzero", 0))
    return moved(lo, x, lambda t: reshape(lo, t, sizes))


@rule("Flatten", partial=True)
def _flatten(lo: Lowering, x: Any) -> Any:
    shape = _inner(x).shape
    axis = lo.attribute("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    sizes = (prod(shape[:axis]), prod(shape[axis:]))
    return moved(lo, x, lambda t: reshape(lo, t, sizes))


def _axes(lo: Lowering, axes: Any) -> list[int] | None:
    if axes is None:
        found = lo.attribute("axes")
        return None if found is None else [int(a) for a in found]
    return ints(axes, "the axes")


@rule("Squeeze", partial=True)
def _squeeze(lo: Lowering, x: Any, axes: Any = None) -> Any:
    shape = _inner(x).shape
    chosen = _axes(lo, axes)
    gone = [i for i, n in enumerate(shape) if n == 1] if chosen is None else chosen
    gone = [a % len(shape) for a in gone]
    sizes = [n for i, n in enumerate(shape) if i not in gone]
    return moved(lo, x, lambda t: reshape(lo, t, sizes))


@rule("Unsqueeze", partial=True)
def _unsqueeze(lo: Lowering, x: Any, axes: Any = None) -> Any:
    shape = list(_inner(x).shape)
    chosen = _axes(lo, axes) or []
    rank = len(shape) + len(chosen)
    for axis in sorted(a % rank for a in chosen):
        shape.insert(axis, 1)
    return moved(lo, x, lambda t: reshape(lo, t, shape))


@rule("Transpose", partial=True)
def _transpose(lo: Lowering, x: Any) -> Any:
    rank = len(_inner(x).shape)
    axes = tuple(lo.attribute("perm") or reversed(range(rank)))
    return moved(lo, x, lambda t: lo.wrap(lo.build.permute(t.name, axes, lo.name)))


@rule("Expand", partial=True)
def _expand(lo: Lowering, x: Any, shape: Any) -> Any:
    wanted = ints(shape, "the sizes of an expansion")
    sizes = np.broadcast_shapes(_inner(x).shape, tuple(wanted))
    return moved(lo, x, lambda t: lo.wrap(lo.build.expand(t.name, sizes, lo.name)))


@rule("Tile", partial=True)
def _tile(lo: Lowering, x: Any, repeats: Any) -> Any:
    times = ints(repeats, "the repeats of a tiling")
    shape = _inner(x).shape

    def tile(t: Tensor) -> Tensor:
        paired = [n for size in shape for n in (1, size)]
        wide = tuple(n for r, size in zip(times, shape, strict=True) for n in (r, size))
        name = lo.build.expand(lo.build.reshape(t.name, tuple(paired)), wide)
        return reshape(lo, lo.wrap(name), [r * n for r, n in zip(times, shape, strict=True)])

    return moved(lo, x, tile)


@rule("Slice", partial=True)
def _slice(lo: Lowering, x: Any, *bounds: Any) -> Any:
    shape = _inner(x).shape
    if lo.node.inputs[1:]:
        starts, ends = (ints(v, "the bounds of a slice") for v in bounds[:2])
        axes = ints(bounds[2], "the axes") if len(bounds) > 2 and bounds[2] else None
        steps = ints(bounds[3], "the steps") if len(bounds) > 3 and bounds[3] else None
    else:
        starts, ends = list(lo.attribute("starts")), list(lo.attribute("ends"))
        axes, steps = lo.attribute("axes"), None
    axes = list(range(len(starts))) if axes is None else list(axes)
    steps = [1] * len(starts) if steps is None else steps
    arg = [[0, n, 1] for n in shape]
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 1:
            raise Unsupported(f"slices with step {step}", "slice with a positive step")
        axis %= len(shape)
        arg[axis] = list(slice(start, end, step).indices(shape[axis]))
    return moved(lo, x, lambda t: lo.wrap(lo.build.view("slice", [t.name], arg, lo.name)))


@rule("Split", partial=True)
def _split(lo: Lowering, x: Any, sizes: Any = None) -> list[Any]:
    shape = _inner(x).shape
    axis = lo.attribute("axis", 0) % len(shape)
    if sizes is not None:
        parts = ints(sizes, "the sizes of a split")
    elif lo.attribute("split") is not None:
        parts = [int(n) for n in lo.attribute("split")]
    else:
        size = -(-shape[axis] // len(lo.node.outputs))
        parts = [min(size, shape[axis] - i) for i in range(0, shape[axis], size)]
    results, start = [], 0
    for size, name in zip(parts, lo.node.outputs, strict=False):
        results.append(moved(lo, x, _cut(lo, axis, start, start + size, name)))
        start += size
    return results


def _cut(lo: Lowering, axis: int, start: int, stop: int, name: str) -> Callable[[Tensor], Tensor]:
    return lambda t: lo.wrap(lo.build.slice(t.name, axis, start, stop, name=name))


@rule("Concat")
def _concat(lo: Lowering, *parts: Any) -> Any:
    if any(isinstance(p, Quantized) for p in parts):
        raise Unsupported("joins quantized codes", "dequantize in front of Concat")
    names = [lo.name_of(p) for p in parts]
    axis = lo.attribute("axis") % len(parts[0].shape)
    return lo.wrap(lo.build.view("cat", names, axis, lo.name))


@rule("Gather", partial=True)
def _gather(lo: Lowering, x: Any, index: Any) -> Any:
    axis = lo.attribute("axis", 0)
    if isinstance(x, Const) and isinstance(index, Tensor):
        return _embedding(lo, x, index, axis)
    if not isinstance(index, Const):
        raise Unsupported(
            "takes elements of a computed tensor at computed places",
            "look up in a constant table, or take constant places",
        )
    shape = _inner(x).shape
    axis %= len(shape)
    places = [i % shape[axis] for i in ints(index, "the places")]
    sizes = (*shape[:axis], *index.shape, *shape[axis + 1 :])

    def take(t: Tensor) -> Tensor:
        parts = [lo.build.slice(t.name, axis, *run) for run in _runs(places)]
        name = parts[0] if len(parts) == 1 else lo.build.view("cat", parts, axis)
        return reshape(lo, lo.wrap(name), sizes)

    return moved(lo, x, take)


def _runs(places: list[int]) -> list[tuple[int, int]]:
    """Places as runs of neighbours."""
    runs: list[tuple[int, int]] = []
    for place in places:
        if runs and runs[-1][1] == place:
            runs[-1] = (runs[-1][0], place + 1)
        else:
            runs.append((place, place + 1))
    return runs


def _embedding(lo: Lowering, table: Const, ids: Tensor, axis: int) -> Tensor:
    if axis % table.array.ndim != 0 or table.array.ndim != 2:
        raise Unsupported(
            f"looks up along axis {axis} of a table of {table.array.ndim} axes",
            "look up rows of a matrix",
        )
    if lo.kind(ids) != "int":
        raise Unsupported(f"ids are of kind {lo.kind(ids)}", "use integers as ids")
    if len(table.array) > 1 << 15:
        raise Unsupported(
            f"ids are 16-bit codes, but the table has {len(table.array)} rows",
            f"use a vocabulary of at most {1 << 15}",
        )
    names = [ids.name, lo.build.const(table.array, f"{lo.name}.table")]
    shape = (*ids.shape, table.shape[1])
    return lo.wrap(lo.build.node(fg.Embedding, lo.name, names, shape))
