"""Which paths are taken for a model, and why the others are refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from trtd.errors import ModelError
from trtd.model.inspect import read_facts
from trtd.model.locate import locate
from trtd.model.source import ModelSource


def _copy(model: Path, to: Path) -> Path:
    return Path(shutil.copytree(model, to))


def test_a_folder_a_program_and_its_parameters_all_mean_the_same_model(pir_models: Path) -> None:
    """Would break if one of the ways in which people point at a Paddle model stopped working."""
    folder = pir_models / "cnn"
    found = locate(folder)
    assert found == ModelSource(
        format="paddle-pir", model_file=folder / "inference.json", params_file=folder / "inference.pdiparams"
    )
    assert locate(folder / "inference.json") == found == locate(folder / "inference.pdiparams")
    assert ModelSource.model_validate_json(found.model_dump_json()) == found


def test_an_export_folder_of_paddleocr_is_one_model(pir_models: Path, program_models: Path, tmp_path: Path) -> None:
    """PaddleOCR ships inference.json, inference.pdmodel, inference.yml and configurations side by side."""
    folder = _copy(pir_models / "cnn", tmp_path / "export")
    shutil.copy(program_models / "cnn" / "inference.pdmodel", folder)
    (folder / "inference.yml").write_text("Global: {}\n")
    (folder / "config.json").write_text('{"model_name": "PP-OCRv5"}')
    assert locate(folder).model_file == folder / "inference.json"


def test_an_older_program_is_found(program_models: Path) -> None:
    """Would break if .pdmodel folders, which most published Paddle models are, were no longer known."""
    assert locate(program_models / "cnn").format == "paddle-program"


def test_a_program_without_parameters_needs_no_parameters_file(pir_models: Path) -> None:
    """Paddle writes no .pdiparams for a network without parameters."""
    folder = pir_models / "shapeless"
    assert not (folder / "inference.pdiparams").exists()
    assert locate(folder).params_file is None


@pytest.mark.parametrize("kind", ["pir", "program"])
def test_missing_parameters_are_named(kind: str, pir_models: Path, program_models: Path, tmp_path: Path) -> None:
    """A copied program without its weights must not become an engine."""
    folder = _copy((pir_models if kind == "pir" else program_models) / "cnn", tmp_path / "copy")
    (folder / "inference.pdiparams").unlink()
    with pytest.raises(ModelError, match=r"parameters, but inference\.pdiparams is missing"):
        locate(folder)


def test_an_ambiguous_folder_names_the_candidates(pir_models: Path, tmp_path: Path) -> None:
    """Guessing between two models would build the wrong engine silently."""
    folder = _copy(pir_models / "cnn", tmp_path / "two")
    (folder / "other.onnx").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"2 models: inference\.json, other\.onnx"):
        locate(folder)


def test_a_folder_of_model_folders_suggests_them(pir_models: Path) -> None:
    """An unpacked archive has one folder more than people think."""
    with pytest.raises(ModelError) as caught:
        locate(pir_models)
    assert "cnn/" in caught.value.hint


REFUSED: list[tuple[str, bytes, str]] = [
    ("model.onnx", b"", "empty"),
    ("model.onnx", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git-LFS"),
    ("model.pdmodel", b"version https://git-lfs.github.com/spec/v1\n", "git-LFS"),
    ("model.onnx", b"\n<!DOCTYPE html><html>Sign in</html>", "HTML"),
    ("model.json", b"<html></html>", "HTML"),
    ("model.onnx", b"\x80\x02}q\x00.", "pickle"),
    ("model.pdmodel", b"\x80\x04\x95.", "pickle"),
    ("model.onnx", b"PK\x03\x04rest", "zip"),
    ("model.onnx", b"ftrt\x00\x00\x00", "TensorRT engine"),
    ("model.plan", b"anything", "TensorRT engine"),
    ("model.engine", b"anything", "TensorRT engine"),
    ("model.trt", b"anything", "TensorRT engine"),
    ("model.pdparams", b"anything", "checkpoint"),
    ("model.pth", b"anything", "pickle"),
    ("model.tar", b"anything", "archive"),
    ("model.yml", b"a: 1", "configuration"),
    ("model.h5", b"anything", "no model format"),
    ("model", b"anything", "no model format"),
    ("model.onnx", b"random bytes that are no protobuf \xff\xff", "protobuf"),
    ("model.onnx", b"\x08\x08", "no whole ONNX"),
    ("model.json", b'{"model_name": "x"}', "no Paddle PIR program"),
    ("model.json", b"[" * 100_000, "JSON"),
    ("model.json", b"1" * 10_000, "JSON"),
    ("model.pdmodel", b"\x0a\x00", "no whole Paddle program"),
]


@pytest.mark.parametrize(("name", "content", "reason"), REFUSED, ids=lambda value: str(value)[:24])
def test_what_is_no_model_is_refused_with_its_reason(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    """Each of these was taken for a model somewhere, and failed far away from the cause."""
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_facts(locate(file))
    assert reason in str(caught.value)
    assert caught.value.hint
    assert str(file) in str(caught.value)


def test_a_checkpoint_folder_advises_to_export(tmp_path: Path) -> None:
    """People point at their training output first."""
    (tmp_path / "best_accuracy.pdparams").write_bytes(b"\x80\x02")
    with pytest.raises(ModelError) as caught:
        locate(tmp_path)
    assert "paddle.jit.save" in caught.value.hint


def test_a_missing_path_lists_the_neighbours(tmp_path: Path) -> None:
    """A typo in a path should be visible at once."""
    (tmp_path / "detector.onnx").write_bytes(b"x")
    with pytest.raises(ModelError) as caught:
        locate(tmp_path / "detectr.onnx")
    assert "detector.onnx" in caught.value.hint


def test_special_files_and_dangling_links_are_refused(tmp_path: Path) -> None:
    """Reading a FIFO would hang for ever."""
    fifo, link = tmp_path / "pipe.onnx", tmp_path / "link.onnx"
    os.mkfifo(fifo)
    link.symlink_to(tmp_path / "nowhere")
    for path, reason in ((fifo, "regular file"), (link, "leads nowhere")):
        with pytest.raises(ModelError, match=reason):
            locate(path)
