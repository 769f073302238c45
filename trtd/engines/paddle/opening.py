"""Opening a Paddle engine out of a folder that stays as it is."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from trtd.engines.digests import refuse_changed
from trtd.engines.paddle.config import make_config
from trtd.engines.paddle.predictor import PaddleRunner, paddle_inference
from trtd.engines.paddle.settings import OPT_CACHE, SETTINGS_FILE, PaddleSettings
from trtd.errors import RegistryError


def open_paddle(folder: Path, digests: Mapping[str, str], *, cache: Path) -> PaddleRunner:
    """Load an engine.

    Args:
        digests: ``sha256:…`` of each of its files. They are compared first: TensorRT engines are code.
        cache: where Paddle may write. Its tables and engines are copied there, since Paddle writes an engine anew
            where the GPU or TensorRT is another.

    Raises:
        RegistryError: the bytes are not those of ``digests``.
        EnvironmentMissing: what it needs is not here.
        EngineError: Paddle cannot load it.
    """
    for name, digest in digests.items():
        refuse_changed(folder / name, digest)
    settings = read_settings(folder)
    own = {name: digest for name, digest in digests.items() if name.startswith(f"{OPT_CACHE}/")}
    module = paddle_inference(str(folder))
    used = _copied(folder, own, cache) if own else None
    config = make_config(module, settings, folder, cache=used)
    return PaddleRunner(module, config, settings.inputs, str(folder / settings.model_file))


def read_settings(folder: Path) -> PaddleSettings:
    """``engine.json``. Raises ``RegistryError`` if it is not there or not one that this trtd reads."""
    try:
        return PaddleSettings.model_validate_json((folder / SETTINGS_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        hint = "build the engine again: trtd build SPEC --force"
        raise RegistryError("the settings of the engine cannot be read", where=str(folder), hint=hint) from error


def _copied(folder: Path, own: Mapping[str, str], cache: Path) -> Path:
    """A writable copy of tables and engines, one for these very files: Paddle's keys know no weights and no data."""
    key = hashlib.sha256("\n".join(f"{name} {digest}" for name, digest in sorted(own.items())).encode())
    copy = cache / "paddle" / key.hexdigest()[:32]
    copy.mkdir(parents=True, exist_ok=True)
    for name in own:
        target = copy / Path(name).name
        if not target.exists():
            draft = target.with_name(f".{target.name}.{os.getpid()}")
            shutil.copyfile(folder / name, draft)
            draft.replace(target)
    return copy
