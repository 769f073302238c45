"""What a Paddle engine is loaded from, and the folder that Paddle may write to meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from trtd.engines.paddle.opening import open_paddle, read_settings, writable_copy
from trtd.errors import RegistryError

DIGESTS = {"model.pdmodel": "sha256:1", "model.pdiparams": "sha256:2", "_opt_cache/trt_serialized_7": "sha256:3"}


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    (tmp_path / "engine" / "_opt_cache").mkdir(parents=True)
    (tmp_path / "engine" / "_opt_cache" / "trt_serialized_7").write_bytes(b"built")
    return tmp_path / "engine"


def test_each_engine_on_each_machine_has_a_cache_of_its_own(engine: Path, tmp_path: Path) -> None:
    """Paddle's key of a TensorRT engine knows no weights: two models of one structure would run the first one's."""
    here = ["2.6.2, TensorRT 8.5.3", "GPU 8.6"]
    first = writable_copy(engine, DIGESTS, here, tmp_path)
    assert [file.name for file in first.iterdir()] == ["trt_serialized_7"]
    others = [
        writable_copy(engine, {**DIGESTS, "model.pdiparams": "sha256:9"}, here, tmp_path),
        writable_copy(engine, {**DIGESTS, "engine.json": "sha256:4"}, here, tmp_path),
        writable_copy(engine, DIGESTS, ["2.6.2, TensorRT 8.6.1", "GPU 8.6"], tmp_path),
        writable_copy(engine, DIGESTS, ["2.6.2, TensorRT 8.5.3", "GPU 8.9"], tmp_path),
    ]
    assert len({first, *others}) == 5


def test_what_paddle_wrote_anew_is_found_again_and_the_engine_stays_as_it_is(engine: Path, tmp_path: Path) -> None:
    """On another GPU Paddle builds once and not at every start."""
    copy = writable_copy(engine, DIGESTS, ["GPU 8.9"], tmp_path) / "trt_serialized_7"
    copy.write_bytes(b"built anew")
    assert (writable_copy(engine, DIGESTS, ["GPU 8.9"], tmp_path) / "trt_serialized_7").read_bytes() == b"built anew"
    assert (engine / "_opt_cache" / "trt_serialized_7").read_bytes() == b"built"


def test_changed_bytes_never_reach_paddle(engine: Path, tmp_path: Path) -> None:
    """A TensorRT engine is code; and settings that cannot be read say what to do."""
    with pytest.raises(RegistryError, match="not the one that was built"):
        open_paddle(engine, {"_opt_cache/trt_serialized_7": "sha256:0"}, cache=tmp_path)
    (engine / "engine.json").write_text("{")
    with pytest.raises(RegistryError, match="settings of the engine cannot be read") as told:
        read_settings(engine)
    assert "trtd build SPEC --force" in told.value.hint
