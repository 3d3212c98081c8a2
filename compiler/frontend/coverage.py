"""What each operation of a model maps to, without compiling it."""

from __future__ import annotations

import re
from typing import Any

from intformer.compiler import graph as fg

__all__ = ["UNITS", "coverage", "describe_coverage"]

UNITS = {
    "array": "a matrix product on the array, with what follows it in its epilogue (POST)",
    "ROW": "softmax or a norm, row by row",
    "GATHER": "rows of a table from memory, by ids",
    "POST": "element-wise: in the epilogue of a product, or alone on a stored tensor",
    "view": "no arithmetic: free, or a MOVE where the layout asks for it",
    "mask": "a predicate of the softmax that reads it",
    "merged": "part of the operation that it belongs to, such as a norm or an activation",
    "folded": "made of constants alone: computed by the compiler",
    "nothing": "nothing to do",
    "NO": "does not map",
}
"""What an operation can become, and what that means."""

_UNIT_OF: dict[type[fg.Node], str] = {
    fg.MatMul: "array",
    fg.Softmax: "ROW",
    fg.LayerNorm: "ROW",
    fg.RMSNorm: "ROW",
    fg.Embedding: "GATHER",
    fg.View: "view",
}


def coverage(model: Any) -> dict[str, Any]:
    """What the operations of ``model`` (as for compiling) map to.

    Returns
    -------
    dict
        ``rows``: dictionaries with ``path`` (module, layer numbers as ``*``), ``op``, ``count``,
        ``unit`` (of :data:`UNITS`, joined by ``+``), ``why`` and ``instead`` (if it does not map);
        ``operations``, ``unsupported``: how many in all, and of them without a place.

    Raises
    ------
    UserError
        The model cannot be found, loaded or exported.
    """
    from intformer.compiler.frontend.issues import module_path
    from intformer.compiler.frontend.lowering import Lowering, load_rules
    from intformer.compiler.frontend.torch_export import exported

    program, label = exported(model)
    load_rules()
    lowering = Lowering()
    lowering.walk(program)
    read = [x for node in lowering.issues.problems for x in lowering.operands(node)]
    used = _used(lowering.build.graph, read)
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for node, result, new in lowering.made:
        if not hasattr(node.target, "overloadpacket"):
            continue  # picks one of several results
        problem = lowering.issues.problems.get(node)
        path = re.sub(r"(?<=\.)\d+(?=\.|$)", "*", module_path(node))
        unit = "NO" if problem else _unit(result, new, used)
        why, instead = (problem.why, problem.instead) if problem else ("", "")
        key = (path, str(node.target), unit, why)
        row = rows.setdefault(
            key,
            {"path": path, "op": key[1], "count": 0, "unit": unit, "why": why, "instead": instead},
        )
        row["count"] += 1
    listed = list(rows.values())
    return {
        "model": label,
        "operations": sum(row["count"] for row in listed),
        "unsupported": sum(row["count"] for row in listed if row["unit"] == "NO"),
        "rows": listed,
    }


def _used(graph: fg.Graph, read: list[str]) -> set[str]:
    """The values that the outputs, and ``read``, depend on."""
    used = {*graph.outputs, *read}
    for node in reversed(graph.nodes):
        if node.output in used:
            used.update(node.inputs)
    return used


def _unit(result: Any, new: list[fg.Node], used: set[str]) -> str:
    from intformer.compiler.frontend.lowering import Masked, MaskTerm, Tensor

    units = {_UNIT_OF.get(type(node), "POST") for node in new if node.output in used}
    if units - {"view"}:
        units.discard("view")
    if units:
        return " + ".join(name for name in UNITS if name in units)
    if isinstance(result, Masked | MaskTerm):
        return "mask"
    if new:
        return "merged"
    parts = result if isinstance(result, list | tuple) else [result]
    return "nothing" if any(isinstance(part, Tensor) for part in parts) else "folded"


def describe_coverage(figures: dict[str, Any]) -> str:
    """The figures of :func:`coverage` as text."""
    rows = figures["rows"]
    cells = [("module", "operation", "count", "maps to")]
    cells += [(r["path"] or "(top)", r["op"], str(r["count"]), r["unit"]) for r in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(3)]
    lines = []
    for number, (path, op, count, unit) in enumerate(cells):
        place = f"{path:<{widths[0]}}  {op:<{widths[1]}}  {count:>{widths[2]}}  {unit}"
        lines.append(place)
        row = rows[number - 1]
        if number and row["why"]:
            lines += [f"    why: {row['why']}", f"    instead: {row['instead']}"]
    present = {unit for row in rows for unit in row["unit"].split(" + ")}
    lines.append("")
    lines += [f"{unit:<8} {text}" for unit, text in UNITS.items() if unit in present]
    total, bad = figures["operations"], figures["unsupported"]
    lines.append(f"{figures['model']}: {total - bad} of {total} operations map")
    return "\n".join(lines)
