"""``trtd check``: everything about a spec that can be known without running a model."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtd.cli.options import add_registry, add_roots, distinct_specs, look_for_registry
from trtd.errors import TrtdError

if TYPE_CHECKING:
    from trtd.pipeline.intake import Intake

EXAMPLE = "  trtd check specs/*.toml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("specs", type=Path, nargs="+", metavar="SPEC", help="spec files")
    add_registry(parser)
    add_roots(parser)


def run(args: argparse.Namespace) -> int:
    # Each would be a tenth of the time of a check: numpy's threads, where it needs numpy at all; a search for pydantic
    # plugins in the metadata of every installed package; a search for cycles among classes that were just imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    gc.disable()
    try:
        return _run(args)
    finally:
        gc.enable()


def _run(args: argparse.Namespace) -> int:
    from trtd.ui.machine import emit, emit_error

    checked = [found for spec in distinct_specs(args.specs) for found in _check(spec, args)]
    errors = [found for _, found in checked if isinstance(found, TrtdError)]
    data = [_describe(spec, found) for spec, found in checked]
    if args.json:
        if errors:
            emit_error("check", max(errors, key=lambda error: error.exit_code), data=data)
        else:
            emit("check", data)
    else:
        _show(checked)
    return max((error.exit_code for error in errors), default=0)


def _check(spec: Path, args: argparse.Namespace) -> list[tuple[Path, Intake | TrtdError]]:
    """What is to be said of each target of a spec."""
    from trtd.pipeline.intake import take_in

    try:
        registry = look_for_registry(args.registry, spec)
        intakes = take_in(spec, registry=registry, extra_roots=args.allow_root)
        for intake in intakes:
            _ = intake.data, intake.labels, intake.table, intake.timings
    except TrtdError as error:
        return [(spec, error)]
    return [(spec, intake) for intake in intakes]


def _notes(found: Intake) -> list[str]:
    """Of the data, and of what this machine lacks to build or verify the engine."""
    from trtd.engines.table import BACKENDS

    engine = found.spec.engine
    backend = BACKENDS[engine.only_target]
    notes = list(found.data.notes)
    lacking = (backend.missing(engine.compute_capabilities, precision) for precision in engine.precisions)
    if told := dict.fromkeys(f"cannot be built here: {what.message}; {what.hint}" for what in lacking if what):
        notes += told
    elif unverifiable := backend.unverifiable(engine.compute_capabilities):
        then = "it would be published unverified" if found.spec.publish.unverified else "it would not be built"
        notes.append(f"cannot be verified here: {unverifiable}; {then}")
    return notes


def _describe(spec: Path, found: Intake | TrtdError) -> dict[str, Any]:
    if isinstance(found, TrtdError):
        return {"spec": spec, "ok": False, "error": found.to_json()}
    data = found.data
    return {
        "spec": spec,
        "ok": True,
        "engines": found.spec.engine_names,
        "model": {"format": found.facts.format, "digest": found.facts.digest, "files": found.facts.files},
        "inputs": found.profiles,
        "calibration_items": len(data.calibration.items) if data.calibration else 0,
        "heldout_items": len(data.heldout.items),
        "target": found.spec.engine.only_target,
        "notes": _notes(found),
    }


def _show(checked: list[tuple[Path, Intake | TrtdError]]) -> None:
    from trtd.ui.literal import encodable, visible  # not the screen: rich costs more than the rest of an ok line

    for spec, found in checked:
        if isinstance(found, TrtdError):
            from trtd.ui.text import Screen

            sys.stdout.flush()
            Screen(sys.stderr).error(found)
            continue
        names = ", ".join(found.spec.engine_names.values())
        data = found.data
        calibration = f"{len(data.calibration.items)} calibration items, " if data.calibration else ""
        line = f"{spec}: ok: {names} from {found.facts.format} model, {calibration}{len(data.heldout.items)} held out"
        for text in (line, *(f"  {note}" for note in _notes(found))):
            print(encodable(visible(text), sys.stdout.encoding or "utf-8"))
