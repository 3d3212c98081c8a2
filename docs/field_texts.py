"""What each instruction field means: the words that ``docs/generate.py`` puts beside the bits."""

from __future__ import annotations

from intformer.isa import Op

__all__ = ["FIELDS", "OPERATION_TEXTS"]

OPERATION_TEXTS: dict[Op, str] = {
    Op.END: (
        "Ends the program. The sequencer stops fetching, waits until every queue is empty and "
        "every instruction has completed, lowers `busy` and raises `done` for one cycle."
    ),
    Op.LOAD: (
        "External memory to an on-chip memory: `count` entries, packed without gaps from `ext`. "
        "An entry is a lane group in `act` (L bytes, L = `lanes`) and `wide` (2L bytes), a "
        "parameter group in `param` (8L bytes: per channel bias int32, mult int16, shift uint8, "
        "one zero byte), one value in `exp` (4 bytes, the low 24 bits count) and `table` (1 byte), "
        "and 8 bytes in `function`, 514 for a whole table (see "
        "[`function_layout.py`](../intformer/function_layout.py))."
    ),
    Op.STORE: (
        "`act` or `wide` to external memory: `count` lane groups, packed. Zeros fill the last beat."
    ),
    Op.GATHER: (
        "Embedding lookup. For j < `n`: id = element j, counted from word `idx` of `wide`; "
        "`row_groups` lane groups from byte `ext + id * ext_stride` go to word "
        "`addr + j * stride` of `mem`. Ids are not checked."
    ),
    Op.FETCH_STREAM: (
        "Static weights into the column FIFO: `columns` columns of `rows` weights, each column "
        "padded to whole beats, so `columns * ceil(rows / weights per beat)` beats. A tile is "
        "`cols` columns, the last column of the tile first. int4: two weights per byte, the low "
        "nibble first. With `scales` above 0 (cores with `group_scales`) every `group_tiles` tiles "
        "form a group, and before the first tile of a group stand the scales of the array's "
        "columns for its sums: `cols` bytes, uint8, column 0 first, padded to whole beats. There "
        "are `scales` groups; `columns` counts weights only."
    ),
    Op.FETCH_ACT: (
        "A stationary operand from `act` into the column FIFO. For nt < `n_tiles`, for "
        "kt < `k_tiles`, for c = cols-1 down to 0: the word at "
        "`base + (nt*cols + c)*stride + kt`; all zero if `nt*cols + c >= n`; for the last kt, "
        "lanes from `k_last` on are zero."
    ),
    Op.MATMUL: (
        "For kt < `k_tiles`: take the next tile from the column FIFO; for t < `rows`: accumulator "
        "row `acc + t` (+)= the word at `base + t*stride + kt` times the tile. kt = 0 overwrites. "
        "The sums of a tile that came in a group are multiplied by the group's scales first."
    ),
    Op.POST_ACC: (
        "The epilogue `post` on accumulators: `rows` rows of `groups` lane groups, from "
        "accumulator row `src` on; `src_sub` and `src_stride` are ignored. With `src_mem` 1 (cores "
        "with `row_scales`) they are from accumulator row `acc` on, and the sums of row `t` are "
        "first multiplied by a factor, the int16 code in the first lane of word "
        "`src + t*src_stride` of `wide`, and divided by 2^12; `src_sub` is 0. Group `g` of "
        "row `t` of `dst` lies at lane group `dst_sub + g` counted from word "
        "`dst + t*dst_stride`, carrying into the next words; likewise for `res`."
    ),
    Op.POST_MEM: (
        "The same on a stored tensor, without factors; the operand `src` is addressed like `dst`."
    ),
    Op.SOFTMAX: (
        "Softmax over `rows` rows of `n` int8 codes in `act`, to uint8 codes in `act`. Element j "
        "of row i is kept if `j < len0 + i*len_step` and, if `mask_en`, the mask's byte at the "
        "same place is not 0."
    ),
    Op.LAYERNORM: (
        "LayerNorm over `rows` rows of `n` int16 codes in `wide`, to int8 codes in `act` or int16 "
        "codes in `wide`. Parameter entries hold beta as bias, gamma as mult, and shift."
    ),
    Op.ROWSCALE: (
        "int8 codes in `act` of `rows` rows of `n` int16 codes in `wide`, each row at its own "
        "scale: `round(x * 127 / top)`, half up, with `top` the row's largest magnitude. The "
        "factor of row t, `min(top, 32767)`, goes to the first lane of word "
        "`factor + t*factor_stride` of `wide`. Cores with `row_scales` only."
    ),
    Op.MOVE: (
        "For i0 < `n0`, i1 < `n1`, i2 < `n2`: element `dst + i0*d0 + i1*d1 + i2*d2` = element "
        "`src + i0*s0 + i1*s1 + i2*s2`, both in memory `mem`. Positions and strides are "
        "(word, lane) pairs; a negative stride has a negative word and a lane from 0 up. No "
        "iteration may read what an earlier one of the same instruction wrote."
    ),
}

_RANGE = {
    "lo": "smallest result, before the table",
    "hi": "largest result, before the table",
    "zero_point": "added before saturation",
}
_TRANSFER = {
    "mem": "memory, see [Memories](#memories)",
    "addr": "first word (`act`, `wide`), group (`param`) or table (`exp`, `table`, `function`)",
    "count": "entries, at least 1",
    "ext": "byte address in external memory",
}
_POST = {
    "rows": "rows, at least 1",
    "groups": "lane groups per row, at least 1",
    "tail": "valid lanes in the last group of a row, 1 to `lanes`",
    "src_mem": "0 `act`, 1 `wide`; POST_ACC: 1: the rows have factors, in `wide`",
    "src": "first word; POST_ACC without factors: first accumulator row",
    "src_sub": "first lane group within the word",
    "src_stride": "words from row to row",
    "dst_mem": "0 `act`, 1 `wide`",
    "dst": "first word",
    "dst_sub": "first lane group within the word",
    "dst_stride": "words from row to row",
    "res_en": "1: add the residual",
    "res_mem": "0 `act`, 1 `wide`",
    "res": "first word of the residual",
    "res_sub": "first lane group within the word",
    "res_stride": "words from row to row",
    "res_mult": "multiplier of the residual",
    "res_shift": "shift of the residual, 2 to 47",
    "param": "first parameter group",
    "param_step": "1: next parameter group for each lane group; 0: one for all",
    "table_en": "1: look the result up",
    "table": "activation table, or function",
    **_RANGE,
    "function_en": "1: the function of the result; not with `table_en`",
}

FIELDS: dict[Op, dict[str, str]] = {
    Op.END: {},
    Op.LOAD: _TRANSFER,
    Op.STORE: {**_TRANSFER, "mem": "0 `act`, 1 `wide`", "addr": "first word"},
    Op.GATHER: {
        "mem": "0 `act`, 1 `wide`",
        "addr": "first word",
        "stride": "words from row to row",
        "idx": "first word of the ids in `wide`",
        "n": "ids, at least 1",
        "row_groups": "lane groups per row",
        "ext_stride": "bytes from row to row of the table, a multiple of `bus_bytes`",
        "ext": "byte address of the table",
    },
    Op.FETCH_STREAM: {
        "ext": "byte address of the first column",
        "columns": "columns, at least 1",
        "int4": "1: int4 weights; 0: int8",
        "group_tiles": "tiles of a group, if there are scales",
        "scales": "groups, each with its scales; 0: no scales",
    },
    Op.FETCH_ACT: {
        "base": "first word",
        "stride": "words from one output's row to the next",
        "n": "outputs; columns past it are zero",
        "n_tiles": "tiles of outputs, at least 1",
        "k_tiles": "words of contraction, at least 1",
        "k_last": "valid lanes of the last word, 1 to `rows` of the array",
    },
    Op.MATMUL: {
        "base": "first word of activations in `act`",
        "stride": "words from row to row",
        "rows": "activation rows, at least 1",
        "k_tiles": "tiles along the contraction, at least 1",
        "acc": "first accumulator row",
        "unsigned": "1: the activations are uint8; 0: int8",
    },
    Op.POST_ACC: {**_POST, "acc": "with factors: first accumulator row"},
    Op.POST_MEM: _POST,
    Op.SOFTMAX: {
        "rows": "rows, at least 1",
        "n": "elements per row, 1 to `row_max`",
        "src": "first word",
        "src_stride": "words from row to row",
        "dst": "first word",
        "dst_stride": "words from row to row",
        "mask_en": "1: a mask in `act`",
        "mask": "first word of the mask",
        "mask_stride": "words from row to row; 0: one mask row for all",
        "len0": "kept elements of the first row",
        "len_step": "1: one more in each further row (causal)",
        "table": "exponential table",
    },
    Op.LAYERNORM: {
        "rows": "rows, at least 1",
        "n": "elements per row, 1 to `row_max`",
        "src": "first word in `wide`",
        "src_stride": "words from row to row",
        "dst_mem": "0 `act`, 1 `wide`",
        "dst": "first word",
        "dst_stride": "words from row to row",
        "param": "first parameter group",
        "eps": "eps of the integer variance",
        **_RANGE,
        "lo": "smallest result",
        "hi": "largest result",
    },
    Op.ROWSCALE: {
        "rows": "rows, at least 1",
        "n": "elements per row, 1 to `row_scales`",
        "src": "first word in `wide`",
        "src_stride": "words from row to row",
        "dst": "first word in `act`",
        "dst_stride": "words from row to row",
        "factor": "word of the first factor in `wide`",
        "factor_stride": "words from factor to factor",
    },
    Op.MOVE: {
        "mem": "0 `act`, 1 `wide`",
        "n0": "turns of the outermost loop, at least 1",
        "n1": "turns of the middle loop, at least 1",
        "n2": "turns of the innermost loop, at least 1",
        **{
            name: text
            for end, what in (("src", "source"), ("dst", "target"))
            for name, text in (
                (end, f"first word of the {what}"),
                (f"{end}_lane", f"first lane of the {what}"),
                *(
                    pair
                    for i in range(3)
                    for pair in (
                        (f"{end[0]}{i}", f"stride of the {what} in loop {i}: words"),
                        (f"{end[0]}{i}_lane", f"stride of the {what} in loop {i}: lanes"),
                    )
                ),
            )
        },
    },
}
