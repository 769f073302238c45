"""Where an ONNX model may keep its weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from tests.model.conftest import small_onnx
from trtd.errors import ModelError
from trtd.model.convert import to_onnx
from trtd.model.inspect import read_facts
from trtd.model.locate import locate


def _save(folder: Path, location: str = "weights.bin") -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "model.onnx"
    onnx.save(small_onnx(), str(file), save_as_external_data=True, location="weights.bin", size_threshold=0)
    if location != "weights.bin":
        model = onnx.load(str(file), load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                entry.value = location if entry.key == "location" else entry.value
        file.write_bytes(model.SerializeToString())
    return file


def test_external_data_belongs_to_the_model_and_its_digest(tmp_path: Path) -> None:
    """If it did not enter the digest, other weights would be a cache hit."""
    file = _save(tmp_path / "m")
    source = locate(file)
    assert source.extra_files == (file.parent / "weights.bin",)
    before = read_facts(source).digest
    data = bytearray(source.extra_files[0].read_bytes())
    data[3] ^= 1
    source.extra_files[0].write_bytes(data)
    assert read_facts(source).digest != before


def test_a_copy_holds_its_weights_itself(tmp_path: Path) -> None:
    """A stage's output must not point back into the folder that it came from."""
    out = tmp_path / "out" / "copy.onnx"
    to_onnx(locate(_save(tmp_path / "m")), out, lambda line: None)
    assert locate(out).extra_files == ()
    assert read_facts(locate(out)).ops == {"Conv": 1, "BatchNormalization": 1, "Identity": 1, "Relu": 1}


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../secret.bin", "a/../../secret.bin", "C:\\weights.bin", "..\\secret.bin", ""]
)
def test_locations_outside_the_folder_are_refused(location: str, tmp_path: Path) -> None:
    """A model file must not make trtd read any file of the machine."""
    (tmp_path / "secret.bin").write_bytes(b"s" * 4096)
    with pytest.raises(ModelError, match="outside the model's folder"):
        locate(_save(tmp_path / "m", location))


def test_a_symlink_does_not_lead_outside(tmp_path: Path) -> None:
    """The location looks harmless, the file behind it is not."""
    file = _save(tmp_path / "m")
    secret = (file.parent / "weights.bin").rename(tmp_path / "secret.bin")
    (file.parent / "weights.bin").symlink_to(secret)
    with pytest.raises(ModelError, match="outside the model's folder"):
        locate(file)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda file: file.unlink(), "no such file"),
        (lambda file: file.write_bytes(b""), "empty"),
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), "truncated"),
        (lambda file: file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "git-LFS"),
    ],
)
def test_damaged_external_data_is_named(damage: Callable[[Path], object], reason: str, tmp_path: Path) -> None:
    """A half-copied weights file must not be read as zeros."""
    file = _save(tmp_path / "m")
    damage(file.parent / "weights.bin")
    with pytest.raises(ModelError, match=reason) as caught:
        locate(file)
    assert "weights.bin" in str(caught.value)
