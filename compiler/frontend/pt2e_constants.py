"""Dequantized constants of PT2E graphs, which remember their scales."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["CodedTensor", "coded_constant"]

_MOVES = {
    "clone",
    "contiguous",
    "detach",
    "expand",
    "permute",
    "reshape",
    "squeeze",
    "t",
    "transpose",
    "unsqueeze",
    "view",
}
"""Operations that only move elements: the scales move along. Others make plain tensors."""


class CodedTensor(torch.Tensor):
    """A constant of multiples of ``scale``, a tensor of the same shape."""

    scale: torch.Tensor

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **kwargs)
            name = getattr(func, "__name__", "").partition(".")[0]
            source = args[0] if args else None
            if name not in _MOVES or not isinstance(source, CodedTensor):
                return _plain(result)
            return _coded(_plain(result), func(source.scale, *args[1:], **kwargs))


def _plain(result: Any) -> Any:
    return result.as_subclass(torch.Tensor) if isinstance(result, CodedTensor) else result


def _coded(tensor: torch.Tensor, scale: torch.Tensor) -> CodedTensor:
    coded = tensor.as_subclass(CodedTensor)
    coded.scale = scale
    return coded


def coded_constant(op: str, args: tuple[Any, ...], result: Any) -> Any:
    """``result`` of an operation on constants; of a dequantization, with its scales."""
    if op.startswith("quantized_decomposed.dequantize_per_tensor"):
        scale = torch.as_tensor(args[1], dtype=torch.float64).reshape(())
        return _coded(result, scale.expand(result.shape))
    if op.startswith("quantized_decomposed.dequantize_per_channel"):
        _, scales, _, axis, *_ = args
        sizes = [1] * result.ndim
        sizes[axis] = -1
        return _coded(result, scales.to(torch.float64).reshape(sizes).expand(result.shape))
    return result
