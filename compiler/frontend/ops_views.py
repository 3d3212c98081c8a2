"""Rules for operations that move data without arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from intformer.compiler.frontend.issues import Unsupported
from intformer.compiler.frontend.lowering import Lowering, Masked, Tensor, rule
from intformer.compiler.frontend.ops_masks import to_kind

__all__: list[str] = []


@rule("aten.clone", "aten.contiguous", "aten.alias", "aten.detach", "aten.lift_fresh_copy")
def _same(_lo: Lowering, x: Tensor | Masked, **_kwargs: Any) -> Tensor | Masked:
    return x


@rule("aten.dropout", "aten.feature_dropout")
def _dropout(_lo: Lowering, x: Tensor | Masked, _p: float, train: bool) -> Tensor | Masked:
    if train:
        raise Unsupported("dropout in training mode is random", "export the model after .eval()")
    return x


@rule("aten.to", "aten._to_copy", "aten.type_as")
def _to(lo: Lowering, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    dtype = next((a for a in (*args, *kwargs.values()) if isinstance(a, torch.dtype)), None)
    if dtype is None or not isinstance(x, Tensor):
        return x
    return to_kind(lo, x, dtype)


@rule("aten._assert_tensor_metadata")
def _nothing(_lo: Lowering, *_args: Any, **_kwargs: Any) -> None:
    return None


def reshape(lo: Lowering, x: Tensor, shape: Sequence[int]) -> Tensor:
    """Reshape with one size -1 allowed."""
    size, known = 1, 1
    for n in x.shape:
        size *= n
    for n in shape:
        known *= n if n != -1 else 1
    full = tuple(size // known if n == -1 else n for n in shape)
    return lo.wrap(lo.build.reshape(x.name, full, lo.name))


@rule("aten.view", "aten.reshape", "aten._unsafe_view", "aten.view_copy", view=True)
def _reshape(lo: Lowering, x: Tensor, shape: Sequence[int]) -> Tensor:
    return reshape(lo, x, shape)


@rule("aten.flatten", view=True)
def _flatten(lo: Lowering, x: Tensor, start: int = 0, end: int = -1) -> Tensor:
    start, end = x.axis(start), x.axis(end)
    return reshape(lo, x, (*x.shape[:start], -1, *x.shape[end + 1 :]))


@rule("aten.unflatten", view=True)
def _unflatten(lo: Lowering, x: Tensor, axis: int, sizes: Sequence[int]) -> Tensor:
    axis = x.axis(axis)
    return reshape(lo, x, (*x.shape[:axis], *sizes, *x.shape[axis + 1 :]))


@rule("aten.squeeze", "aten.squeeze_copy", view=True)
def _squeeze(lo: Lowering, x: Tensor, axes: int | Sequence[int] | None = None) -> Tensor:
    chosen = range(x.rank) if axes is None else ([axes] if isinstance(axes, int) else axes)
    gone = {x.axis(a) for a in chosen if x.shape[x.axis(a)] == 1}
    return reshape(lo, x, [n for i, n in enumerate(x.shape) if i not in gone])


@rule("aten.unsqueeze", "aten.unsqueeze_copy", view=True)
def _unsqueeze(lo: Lowering, x: Tensor, axis: int) -> Tensor:
    axis = axis % (x.rank + 1)
    return reshape(lo, x, (*x.shape[:axis], 1, *x.shape[axis:]))


@rule("aten.permute", "aten.permute_copy", view=True)
def _permute(lo: Lowering, x: Tensor, axes: Sequence[int]) -> Tensor:
    return lo.wrap(lo.build.permute(x.name, tuple(x.axis(a) for a in axes), lo.name))


@rule("aten.transpose", "aten.transpose_copy", view=True)
def _transpose(lo: Lowering, x: Tensor, a: int, b: int) -> Tensor:
    axes = list(range(x.rank))
    axes[x.axis(a)], axes[x.axis(b)] = axes[x.axis(b)], axes[x.axis(a)]
    return lo.wrap(lo.build.permute(x.name, tuple(axes), lo.name))


@rule("aten.t", "aten.numpy_T", "aten.mT")
def _t(lo: Lowering, x: Tensor) -> Tensor:
    return x if x.rank < 2 else _transpose(lo, x, -2, -1)


@rule("aten.slice", "aten.slice_copy", view=True)
def _slice(
    lo: Lowering,
    x: Tensor,
    axis: int = 0,
    start: int | None = None,
    stop: int | None = None,
    step: int = 1,
) -> Tensor:
    axis = x.axis(axis)
    start, stop, step = slice(start, stop, step).indices(x.shape[axis])
    return lo.wrap(lo.build.slice(x.name, axis, start, stop, step, lo.name))


@rule("aten.select", "aten.select_copy", view=True)
def _select(lo: Lowering, x: Tensor, axis: int, index: int) -> Tensor:
    axis = x.axis(axis)
    index %= x.shape[axis]
    part = lo.wrap(lo.build.slice(x.name, axis, index, index + 1))
    return reshape(lo, part, (*x.shape[:axis], *x.shape[axis + 1 :]))


@rule("aten.narrow", view=True)
def _narrow(lo: Lowering, x: Tensor, axis: int, start: int, length: int) -> Tensor:
    return _slice(lo, x, axis, start, start + length)


@rule("aten.unbind")
def _unbind(lo: Lowering, x: Tensor, axis: int = 0) -> list[Tensor]:
    return [_select(lo, x, axis, i) for i in range(x.shape[x.axis(axis)])]


@rule("aten.split", "aten.split_with_sizes")
def _split(lo: Lowering, x: Tensor, size: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    n = x.shape[x.axis(axis)]
    if isinstance(size, int):
        size = [min(size, n - i) for i in range(0, n, size)]
    starts = [sum(size[:i]) for i in range(len(size))]
    return [_slice(lo, x, axis, i, i + k) for i, k in zip(starts, size, strict=True)]


@rule("aten.chunk")
def _chunk(lo: Lowering, x: Tensor, chunks: int, axis: int = 0) -> list[Tensor]:
    return _split(lo, x, -(-x.shape[x.axis(axis)] // chunks), axis)


@rule("aten.cat", "aten.concat")
def _cat(lo: Lowering, tensors: Sequence[Tensor | torch.Tensor], axis: int = 0) -> Tensor:
    names = [lo.name_of(t) for t in tensors]
    return lo.wrap(lo.build.view("cat", names, axis % len(tensors[0].shape), lo.name))


@rule("aten.stack")
def _stack(lo: Lowering, tensors: Sequence[Tensor | torch.Tensor], axis: int = 0) -> Tensor:
    axis = axis % (len(tensors[0].shape) + 1)
    return _cat(
        lo,
        [_unsqueeze(lo, t, axis) if isinstance(t, Tensor) else t.unsqueeze(axis) for t in tensors],
        axis,
    )


@rule("aten.expand", "aten.expand_copy", view=True)
def _expand(lo: Lowering, x: Tensor, sizes: Sequence[int], **_kwargs: Any) -> Tensor:
    lead = len(sizes) - x.rank
    shape = [x.shape[i - lead] if n == -1 else n for i, n in enumerate(sizes)]
    return lo.wrap(lo.build.expand(x.name, tuple(shape), lo.name))


@rule("aten.expand_as")
def _expand_as(lo: Lowering, x: Tensor, other: Tensor) -> Tensor:
    return _expand(lo, x, other.shape)


@rule("aten.repeat")
def _repeat(lo: Lowering, x: Tensor, repeats: Sequence[int]) -> Tensor:
    shape = (*(1 for _ in repeats[x.rank :]), *x.shape)
    paired = [n for size in shape for n in (1, size)]
    wide = [n for r, size in zip(repeats, shape, strict=True) for n in (r, size)]
    x = lo.wrap(lo.build.expand(lo.build.reshape(x.name, tuple(paired)), tuple(wide)))
    return reshape(lo, x, [r * n for r, n in zip(repeats, shape, strict=True)])


@rule("aten.embedding")
def _embedding(lo: Lowering, table: torch.Tensor, ids: Tensor, *_args: Any) -> Tensor:
    from intformer.compiler import graph as fg

    if not isinstance(table, torch.Tensor):
        raise Unsupported("the table is computed", "use a constant embedding table")
    if len(table) > 1 << 15:
        raise Unsupported(
            f"ids are 16-bit codes, but the table has {len(table)} rows",
            f"use a vocabulary of at most {1 << 15}",
        )
    names = [ids.name, lo.const(table, f"{lo.name}.table")]
    shape = (*ids.shape, table.shape[1])
    return lo.wrap(lo.build.node(fg.Embedding, lo.name, names, shape))
