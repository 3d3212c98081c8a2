"""Index arrays to instruction fields: runs, segments, loop nests, weight order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intformer.compiler.backend.affine import loop_nests
from intformer.compiler.backend.image import parameter_bytes, weight_bytes
from intformer.compiler.backend.layout import canonical, column_segments, contiguous, row_runs
from intformer.config import CoreConfig

CONFIG = CoreConfig(name="r6c4", rows=6, cols=4, lanes=2, bus_bytes=4)


def replay(src: np.ndarray, dst: np.ndarray, width: int) -> tuple[dict[int, int], int]:
    """Destination to source of all nests, and the number of nests."""
    copied: dict[int, int] = {}
    count = 0
    for nest in loop_nests(src, dst, width=width):
        count += 1
        assert max(nest.counts) <= 4095
        for index in np.ndindex(*nest.counts):
            s = nest.src + int(np.dot(index, nest.src_strides))
            d = nest.dst + int(np.dot(index, nest.dst_strides))
            assert d not in copied
            copied[d] = s
    return copied, count


VIEWS = {
    "transpose": ((5, 7), lambda x: x.T, 1),
    "heads": ((6, 12), lambda x: x.reshape(6, 3, 4).transpose(1, 2, 0), 1),
    "merge": ((3, 6, 5), lambda x: x.transpose(1, 0, 2).reshape(6, 15), 2),
    "flatten": ((4, 7), lambda x: x.reshape(1, 28), 1),
    "slice": ((9, 8), lambda x: x[1:8:3, 2:7:2], 1),
    "expand": ((1, 8), lambda x: np.broadcast_to(x, (5, 8)), 1),
    "patches": ((8, 8), lambda x: x.reshape(4, 2, 4, 2).transpose(0, 2, 1, 3).reshape(16, 4), 8),
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("width", [2, 6, 16])
def test_loop_nests_copy_each_element_once(name, width):
    shape, view, most = VIEWS[name]
    src = view(canonical(shape, width)[0])
    dst, _ = canonical(src.shape, width)
    copied, count = replay(src, dst, width)
    assert copied == dict(zip(dst.ravel().tolist(), src.ravel().tolist(), strict=True))
    if name != "patches" and name != "merge":
        assert count <= 8 * most


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=24), st.integers(1, 3))
def test_loop_nests_of_any_mapping(source, rows):
    src = np.array([source] * rows)
    dst = 100 + np.arange(src.size).reshape(src.shape)
    copied, _ = replay(src, dst, 4)
    assert copied == dict(zip(dst.ravel().tolist(), src.ravel().tolist(), strict=True))


def test_long_loops_are_split():
    src = np.arange(8192) * 3
    copied, count = replay(src, np.arange(8192), 4)
    assert len(copied) == 8192
    assert count == 1


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-3, 6), min_size=0, max_size=30), st.integers(1, 9), st.integers(0, 5))
def test_row_runs_cover_rows_in_order(deltas, limit, breaks):
    starts = 100 + np.cumsum([0, *deltas]) * 2
    rows = []
    for run in row_runs([starts], [4], limit=limit, breaks=breaks):
        (stride,) = run.strides
        assert stride >= 0
        assert run.count <= limit
        rows += [int(starts[run.first]) + i * stride * 4 for i in range(run.count)]
        assert not breaks or run.first // breaks == (run.end - 1) // breaks
    assert rows == starts.tolist()


def test_row_runs_are_long():
    starts = np.concatenate([np.arange(5) * 8, 100 + np.arange(7) * 8])
    runs = list(row_runs([starts], [8]))
    assert [(r.first, r.end, r.strides) for r in runs] == [(0, 5, (1,)), (5, 12, (1,))]


def test_column_segments():
    matrix = np.array([[0, 1, 2, 3, 10, 11], [20, 21, 22, 23, 30, 31]])
    assert column_segments([matrix], align=2) == [(0, 4), (4, 6)]
    assert column_segments([matrix + 1], align=2) is None
    assert column_segments([matrix, np.arange(12).reshape(2, 6)], align=2) == [(0, 4), (4, 6)]


def test_contiguous():
    positions, words = canonical((2, 3, 7), 4)
    assert words == 12
    assert contiguous(positions, align=4)
    assert not contiguous(positions + 2, align=4)
    assert not contiguous(positions.transpose(0, 2, 1), align=4)


@pytest.mark.parametrize("int4", [False, True])
def test_weights_in_order_of_use(int4):
    rng = np.random.default_rng(0)
    codes = rng.integers(-7, 8, (6, 8)).astype(np.int8)
    data = weight_bytes(codes, [(0, 4), (4, 6)], CONFIG, int4=int4)
    size = 4 if int4 else 8
    columns = np.frombuffer(data, np.uint8).reshape(-1, size)
    if int4:
        low, high = columns & 15, columns >> 4
        columns = (np.stack([low, high], -1).reshape(-1, 8) ^ 8).astype(np.int8) - 8
    columns = columns.view(np.int8)
    padded = np.zeros((8, 12), np.int8)
    padded[:4, :8], padded[4:6, :8] = codes[:4], codes[4:]
    number = 0
    for nt in range(2):
        for kt in range(2):
            for c in (3, 2, 1, 0):
                want = padded[nt * 4 + c, kt * 6 : kt * 6 + 6]
                np.testing.assert_array_equal(columns[number, :6], want)
                assert not columns[number, 6:].any()
                number += 1
    assert number == len(columns)


def test_parameters_start_at_groups():
    n = 5
    data = parameter_bytes(
        np.arange(n) - 2, np.arange(n) * 100, np.arange(n) + 2, segments=[(0, 3), (3, 5)], lanes=2
    )
    entries = np.frombuffer(
        data, np.dtype([("bias", "<i4"), ("mult", "<i2"), ("shift", "u1"), ("zero", "u1")])
    )
    assert entries["bias"].tolist() == [-2, -1, 0, 0, 1, 2]
    assert entries["mult"].tolist() == [0, 100, 200, 0, 300, 400]
    assert entries["shift"].tolist() == [2, 3, 4, 2, 5, 6]
