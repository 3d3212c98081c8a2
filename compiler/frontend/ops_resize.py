"""Rules for resampling images: one product with a constant matrix per axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from intformer.compiler.frontend.issues import Unsupported
from intformer.compiler.frontend.lowering import Lowering, Tensor, rule

__all__: list[str] = []


@rule("aten.upsample_bilinear2d")
def _bilinear(
    lo: Lowering,
    x: Tensor,
    size: Sequence[int] | None,
    align_corners: bool,
    scales: Sequence[float] | None = None,
    *rest: Any,
) -> Tensor:
    """Bilinear in height and width: nothing to do at equal sizes."""
    if rest or isinstance(scales, float) or size is None:
        raise Unsupported("resizes by a scale factor", "resize to a size: interpolate(size=...)")
    for axis in (3, 2):
        if x.shape[axis] == int(size[axis - 2]) or x.rank != 4:
            continue
        have, wanted = x.shape[axis], int(size[axis - 2])
        basis = torch.eye(have).reshape(1, have, 1, have)
        seen = torch.ops.aten.upsample_bilinear2d(basis, [1, wanted], align_corners)
        matrix = lo.const(seen.reshape(have, wanted).t(), f"{lo.name}.matrix")
        name = x.name if axis == 3 else lo.build.swap_last(x.name)
        name = lo.build.matmul(name, matrix, name=lo.name)
        x = lo.wrap(name if axis == 3 else lo.build.swap_last(name))
    return x
