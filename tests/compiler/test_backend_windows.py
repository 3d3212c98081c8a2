"""Row sweeps, ancestors of views, and cuts of copies: what convolutions ask of the back end."""

from __future__ import annotations

import numpy as np
import pytest

from intformer.compiler.backend.affine import loop_nests
from intformer.compiler.backend.layout import RowRun, row_runs
from intformer.compiler.backend.lineage import ancestors, derive
from intformer.compiler.backend.sweeps import Sweep, sweeps
from intformer.compiler.integer_graph import View


def _runs(words: np.ndarray) -> list[RowRun]:
    return list(row_runs([words], [1]))


def test_lines_of_pixels_become_one_sweep() -> None:
    words = np.array([10 * y + 3 * x for y in range(3) for x in range(2)])  # a gap of 1.33 pixels
    assert len(sweeps(_runs(words), words, limit=64, least=8)) == 3
    words = np.array([12 * y + 3 * x for y in range(3) for x in range(2)])  # of 1 pixel at the end
    (sweep,) = sweeps(_runs(words), words, limit=64, least=8)
    assert isinstance(sweep, Sweep)
    assert (sweep.first, sweep.end, sweep.count, sweep.strides) == (0, 6, 10, (3,))
    assert sweep.pieces == ((slice(0, 2), 0), (slice(2, 4), 4), (slice(4, 6), 8))
    for rows, place in sweep.pieces:
        np.testing.assert_array_equal(
            words[rows], words[0] + 3 * np.arange(place, place + rows.stop - rows.start)
        )


def test_sweeps_end_at_the_limit_and_where_gaps_cost_more() -> None:
    words = np.array([20 * y + x for y in range(4) for x in range(8)])
    runs = _runs(words)
    assert len(sweeps(runs, words, limit=64, least=20)) == 2  # 20 * 3 + 8 rows do not fit
    assert len(sweeps(runs, words, limit=1000, least=20)) == 1
    assert len(sweeps(runs, words, limit=1000, least=19)) == 4


@pytest.mark.parametrize("step", [-5, 0])
def test_no_sweep_backwards(step: int) -> None:
    words = np.array([step * y + x for y in range(2) for x in range(4)])
    assert len(sweeps(_runs(words), words, limit=64, least=64)) == 2


def test_ancestors_of_windows() -> None:
    def slice_of(source: str, first: int) -> View:
        name = f"{source}{first}"
        return View(name, [source], name, kind="slice", arg=[[first, first + 3, 1], [0, 2, 1]])

    nodes = [
        View("rows", ["x"], "rows", kind="reshape", arg=(5, 2)),
        slice_of("rows", 0),
        slice_of("rows", 2),
        View("windows", ["rows0", "rows2"], "windows", kind="cat", arg=1),
    ]
    views = {node.output: node for node in nodes}
    assert list(ancestors(views, "windows")) == ["rows"]
    x = np.arange(10).reshape(5, 2)
    want = np.concatenate([x[0:3], x[2:5]], axis=1)
    np.testing.assert_array_equal(derive(views, "windows", "rows", x), want)
    views["other"] = View("other", ["rows0", "y"], "other", kind="cat", arg=1)
    assert list(ancestors(views, "other")) == []


def test_a_border_is_cut_off_alone() -> None:
    """A line of one zero, pixels, one zero: three nests, and the right elements."""
    source = np.full((6, 8), 999)
    source[1:-1] = 8 * np.arange(4)[:, None] + np.arange(8)
    target = np.arange(48).reshape(6, 8)
    source[[0, -1]] = 500 + np.arange(8)
    nests = list(loop_nests(source, target, width=8))
    assert len(nests) == 3
    copied = np.full(48, -1)
    for nest in nests:
        for index in np.ndindex(*nest.counts):
            to = nest.dst + sum(i * s for i, s in zip(index, nest.dst_strides, strict=True))
            copied[to] = nest.src + sum(i * s for i, s in zip(index, nest.src_strides, strict=True))
    np.testing.assert_array_equal(copied.reshape(6, 8), source)
