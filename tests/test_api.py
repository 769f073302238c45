"""The Python API: what ``import trtd`` offers to programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import trtd
from tests.workshop import Workshop, write_model
from trtd.errors import EngineError, EnvironmentMissing, GateMissed, RegistryError, SpecError, TrtdError, UsageError


def images(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(5).random((count, 3, 8, 8)).astype(np.float32)


def test_load_runs_a_published_engine_by_names(shop: Workshop) -> None:
    """Programs would have to know the registry's layout and the runtime's session."""
    with (
        trtd.load(shop.registry.root, "tiny-int8", threads=1) as int8,
        trtd.load(shop.registry.root, "tiny-fp16") as fp16,
    ):
        assert [(i.name, i.dtype, i.shape) for i in int8.inputs] == [("x", "float32", (None, 3, 8, 8))]
        assert [o.name for o in int8.outputs] == ["scores"]
        outputs, others = int8.run({"x": images(4)}), fp16.run({"x": images(4)})
        assert set(outputs) == {"scores"}
        assert outputs["scores"].shape == (4, 5)
        assert outputs["scores"].dtype == np.float32
        np.testing.assert_allclose(outputs["scores"], others["scores"], rtol=0.1, atol=0.1)
        assert (int8.manifest.name, int8.manifest.version, int8.manifest.precision) == ("tiny-int8", 1, "int8")


def test_misuse_is_told_in_the_words_of_this_api(shop: Workshop) -> None:
    """Numpy and the runtime would speak of their own insides."""
    with trtd.load(shop.registry.root, "tiny-fp16") as engine:
        with pytest.raises(trtd.errors.UsageError, match="inputs by their names") as caught:
            engine.run(images(1))  # type: ignore[arg-type]
        assert 'engine.run({"x": array})' in caught.value.hint
    engine.close()
    with pytest.raises(UsageError, match="the engine is closed"):
        engine.run({"x": images(1)})


def test_a_published_digits_engine_reads_digits(digits: Workshop) -> None:
    """The numbers that leave an engine would not be those of the Paddle model that went in."""
    data = digits.folder / "digits"
    shown, labels = np.load(data / "heldout.npy"), np.load(data / "heldout_labels.npy")
    for name in ("digits-int8", "digits-fp16"):
        with trtd.load(digits.registry.root, name) as engine:
            (scores,) = engine.run({"image": shown.astype(np.float32)}).values()
        assert (scores.argmax(axis=1) == labels).mean() > 0.95


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "input 'x' is missing"),
        ({"X": images(1)}, "no input 'X'"),
        ({"x": images(1), "y": images(1)}, "no input 'y'"),
        ({"x": images(1).astype(np.float64)}, "is float64"),
        ({"x": images(1)[:, :2]}, r"of shape \[1, 2, 8, 8\], not float32 \[\?, 3, 8, 8\]"),
        ({"x": images(1)[0]}, "of shape"),
    ],
)
def test_feeds_that_do_not_fit_are_refused_by_name(
    feeds: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]], message: str, shop: Workshop
) -> None:
    """The runtime's own words name no input, and some misfits would be computed with."""
    with trtd.load(shop.registry.root, "tiny-int8") as engine, pytest.raises(EngineError, match=message):
        engine.run(feeds)


@pytest.mark.parametrize("file", ["model.onnx", "manifest.json"])
@pytest.mark.parametrize("how", ["flip", "cut", "remove", "empty"])
def test_load_refuses_an_engine_that_was_changed(file: str, how: str, shop: Workshop) -> None:
    """A program would run what nobody has proved."""
    registry = shop.registry
    folder = registry.engine("tiny-int8", 1) if file == "model.onnx" else registry.record("tiny-int8", 1)
    content = bytearray((folder / file).read_bytes())
    if how == "flip":
        at = content.index(b'"version": 1,') + 11 if file == "manifest.json" else len(content) // 2
        content[at] ^= 3
    elif how == "cut":
        del content[len(content) // 2 :]
    (folder / file).unlink()
    if how != "remove":
        (folder / file).write_bytes(b"" if how == "empty" else content)
    with pytest.raises(RegistryError, match="torn"):
        trtd.load(registry.root, "tiny-int8")


def test_load_refuses_what_is_not_there(shop: Workshop, tmp_path: Path) -> None:
    """A program would get a stack trace of a missing file, or another engine than it asked for."""
    with pytest.raises(RegistryError, match="no engine 'tiny-int9'") as caught:
        trtd.load(shop.registry.root, "tiny-int9")
    assert "did you mean tiny-int8" in caught.value.hint
    for version in (0, 2, -1):
        with pytest.raises(RegistryError, match=f"has no version {version}"):
            trtd.load(shop.registry.root, "tiny-int8", version)
    for name in ("../tiny-int8", "", "tiny-int8/1", "/etc"):
        with pytest.raises(RegistryError, match="no engine"):
            trtd.load(shop.registry.root, name)
    with pytest.raises(RegistryError, match="no engine"):
        trtd.load(tmp_path / "absent", "tiny-int8")
    assert not (tmp_path / "absent").exists()


def test_load_refuses_a_target_of_another_trtd(shop: Workshop) -> None:
    """An engine that a newer trtd published would end in a KeyError."""
    path = shop.registry.record("tiny-int8", 1) / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["target"]["backend"] = "tpu"
    path.write_text(json.dumps(manifest))
    with pytest.raises(EnvironmentMissing, match="tiny-int8@1 is built for tpu"):
        trtd.load(shop.registry.root, "tiny-int8")


def test_build_returns_the_report(shop: Workshop) -> None:
    """Programs would have to find and parse the record."""
    spec = shop.spec("solo", precision='"fp16"')
    report = trtd.build(str(spec), str(shop.registry.root))
    assert (report.name, report.precision, report.passed) == ("solo", "fp16", True)
    assert trtd.build(spec, shop.registry.root) == report  # up to date: the published one
    assert shop.registry.versions("solo") == (1,)


def test_build_all_returns_every_report(shop: Workshop) -> None:
    """Of several precisions only one would be seen."""
    spec = shop.folder / "specs" / "tiny.toml"
    with pytest.raises(UsageError, match="asks for 2 engines") as caught:
        trtd.build(spec, shop.registry.root)
    assert "build_all" in caught.value.hint
    reports = trtd.build_all(spec, shop.registry.root)
    assert {name: report.precision for name, report in reports.items()} == {"tiny-int8": "int8", "tiny-fp16": "fp16"}


def test_build_raises_what_went_wrong(shop: Workshop) -> None:
    """A program could take an engine for published that is not."""
    with pytest.raises(SpecError):
        trtd.build(shop.spec("wrong", more="x = 1"), shop.registry.root)
    with pytest.raises(RegistryError, match="not a registry"):
        trtd.build(shop.spec("solo", precision='"fp16"'), shop.images)
    write_model(shop.model, seed=9)
    with pytest.raises(GateMissed, match="not published: sqnr_db of scores"):
        trtd.build(shop.spec("missed", precision='"fp16"', gates="sqnr_db = 500.0"), shop.registry.root)
    assert "missed" not in shop.registry.names()
    assert issubclass(GateMissed, TrtdError)


def test_importing_trtd_is_cheap() -> None:
    """Every program that imports trtd would load numpy and more, whether or not it runs an engine."""
    code = "import sys, trtd; print(sorted({'numpy', 'onnxruntime', 'pydantic', 'paddle'} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.stdout == "[]\n"
