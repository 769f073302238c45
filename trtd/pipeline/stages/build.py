"""The engine, compiled for its target from the graph in its precision: one file for each compute capability."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from trtd.engines.opening import EngineFiles
from trtd.engines.tensorrt.build import Order, build_engine, plan_name
from trtd.engines.tensorrt.flavours import Flavour, flavour_of
from trtd.pipeline.contracts import ENGINE_FILE, GRAPH_FILE, BuildInputs
from trtd.pipeline.progress import Progress
from trtd.store.digest import file_digest


def run(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes the engine's files and ``engine.json``, an :class:`EngineFiles`; returns what TensorRT warned of."""
    job = BuildInputs.model_validate(inputs)
    flavour = flavour_of(job.target)
    wanted: list[str | None] = [*job.engine.compute_capabilities] or [None]
    warnings: dict[str, None] = {}
    digests, variants, timings = {}, {}, ""
    for capability in wanted:
        file = plan_name(capability if len(wanted) > 1 else None)
        label = f"{capability}: " if capability else ""
        tell = partial(_tell, progress, label)
        built = build_engine(flavour, _order(job, flavour, capability), out / file, tell)
        warnings |= dict.fromkeys(built.warnings)
        timings = built.timing_cache or timings
        digests[file] = file_digest(out / file)
        if capability:
            variants[capability] = file
    files = EngineFiles(target=job.target, folder=out, digests=digests, variants=variants)
    (out / ENGINE_FILE).write_text(files.model_dump_json(indent=1))
    if timings:
        progress.log(timings)
    return {"warnings": list(warnings), "timing_cache": timings}


def _tell(progress: Progress, label: str, done: int, total: int, phase: str) -> None:
    progress(done, total, label + phase)


def _order(job: BuildInputs, flavour: Flavour, capability: str | None) -> Order:
    return Order(
        graph=job.graph / GRAPH_FILE,
        shapes={name: (p.min, p.opt, p.max) for name, p in job.profiles.items()},
        options=job.engine.tensorrt,
        capability=capability,
        given_timings=job.timings,
        kept_timings=job.cache and job.cache / f"{flavour.target}-{flavour.version()}",
    )
