"""Find the one source model that a path means, and refuse everything else with a reason."""

from __future__ import annotations

from pathlib import Path

from trtd.errors import ModelError
from trtd.model.facts import ModelFormat
from trtd.model.inspect import declared_parameters
from trtd.model.source import EXPORT_HINT, ModelSource, check_file, name_some

_FORMATS: dict[str, ModelFormat] = {".json": "paddle-pir", ".pdmodel": "paddle-program", ".onnx": "onnx"}

_REFUSED_SUFFIXES: dict[str, tuple[str, str]] = {
    suffix: (what, hint)
    for suffixes, what, hint in (
        (
            (".plan", ".engine", ".trt"),
            "a TensorRT engine, not a source model",
            "An engine cannot be calibrated or verified against FP32: give the Paddle or ONNX model it was built from.",
        ),
        (
            (".pdparams", ".pdopt", ".pdckpt", ".pdstates"),
            "a Paddle training checkpoint: weights without a program",
            EXPORT_HINT,
        ),
        (
            (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib"),
            "a pickle, which runs code when it is read",
            "Give a Paddle inference model (paddle.jit.save) or an ONNX model.",
        ),
        (
            (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".nb"),
            "an archive or a packed model",
            "Unpack it and give the folder with the Paddle or ONNX model.",
        ),
        (
            (".yml", ".yaml"),
            "a configuration, not a model",
            "Give the folder it lies in, or the .json, .pdmodel or .onnx beside it.",
        ),
    )
    for suffix in suffixes
}


def locate(path: Path) -> ModelSource:
    """Find the model that ``path`` means: a model file, or a folder that holds exactly one model.

    Where ``NAME.json`` and ``NAME.pdmodel`` lie side by side (PaddleOCR ships both), the ``.json`` is taken.
    Raises ``ModelError`` for a path that is missing, holds no model or several, or whose files are empty, torn,
    of another kind, or point outside the model's folder.
    """
    try:
        model_file = _choose(path) if path.is_dir() else path
        check_file(model_file)
        if (refused := _REFUSED_SUFFIXES.get(model_file.suffix.lower())) is not None:
            raise ModelError(f"this is {refused[0]}", hint=refused[1], where=str(model_file))
        if model_file.suffix == ".pdiparams":
            model_file = _program_of(model_file)
            check_file(model_file)
        format = _FORMATS.get(model_file.suffix)
        if format is None:
            raise _unknown(model_file)
        if format == "onnx":
            from trtd.model.external_data import external_files  # protobuf takes a while, and PIR does without

            return ModelSource(format=format, model_file=model_file, extra_files=external_files(model_file))
        return ModelSource(format=format, model_file=model_file, params_file=_params_of(model_file, format))
    except OSError as error:
        raise ModelError(
            f"the model cannot be read: {error.strerror or error}",
            hint="Check the path and its permissions.",
            where=str(path),
        ) from error


def _choose(folder: Path) -> Path:
    """The one model file of a folder; raises ``ModelError`` naming the candidates if there are none or several."""
    files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    stems: dict[str, Path] = {}
    for suffix in (".pdmodel", ".json"):
        stems |= {file.stem: file for file in files if file.suffix == suffix and _may_be_model(file)}
    candidates = sorted([*stems.values(), *(file for file in files if file.suffix == ".onnx")])
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise ModelError(
            f"the folder holds {len(candidates)} models: {name_some(candidates)}",
            hint=f"Give the file that you mean, for example {candidates[0]}.",
            where=str(folder),
        )
    for file in files:
        if (refused := _REFUSED_SUFFIXES.get(file.suffix.lower())) and "configuration" not in refused[0]:
            raise ModelError(
                f"the folder holds no model; {file.name} is {refused[0]}", hint=refused[1], where=str(folder)
            )
    raise ModelError("the folder holds no model", hint=_folder_hint(folder, files), where=str(folder))


def _folder_hint(folder: Path, files: list[Path]) -> str:
    if any(file.name in {"__model__", "model"} for file in files):
        return (
            "This is the layout of Paddle 1.x: rename the program to NAME.pdmodel and the parameters to NAME.pdiparams."
        )
    inner = [child for child in files if child.is_dir() and any(child.glob(f"*{s}") for s in _FORMATS)]
    if any(any(True for s in _FORMATS for _ in child.glob(f"*{s}")) for child in inner):
        return f"Did you mean one of its folders: {name_some(inner)}?"
    held = name_some(files) or "nothing"
    return f"Expected NAME.json or NAME.pdmodel with NAME.pdiparams, or NAME.onnx. It holds: {held}."


def _may_be_model(file: Path) -> bool:
    """Whether a .json or .pdmodel of a folder counts as a model: a .json may also be any configuration."""
    if file.suffix != ".json" or file.with_suffix(".pdiparams").exists():
        return True
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return b'"base_code"' in stream.read(4096)


def _params_of(model_file: Path, format: ModelFormat) -> Path | None:
    """The parameters beside a Paddle program, ``None`` if it has none; ``ModelError`` if it needs them in vain."""
    params = model_file.with_suffix(".pdiparams")
    if params.exists() or params.is_symlink():
        if params.is_file() and params.stat().st_size == 0 and not declared_parameters(model_file, format):
            return params
        check_file(params)
        return params
    if count := len(declared_parameters(model_file, format)):
        raise ModelError(
            f"the program has {count} parameters, but {params.name} is missing",
            hint=f"Copy {params.name} beside {model_file.name}; both come from one paddle.jit.save.",
            where=str(model_file),
        )
    return None


def _program_of(params: Path) -> Path:
    for suffix in (".json", ".pdmodel"):
        if params.with_suffix(suffix).exists():
            return params.with_suffix(suffix)
    raise ModelError(
        f"parameters without a program: neither {params.stem}.json nor {params.stem}.pdmodel lies beside them",
        hint="Copy the program beside the parameters; both come from one paddle.jit.save.",
        where=str(params),
    )


def _unknown(file: Path) -> ModelError:
    return ModelError(
        f"'{file.suffix or file.name}' is no model format that is known here",
        hint="Known: Paddle NAME.json or NAME.pdmodel (with NAME.pdiparams), and NAME.onnx.",
        where=str(file),
    )
