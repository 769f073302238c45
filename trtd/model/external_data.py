"""Files that an ONNX model keeps its weights in, and why some of them are refused."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath
from typing import Any

from trtd.errors import ModelError
from trtd.model.onnx_facts import EXTERNAL, tensor_bytes, walk_tensors
from trtd.model.proto import read_message, text
from trtd.model.source import check_file


def external_files(model_file: Path) -> tuple[Path, ...]:
    """The external data files of an ONNX model, sorted, each checked to lie inside the model's folder.

    Raises ``ModelError`` for a location that is absolute, leaves the folder (also through symlinks), is missing, of
    another kind, or too short for what the model expects in it.
    """
    found: set[Path] = set()
    for tensor in walk_tensors(read_message("OnnxModel", model_file)):
        if tensor.data_location == EXTERNAL:
            found.add(_checked(tensor, model_file))
    return tuple(sorted(found))


def _checked(tensor: Any, model_file: Path) -> Path:
    entries = {text(entry.key, model_file): text(entry.value, model_file) for entry in tensor.external_data}
    name = text(tensor.name, model_file)
    file = _inside(entries.get("location", ""), model_file, name)
    check_file(file)
    wanted = tensor_bytes(tensor, model_file)
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries["length"]) if "length" in entries else wanted
    except ValueError:
        offset, length = -1, None
    if offset < 0 or length is None or length != wanted:
        raise ModelError(
            f"tensor '{name}' has external data of {entries.get('length')} bytes at {entries.get('offset')}, "
            f"but its shape needs {wanted}",
            hint="The model is damaged; export it again.",
            where=str(model_file),
        )
    if file.stat().st_size < offset + length:
        raise ModelError(
            f"the external data is truncated: tensor '{name}' needs bytes {offset} to {offset + length} "
            f"of {file.stat().st_size}",
            hint="Copy the file again.",
            where=str(file),
        )
    return file


def _inside(location: str, model_file: Path, tensor: str) -> Path:
    """The file that a relative ``location`` means; refuses whatever is not inside the model's own folder."""
    windows = PureWindowsPath(location)
    folder = model_file.parent
    relative = location and "\\" not in location and not (windows.drive or windows.root or Path(location).is_absolute())
    if not relative or not (folder / location).resolve().is_relative_to(folder.resolve()):
        raise ModelError(
            f"tensor '{tensor}' keeps its data in '{location}', outside the model's folder",
            hint="Put the data file beside the model and save the model with a relative location.",
            where=str(model_file),
        )
    return folder / location
