"""``trtd plan``: what a build would do."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from trtd.cli.options import add_registry, add_roots, distinct_specs, find_registry

EXAMPLE = "  trtd plan specs/digits.toml --registry registry --explain"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("specs", type=Path, nargs="+", metavar="SPEC", help="spec files")
    parser.add_argument("--explain", action="store_true", help="list the reasons, and all that determines each engine")
    add_registry(parser)
    add_roots(parser)


def run(args: argparse.Namespace) -> int:
    from trtd.pipeline.build import Request, explain
    from trtd.ui.machine import emit
    from trtd.ui.text import Screen

    request = Request(find_registry(args.registry, args.specs[0]), tuple(args.allow_root))
    planned = [(spec, plan, reasons) for spec in distinct_specs(args.specs) for plan, reasons in explain(spec, request)]
    if args.json:
        emit(
            "plan",
            [
                {"spec": spec, "digest": plan.digest, "up_to_date": not reasons, "reasons": reasons, **dict(plan)}
                for spec, plan, reasons in planned
            ],
        )
        return 0
    screen = Screen(sys.stdout)
    for _, plan, reasons in planned:
        verdict = f"would be built ({len(reasons)} reason{'s' * (len(reasons) != 1)})" if reasons else "up to date"
        screen.line(f"{plan.name}: {plan.precision} on {plan.target}: {verdict}", "bold")
        if args.explain:
            screen.explanation(reasons)
            screen.line("  made from:", "dim")
            screen.explanation(f"  {key} = {value}" for key, value in plan.ingredients.items())
    return 0
