"""A model on disk, and what is plainly none: judged by what a file is and how it begins."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from trtd.document import Document
from trtd.errors import ModelError
from trtd.model.facts import ModelFormat

EXPORT_HINT = "Export it for inference: paddle.jit.save(layer, 'inference', input_spec=[...])."

# what the first bytes of a file give away; checked before any parser sees the file
_SIGNATURES: tuple[tuple[Callable[[bytes], bool], str, str], ...] = (
    (
        lambda head: head.startswith(b"version https://git-lfs.github.com/"),
        "a git-LFS pointer, not the file itself",
        "Fetch the real file: git lfs pull.",
    ),
    (
        lambda head: head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")),
        "an HTML or XML page, not a model",
        "The download went to a web page (a login, a redirect or an error): download the raw file again.",
    ),
    (
        lambda head: len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5,
        "a pickle (a training checkpoint), which runs code when it is read",
        EXPORT_HINT,
    ),
    (lambda head: head.startswith(b"PK\x03\x04"), "a zip archive", "Unpack it, or export the model for inference."),
    (lambda head: head.startswith(b"\x1f\x8b"), "a gzip archive", "Unpack it first."),
    (
        lambda head: head.startswith((b"ftrt", b"trtf", b"ptrt", b"vtrt")),
        "a TensorRT engine, not a source model",
        "Give the Paddle or ONNX model that it was built from.",
    ),
)


class ModelSource(Document):
    """One model on disk, located and superficially checked.

    Attributes:
        format: how the model is stored.
        model_file: the program (Paddle) or the graph (ONNX).
        params_file: Paddle parameters; ``None`` for ONNX and for programs without parameters.
        extra_files: external data files of an ONNX model, sorted.
    """

    format: ModelFormat
    model_file: Path
    params_file: Path | None = None
    extra_files: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of the model, the program first: the order of the digest."""
        params = () if self.params_file is None else (self.params_file,)
        return (self.model_file, *params, *self.extra_files)


def check_file(file: Path) -> None:
    """Raise ``ModelError`` unless ``file`` is a regular, non-empty file that is not plainly something else."""
    if not file.exists():
        dangling = " (a link that leads nowhere)" if file.is_symlink() else ""
        raise ModelError(f"there is no such file or folder{dangling}", hint=_neighbours(file), where=str(file))
    if not stat.S_ISREG(file.stat().st_mode):
        raise ModelError("this is neither a regular file nor a folder", hint="Give a model file.", where=str(file))
    with file.open("rb") as stream:
        head = stream.read(512)
    if not head:
        raise ModelError("the file is empty", hint="Copy or export the model again.", where=str(file))
    for matches, what, hint in _SIGNATURES:
        if matches(head):
            raise ModelError(f"this is {what}", hint=hint, where=str(file))


def _neighbours(file: Path) -> str:
    if not file.parent.is_dir():
        return f"Its folder {file.parent} is missing as well; relative paths are relative to the spec's folder."
    return f"{file.parent} holds: {name_some(sorted(file.parent.iterdir())) or 'nothing'}."


def name_some(files: list[Path], limit: int = 6) -> str:
    """Names of files and folders as a text, cut off after ``limit``."""
    names = [f"{file.name}/" if file.is_dir() else file.name for file in files]
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
