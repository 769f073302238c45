"""Opening a Paddle engine out of a folder that stays as it is, and may be one that nobody can write to."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from trtd.engines.digests import refuse_changed
from trtd.engines.gpu import gpus
from trtd.engines.paddle.config import make_runner
from trtd.engines.paddle.installed import installed_paddle
from trtd.engines.paddle.predictor import PaddleRunner, paddle_inference
from trtd.engines.paddle.settings import OPT_CACHE, SETTINGS_FILE, PaddleSettings
from trtd.engines.paddle.tables import refuse_foreign
from trtd.errors import RegistryError


def open_paddle(folder: Path, digests: Mapping[str, str], *, cache: Path, threads: int | None = None) -> PaddleRunner:
    """Load an engine.

    Args:
        digests: ``sha256:…`` of each of its files. They are compared first: TensorRT engines are code.
        cache: where Paddle may write. Tables and engines are copied there: with TensorRT, Paddle makes a folder and
            writes engines anew where the GPU or TensorRT is another.
        threads: on a CPU.

    Raises:
        RegistryError: the bytes are not those of ``digests``.
        EnvironmentMissing: what it needs is not here.
        EngineError: Paddle cannot load it, or its calibration tables are of another TensorRT.
    """
    for name, digest in digests.items():
        refuse_changed(folder / name, digest)
    settings = read_settings(folder)
    module = paddle_inference(str(folder))
    if settings.tensorrt is None or settings.converted:
        return make_runner(module, settings, folder, threads=threads)
    here = installed_paddle(module)
    refuse_foreign(folder / OPT_CACHE, here.tensorrt_found)
    on = [f"{gpu.name} {gpu.capability}" for gpu in gpus().found[:1]]
    return make_runner(module, settings, folder, cache=writable_copy(folder, digests, [here.words, *on], cache))


def read_settings(folder: Path) -> PaddleSettings:
    """``engine.json``. Raises ``RegistryError`` if it is not there or not one that this trtd reads."""
    try:
        return PaddleSettings.model_validate_json((folder / SETTINGS_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        hint = "build the engine again: trtd build SPEC --force"
        raise RegistryError("the settings of the engine cannot be read", where=str(folder), hint=hint) from error


def writable_copy(folder: Path, digests: Mapping[str, str], here: Sequence[str], cache: Path) -> Path:
    """A writable copy of tables and engines, one for this engine, this Paddle, this TensorRT and this GPU.

    Paddle's own keys know neither weights nor data, nor what it runs on.
    """
    files = (f"{name} {digest}" for name, digest in sorted(digests.items()))
    copy = cache / "paddle" / hashlib.sha256("\n".join([*files, *here]).encode()).hexdigest()[:32]
    copy.mkdir(parents=True, exist_ok=True)
    for name in digests:
        target = copy / Path(name).name
        if name.startswith(f"{OPT_CACHE}/") and not target.exists():
            draft = target.with_name(f".{target.name}.{os.getpid()}")
            shutil.copyfile(folder / name, draft)
            draft.replace(target)
    return copy
