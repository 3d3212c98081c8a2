"""Weights that fit the samples: GPTQ, after a refit to the inputs as they are quantized.

GPTQ (Frantar, Ashkboos, Hoefler, Alistarh: "GPTQ: Accurate Post-Training Quantization for
Generative Pre-trained Transformers", ICLR 2023, arXiv 2210.17323) quantizes a matrix column by
column; the error of each goes into the columns not yet quantized, so that the products with the
samples change least. Written from the paper, with what its authors' later work suggests: columns
in the order of falling Hessian diagonal, scales of groups fixed beforehand.

The samples are the integer codes that the layer will really read. What their rounding did to
the layer's output, the weights first make good as far as a damped least-squares fit can (the
idea of asymmetric calibration: Li et al., "GPTAQ", ICML 2025, arXiv 2504.02692); the bias takes the
mean.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer.compiler.quantize.scales import LayerWeights, group_layout, round_weights
from intformer.compiler.quantize.settings import WeightFormat

__all__ = ["gptq", "refit", "solve"]

Array = NDArray[Any]

DAMPING = 0.01
"""Share of the mean of the Hessian's diagonal that is added to it for GPTQ."""
REFIT_DAMPING = 0.3
"""The same for the refit."""
BLOCK = 128


def solve(
    matrix: Array,
    bias: Array,
    real: Array,
    coded: Array,
    fmt: WeightFormat,
    *,
    floor: Array,
) -> tuple[LayerWeights, Array]:
    """Codes of a layer's weights, and its bias, fitted to samples.

    Parameters
    ----------
    matrix, bias: ``[N, K]`` and ``[N]``.
    real: inputs of the layer in the float model, ``[rows, K]``.
    coded: the same rows, as the integer model computes them, as reals.
    floor: least scale of each output channel.

    Returns
    -------
    LayerWeights, bias
        ``bias`` makes the mean of the outputs over the samples that of the float model.
    """
    matrix, x, z = (np.asarray(a, np.float64) for a in (matrix, real, coded))
    mean_x, mean_z = x.mean(axis=0), z.mean(axis=0)
    x, z = x - mean_x, z - mean_z
    hessian = z.T @ z
    target = refit(matrix, x, z, hessian)
    weights = gptq(target, hessian, fmt, floor=floor)
    shifted = bias + matrix @ mean_x - weights.decode() @ mean_z
    return weights, shifted


def refit(matrix: Array, x: Array, z: Array, hessian: Array) -> Array:
    """Weights ``V`` with least ``|z V.T - x W.T|^2 + damping * |V - W|^2``."""
    k = len(hessian)
    damped = hessian + np.eye(k) * (REFIT_DAMPING * np.trace(hessian) / k + 1e-30)
    result: Array = matrix + np.linalg.solve(damped, z.T @ ((x - z) @ matrix.T)).T
    return result


def gptq(matrix: Array, hessian: Array, fmt: WeightFormat, *, floor: Array) -> LayerWeights:
    """Codes of ``matrix`` ``[N, K]`` that keep its products with the samples.

    ``hessian``: ``[K, K]``, the sum of ``z z^T`` over the samples.
    """
    k = matrix.shape[1]
    diagonal = np.diag(hessian)
    start = round_weights(matrix, fmt, floor=floor, importance=diagonal)
    step = start.steps()
    order = np.argsort(-diagonal, kind="stable")
    damped = hessian[np.ix_(order, order)].copy()
    damped[np.diag_indices(k)] += DAMPING * diagonal.mean() + 1e-30
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    rest, step_o = matrix[:, order].copy(), step[:, order]
    codes = np.empty_like(rest)
    for first in range(0, k, BLOCK):
        end = min(first + BLOCK, k)
        errors = np.empty((len(matrix), end - first))
        for i in range(first, end):
            column = rest[:, i]
            codes[:, i] = np.clip(np.rint(column / step_o[:, i]), -fmt.top, fmt.top)
            error = (column - codes[:, i] * step_o[:, i]) / upper[i, i]
            rest[:, i + 1 : end] -= np.outer(error, upper[i, i + 1 : end])
            errors[:, i - first] = error
        rest[:, end:] -= errors @ upper[first:end, end:]
    back = np.empty_like(codes)
    back[:, order] = codes
    return LayerWeights(back.astype(np.int8), start.scale, group_layout(fmt, k), start.group_scales)
