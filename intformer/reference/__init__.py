"""The integer reference: the only definition of what every operation means.

Each function takes NumPy integer arrays and returns NumPy integer arrays; nothing here is
floating point. The instruction-level simulator, the compiler's tests and the RTL benches all
call these functions, and the hardware equals them code for code.

Notation: ``>>`` is the arithmetic shift (rounds toward minus infinity), ``clip(v, lo, hi)``
saturates. Sums are exact in int64; the compiler proves that they fit the hardware's widths
(:data:`ACC_BITS` and so on), and the functions raise ``OverflowError`` if they do not.
"""

from intformer.reference.elementwise import elementwise_add, elementwise_multiply
from intformer.reference.groups import GROUP_SCALE_BITS, group_scale, grouped_matmul
from intformer.reference.integers import LIMITS, IntArray
from intformer.reference.norm import BETA_SHIFT, NORM_BITS, NORM_FRACTION, layernorm, rmsnorm
from intformer.reference.rescale import (
    ACC_BITS,
    FACTOR_SHIFT,
    MULT_BITS,
    RESCALE_SHIFT_MAX,
    SHIFT_MAX,
    SHIFT_MIN,
    matmul,
    post,
    requantize,
    rescale,
    round_shift,
)
from intformer.reference.rotary import ROTARY_FRACTION, rotary
from intformer.reference.rows import argmax, row_codes, row_maximum, row_scale
from intformer.reference.softmax import (
    EXP_BITS,
    ExpTables,
    exponential,
    softmax,
    softmax_keep,
)
from intformer.reference.tables import (
    BREAKS_MAX,
    QuadraticTable,
    check_function,
    quadratic_table,
    table_lookup,
)

__all__ = [
    "ACC_BITS",
    "BETA_SHIFT",
    "BREAKS_MAX",
    "EXP_BITS",
    "FACTOR_SHIFT",
    "GROUP_SCALE_BITS",
    "LIMITS",
    "MULT_BITS",
    "NORM_BITS",
    "NORM_FRACTION",
    "RESCALE_SHIFT_MAX",
    "ROTARY_FRACTION",
    "SHIFT_MAX",
    "SHIFT_MIN",
    "ExpTables",
    "IntArray",
    "QuadraticTable",
    "argmax",
    "check_function",
    "elementwise_add",
    "elementwise_multiply",
    "exponential",
    "group_scale",
    "grouped_matmul",
    "layernorm",
    "matmul",
    "post",
    "quadratic_table",
    "requantize",
    "rescale",
    "rmsnorm",
    "rotary",
    "round_shift",
    "row_codes",
    "row_maximum",
    "row_scale",
    "softmax",
    "softmax_keep",
    "table_lookup",
]
