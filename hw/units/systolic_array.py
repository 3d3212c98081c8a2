"""The systolic array as a public unit; :mod:`intformer.hw.matmul.array` holds it."""

from intformer.hw.matmul.array import SystolicArray

__all__ = ["SystolicArray"]
