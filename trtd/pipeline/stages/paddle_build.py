"""A Paddle engine: model, settings, tables and, if asked for, TensorRT's engines, loaded once where it will run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from trtd.engines.opening import EngineFiles
from trtd.engines.paddle.building import build_engines, built_here
from trtd.engines.paddle.pir import convert_pir
from trtd.engines.paddle.predictor import paddle_inference
from trtd.engines.paddle.script import render_script
from trtd.engines.paddle.settings import OPT_CACHE, SCRIPT_FILE, SETTINGS_FILE
from trtd.pipeline.contracts import ENGINE_FILE, PUBLISHED_FOLDER, SUMMARY_FILE, PaddleBuildInputs
from trtd.pipeline.progress import Progress
from trtd.pipeline.stage_runner import RESULT_FILE
from trtd.store.digest import file_digest
from trtd.store.tree import files_under


def run(inputs: dict[str, Any], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes ``published/``, the engine, and ``engine.json``, an :class:`EngineFiles` of it."""
    job = PaddleBuildInputs.model_validate(inputs)
    published, module = out / PUBLISHED_FOLDER, paddle_inference(str(job.prepared))
    shutil.copytree(job.prepared, published, ignore=shutil.ignore_patterns(SUMMARY_FILE, RESULT_FILE))
    if job.tables is not None:
        shutil.copytree(job.tables / OPT_CACHE, published / OPT_CACHE)
    feeds = job.heldout.timing_feeds(job.batch)[0]
    settings = built_here(module, job.settings)
    progress(0, 2, "TensorRT builds" if settings.tensorrt else "load")
    if settings.converted:
        convert_pir(settings, published, job.profiles)
    build_engines(module, settings, published, feeds)
    progress(1, 2, "digests")
    (published / SETTINGS_FILE).write_text(settings.model_dump_json(indent=1) + "\n")
    (published / SCRIPT_FILE).write_text(render_script(settings, SCRIPT_FILE))
    digests = {name: file_digest(published / name) for name in files_under(published)}
    files = EngineFiles(target=job.target, folder=published, digests=digests)
    (out / ENGINE_FILE).write_text(files.model_dump_json(indent=1))
    progress(2, 2, "")
    return {"warnings": []}
