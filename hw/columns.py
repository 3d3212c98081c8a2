"""What FETCH hands to MATMUL: columns of weights, and the scales of groups of them."""

from __future__ import annotations

from amaranth.hdl import unsigned
from amaranth.lib import data

from intformer.config import CoreConfig

__all__ = ["column_layout", "scale_beats"]


def column_layout(config: CoreConfig) -> data.StructLayout:
    """An entry of the column FIFO.

    ``weights``: a column of weights; its lowest byte is that of row 0. With ``group_scales`` also
    ``is_scales``: these are no weights, but the scales of the array's columns for the tiles that
    follow, that of column 0 lowest; and ``scaled``: these weights belong to the scales before
    them.
    """
    members = {"weights": unsigned(8 * config.rows)}
    if config.group_scales:
        members |= {"is_scales": unsigned(1), "scaled": unsigned(1)}
    return data.StructLayout(members)


def scale_beats(config: CoreConfig) -> int:
    """Beats of the scales of a group in external memory."""
    return -(-config.cols // config.bus_bytes)
