"""Tokens: every dependency is covered, and the schedule keeps the order that it must."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import HAND_MADE, GraphBuilder, hand_made

from intformer.compiler.backend import build, build_program
from intformer.compiler.backend.dependencies import dependencies
from intformer.compiler.backend.emit import Draft
from intformer.compiler.backend.tokens import Masks, token_masks
from intformer.config import CoreConfig
from intformer.isa import Op, Unit

SMALL = CoreConfig(
    name="small",
    rows=4,
    cols=4,
    lanes=2,
    act_words=160,
    wide_words=320,
    acc_depth=16,
    param_groups=24,
    act_tables=1,
    queue_depth=2,
)
ROOMY = CoreConfig(name="roomy", rows=8, cols=6, lanes=2, queue_depth=4)


def scheduled(graph, config, monkeypatch) -> tuple[list[Draft], list[Masks]]:
    """Drafts in program order and their masks, as the back end makes them."""
    kept = []

    def keep(drafts, config):
        masks = token_masks(drafts, config)
        kept.append((drafts, masks))
        return masks

    monkeypatch.setattr(build, "token_masks", keep)
    build_program(graph, config)
    return kept[0]


def known_before(drafts: list[Draft], masks: list[Masks]) -> np.ndarray:
    """[step, unit]: the last step of ``unit`` that has completed when ``step`` starts."""
    queues: dict[tuple[Unit, Unit], list[int]] = {}
    for index, (draft, mask) in enumerate(zip(drafts, masks, strict=True)):
        for unit in Unit:
            if mask.push >> unit & 1:
                queues.setdefault((draft.unit, unit), []).append(index)
    known = np.full((len(drafts), len(Unit)), -1)
    last = {unit: np.full(len(Unit), -1) for unit in Unit}
    for index, (draft, mask) in enumerate(zip(drafts, masks, strict=True)):
        now = last[draft.unit].copy()
        for unit in Unit:
            if mask.pop >> unit & 1:
                step = queues[unit, draft.unit].pop(0)
                assert step < index
                now = np.maximum(now, known[step])
                now[unit] = max(now[unit], step)
        known[index] = last[draft.unit] = now
    assert not any(queues.values())
    return known


def uncovered(drafts: list[Draft], masks: list[Masks], config: CoreConfig) -> list[tuple[int, int]]:
    """Dependencies that neither tokens nor a unit's own order keep."""
    known = known_before(drafts, masks)
    sums: dict[int, int] = {}
    missing = []
    for index, (draft, needs) in enumerate(zip(drafts, dependencies(drafts, config), strict=True)):
        if draft.op is Op.MATMUL:  # its weights come in order through the column FIFO
            needs = {s for s in needs if drafts[s].unit is not Unit.FETCH or drafts[s].job < 0}
            rows = range(draft.acc.base, draft.acc.base + draft.acc.rows)
            needs |= {sums[row] for row in rows if row in sums}
        if draft.op is Op.POST_ACC:
            sums |= dict.fromkeys(range(draft.acc.base, draft.acc.base + draft.acc.rows), index)
        for step in needs:
            unit = drafts[step].unit
            if unit != draft.unit and known[index, unit] < step:
                missing.append((step, index))
    return missing


def deep(b: GraphBuilder):
    """Attention and two layers, twice: memories of the small core are used over and over."""
    x = b.input((6, 8))
    for _ in range(2):
        q, k, v = (b.linear(x, 8) for _ in range(3))
        x = b.attention(q, k, v, 2)
        x = b.linear(b.layernorm(b.linear(x, 8, dtype="int16")), 8, table=True)
    return b.finish(x)


@pytest.mark.parametrize("config", [SMALL, ROOMY], ids=lambda c: c.name)
@pytest.mark.parametrize("name", [*HAND_MADE, "deep"])
def test_tokens_cover_all_dependencies(name, config, monkeypatch):
    graph = deep(GraphBuilder(0)) if name == "deep" else hand_made(name)
    drafts, masks = scheduled(graph, config, monkeypatch)
    assert uncovered(drafts, masks, config) == []


def test_a_dropped_token_is_uncovered(monkeypatch):
    drafts, masks = scheduled(deep(GraphBuilder(0)), SMALL, monkeypatch)
    for index, mask in enumerate(masks):
        for unit in Unit:
            if not mask.pop >> unit & 1:
                continue
            pops = [
                i
                for i, m in enumerate(masks)
                if drafts[i].unit == drafts[index].unit and m.pop >> unit & 1
            ]
            pushes = [
                i
                for i, m in enumerate(masks)
                if drafts[i].unit == unit and m.push >> drafts[index].unit & 1
            ]
            changed = [Masks(m.pop, m.push) for m in masks]
            changed[index].pop &= ~(1 << unit)
            changed[pushes[pops.index(index)]].push &= ~(1 << drafts[index].unit)
            assert uncovered(drafts, changed, SMALL), f"token of step {index} from {unit.name}"


@pytest.mark.parametrize("config", [SMALL, ROOMY], ids=lambda c: c.name)
def test_products_follow_the_order_of_their_fetches(config, monkeypatch):
    drafts, _ = scheduled(deep(GraphBuilder(0)), config, monkeypatch)
    fetches = [d.job for d in drafts if d.unit is Unit.FETCH]
    products = [d.job for d in drafts if d.op is Op.MATMUL]
    assert list(dict.fromkeys(products)) == fetches
    for draft in (d for d in drafts if d.op is Op.MATMUL):
        assert draft.acc.base + draft.acc.rows <= config.acc_depth
