"""The command `intformer units`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from intformer.errors import UserError

if TYPE_CHECKING:
    from intformer.bench.cases import CostCase, ErrorCase

__all__ = ["add_arguments", "run"]

Case = TypeVar("Case", "CostCase", "ErrorCase")


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """The command's options."""
    sub.add_argument(
        "--unit", metavar="NAME", nargs="+", help="only these, by the name of the class (Softmax)"
    )
    sub.add_argument("--device", metavar="NAME", nargs="+", help="only these (LFE5U-85F)")
    kinds = sub.add_mutually_exclusive_group()
    kinds.add_argument("--errors-only", action="store_true", help="no synthesis")
    kinds.add_argument("--cost-only", action="store_true", help="no errors, no oracles")
    kinds.add_argument("--oracles", action="store_true", help="only others' software")
    sub.add_argument("--list", action="store_true", help="list the catalogue and stop")
    sub.add_argument("--full", action="store_true", help="errors over all inputs, a million rows")
    sub.add_argument("--quick", action="store_true", help="place without routing; Fmax estimated")
    sub.add_argument("--seeds", type=int, default=3, metavar="N", help="Fmax is the median of N")
    sub.add_argument("--jobs", type=int, default=1, metavar="N", help="tools run at the same time")
    sub.add_argument("--limit", type=float, metavar="S", help="give up a placement after S seconds")
    sub.add_argument("--compare", action="store_true", help="say what is worse than the kept run")
    sub.add_argument("--strict", action="store_true", help="a worse cost is a failure, too")
    sub.add_argument("--record", action="store_true", help="keep in docs/results/units.{json,md}")


def run(args: argparse.Namespace, progress: Any) -> tuple[dict[str, Any], bool]:
    """Measure, print, compare, keep; figures, and whether nothing got worse."""
    from intformer.bench import units
    from intformer.bench.catalog import COSTS, ERRORS
    from intformer.bench.cost import measure_costs
    from intformer.fpga.devices import DEVICES
    from intformer.fpga.devices import device as find_device

    if args.seeds < 1 or args.jobs < 1:
        raise UserError("seeds and jobs must be at least 1")
    devices = [find_device(name).name for name in args.device or DEVICES]
    costs = [] if args.errors_only or args.oracles else _chosen(COSTS, args.unit)
    errors = [] if args.cost_only or args.oracles else _chosen(ERRORS, args.unit)
    if args.unit and not costs and not errors:
        names = sorted({cost.unit for cost in COSTS} | {error.unit for error in ERRORS})
        raise UserError(f"no unit {' '.join(args.unit)}; units are {', '.join(names)}")
    if args.list:
        return _list(costs, errors), True
    figures: dict[str, Any] = {"costs": {}, "errors": {}, "oracles": {}}
    if errors:
        figures["errors"] = units.measure_errors(
            errors, full=args.full, progress=progress, jobs=args.jobs
        )
    if args.oracles or not (args.unit or args.errors_only or args.cost_only):
        figures["oracles"] = units.measure_oracles(progress)
    if costs:
        figures["costs"] = measure_costs(
            costs,
            devices=devices,
            seeds=range(1, args.seeds + 1),
            quick=args.quick,
            jobs=args.jobs,
            limit_s=args.limit,
            progress=progress,
        )
    _print(figures)
    ok = _compare(figures, strict=args.strict) if args.compare or args.record else True
    if args.record:
        from intformer.bench.tables import markdown
        from intformer.results import record

        merged = units.of_catalogue(units.merge(units.kept(), figures))
        record("units", merged, markdown(merged))
    return figures, ok


def _chosen(cases: Sequence[Case], names: Sequence[str] | None) -> list[Case]:
    return [case for case in cases if not names or case.unit in names or case.name in names]


def _list(costs: Sequence[CostCase], errors: Sequence[ErrorCase]) -> dict[str, Any]:
    for cost in costs:
        print(f"cost   {cost.name}  ({', '.join(cost.devices)})")
    for error in errors:
        print(f"error  {error.name}")
    return {"costs": [case.name for case in costs], "errors": [case.name for case in errors]}


def _print(figures: dict[str, Any]) -> None:
    from intformer.bench import tables

    for name in dict.fromkeys(d for entry in figures["costs"].values() for d in entry["devices"]):
        rows = tables.cost_rows(figures["costs"], name)
        print(f"{name}\n{tables.text_table(tables.COST_HEADS, rows)}\n")
    if figures["errors"]:
        rows = tables.error_rows(figures["errors"])
        print(f"against float64\n{tables.text_table(tables.ERROR_HEADS, rows)}\n")
    if figures["oracles"]:
        rows = tables.oracle_rows(figures["oracles"])
        print(f"against others' software\n{tables.text_table(tables.ORACLE_HEADS, rows)}\n")


def _compare(figures: dict[str, Any], *, strict: bool) -> bool:
    from intformer.bench import units

    old = units.kept()
    if not old:
        print("nothing kept to compare with")
        return True
    worse = units.compare(old, figures)
    lines = [*worse["errors"], *worse["costs"]]
    print(f"worse than at {old.get('commit', 'an unknown commit')}: {len(lines) or 'nothing'}")
    for line in lines:
        print(f"  {line}")
    return not worse["errors"] and not (strict and worse["costs"])
