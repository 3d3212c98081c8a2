"""From integer graph to program."""

from __future__ import annotations

from typing import Any

import numpy as np

from intformer.compiler.backend.emit import Draft, Lowering
from intformer.compiler.backend.image import aligned
from intformer.compiler.backend.lower_io import InputOutput, lower_copy, lower_gather
from intformer.compiler.backend.lower_matmul import lower_matmul
from intformer.compiler.backend.lower_post import lower_pointwise
from intformer.compiler.backend.lower_row import lower_layernorm, lower_row_scale, lower_softmax
from intformer.compiler.backend.schedule import schedule
from intformer.compiler.backend.storage import Storage
from intformer.compiler.backend.tokens import token_masks
from intformer.compiler.integer_graph import (
    Gather,
    IntGraph,
    LayerNorm,
    MatMul,
    Node,
    Pointwise,
    RowScale,
    Softmax,
)
from intformer.compiler.stationary import check_stationary
from intformer.config import CoreConfig
from intformer.errors import DoesNotFit
from intformer.isa import INSTRUCTION_BYTES, OPERATIONS, PREFETCH, Instruction, Op
from intformer.program import ExternalTensor, Production, Program, Region, Step

__all__ = ["build_program"]

_LOWER: dict[type[Node], Any] = {
    MatMul: lower_matmul,
    Pointwise: lower_pointwise,
    Softmax: lower_softmax,
    LayerNorm: lower_layernorm,
    RowScale: lower_row_scale,
    Gather: lower_gather,
}


def build_program(graph: IntGraph, config: CoreConfig) -> Program:
    """Map ``graph`` onto a core: layout, allocation, instructions, tokens, memory image.

    Raises
    ------
    DoesNotFit
        A memory of the core is too small; the message names the memory, what is needed, and
        the parameter to raise. Or external memory is.
    UserError
        A node asks for something that no instruction does, or a product's weights can lie
        outside the range of the core's array.
    """
    check_stationary(graph, config.weight_min)
    storage = Storage(graph, config)
    low = Lowering(graph, config, storage)
    io = InputOutput(low)
    _lower_all(low, io)
    drafts = schedule(low.drafts, config)
    return _finish(low, io, drafts)


def _lower_all(low: Lowering, io: InputOutput) -> None:
    graph, storage = low.graph, low.storage
    for when, node in enumerate([*graph.nodes, None]):
        name = "outputs" if node is None else node.name
        for tensor, first in storage.loads.items():
            if first == when:
                io.load(tensor)
        for copy in storage.copies:
            if copy.when == when:
                lower_copy(low, copy, name)
        if node is not None and type(node) in _LOWER:
            _LOWER[type(node)](low, node)
    for tensor in dict.fromkeys(graph.outputs):
        io.store(tensor)
    loaded = {t.name: t for t in io.inputs}
    for name in graph.inputs:  # the host writes an input even if nothing reads it
        if name not in loaded:
            io.declare(name)
    io.inputs.sort(key=lambda t: graph.inputs.index(t.name))


def _finish(low: Lowering, io: InputOutput, drafts: list[Draft]) -> Program:
    config = low.config
    code = 32 * (len(drafts) + 1)
    io_base = low.image.size + aligned(code)
    steps = []
    for draft, masks in zip(drafts, token_masks(drafts, config), strict=True):
        fields = dict(draft.fields)
        if draft.io:
            fields["ext"] += io_base
        if draft.acc is not None:
            name = "acc" if draft.op is Op.MATMUL or fields.get("src_mem") else "src"
            fields[name] = fields.get(name, 0) + draft.acc.base
        fields = {f.name: int(fields.get(f.name, 0)) for f in OPERATIONS[draft.op]}
        instruction = Instruction(draft.op, fields, pop=masks.pop, push=masks.push)
        steps.append(Step(instruction, draft.node, draft.tensor))
    binary = b"".join(s.instruction.encode() for s in steps) + Instruction(Op.END, {}).encode()
    entry = low.image.add("program", binary)
    assert low.image.size == io_base
    needed = io_base + io.size + PREFETCH * INSTRUCTION_BYTES
    if needed > config.external_bytes:
        raise DoesNotFit(
            f"the program needs {needed} bytes of external memory, the core addresses "
            f"{config.external_bytes}"
        )
    inputs, outputs = ([_moved(t, io_base) for t in tensors] for tensors in (io.inputs, io.outputs))
    regions = [*low.image.regions]
    regions += [Region(f"input {t.name}", t.address, t.size) for t in inputs]
    regions += [Region(f"output {t.name}", t.address, t.size) for t in outputs]
    return Program(
        config=config,
        steps=steps,
        image=low.image.to_array(),
        memory_bytes=io_base + io.size,
        entry=entry,
        regions=regions,
        inputs=inputs,
        outputs=outputs,
        productions=_productions(low, drafts),
        meta=_meta(low, steps),
    )


def _moved(tensor: ExternalTensor, base: int) -> ExternalTensor:
    return ExternalTensor(**{**vars(tensor), "address": tensor.address + base})


def _productions(low: Lowering, drafts: list[Draft]) -> dict[str, Production]:
    by_tensor: dict[str, list[int]] = {}
    for index, draft in enumerate(drafts):
        for tensor in (draft.tensor, draft.factor):
            if tensor is not None:
                by_tensor.setdefault(tensor, []).append(index)
    return {
        name: Production(name, low.storage.mem(name), low.storage.positions(name), tuple(indices))
        for name, indices in by_tensor.items()
    }


def _meta(low: Lowering, steps: list[Step]) -> dict[str, Any]:
    """Per node: kind, MACs, cycles at peak, its steps; and the words used of every memory."""
    graph, config = low.graph, low.config
    ranges: dict[str, list[int]] = {}
    for index, step in enumerate(steps):
        first_last = ranges.setdefault(step.node, [index, index, 0])
        first_last[1] = index
        first_last[2] += 1
    nodes = []
    for node in graph.nodes:
        if node.name not in ranges:
            continue
        macs = 0
        if isinstance(node, MatMul):
            shape = graph.tensors[node.output].shape
            macs = int(np.prod(shape)) * graph.tensors[node.inputs[0]].shape[-1]
        first, last, count = ranges[node.name]
        nodes.append(
            {
                "name": node.name,
                "kind": type(node).__name__,
                "source": node.source,
                "macs": macs,
                "ideal_cycles": -(-macs // config.macs_per_cycle),
                "first_step": first,
                "last_step": last,
                "steps": count,
            }
        )
    used = {f"{mem.name.lower()}_words": words for mem, words in low.storage.used.items()}
    used["param_groups"] = low.param_used
    return {"nodes": nodes, "used": used, "macs": graph.macs()}
