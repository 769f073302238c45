"""What a publish puts where, what it refuses, and what readers see meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from tests.registry.samples import NAME, PASSED, RECORD_NAMES, check_whole, content_of, provenance, publish_sample
from trtd.errors import GateMissed, RegistryBusy, RegistryError, StorageError
from trtd.registry.layout import Registry
from trtd.registry.lookup import current
from trtd.registry.manifest import Provenance
from trtd.registry.publish import publish
from trtd.registry.retention import gc
from trtd.registry.rollback import rollback
from trtd.store.lock import hold

READER = Path(__file__).with_name("reader_process.py")


def test_a_version_has_its_files_its_record_and_its_configuration(disk_registry: Registry) -> None:
    """The first user of the registry is Triton, the second a person with a question."""
    assert publish_sample(disk_registry, b"one") == 1
    manifest, folder = current(disk_registry, NAME)
    assert content_of(disk_registry, 1) == b"one"
    assert manifest.files["model.onnx"].sha256 == hashlib.sha256(b"one").hexdigest()
    assert manifest.files["data/weights"].bytes == 300
    record = disk_registry.record(NAME, 1)
    assert {path.name for path in record.iterdir()} == {"manifest.json", *RECORD_NAMES}
    assert json.loads((record / "manifest.json").read_text())["version"] == 1
    config = (folder.parent / "config.pbtxt").read_text()
    assert text_format.Parse(config, model_config_pb2.ModelConfig()).name == NAME
    assert os.listdir(disk_registry.staging) == []
    check_whole(disk_registry)


def test_an_unchanged_configuration_is_not_touched(disk_registry: Registry) -> None:
    """Triton takes any change of config.pbtxt for a change of the model."""
    publish_sample(disk_registry, b"one")
    config = disk_registry.engines / NAME / "config.pbtxt"
    before = (config.stat().st_ino, config.stat().st_mtime_ns, (disk_registry.engines / NAME).stat().st_ino)
    assert publish_sample(disk_registry, b"two") == 2
    assert (config.stat().st_ino, config.stat().st_mtime_ns, (disk_registry.engines / NAME).stat().st_ino) == before
    check_whole(disk_registry)


def test_a_changed_configuration_comes_with_its_version(disk_registry: Registry) -> None:
    """The old versions must stay the very same files: copies would cost time, disk and a reload."""
    publish_sample(disk_registry, b"one")
    publish_sample(disk_registry, b"two")
    inodes = [(disk_registry.engine(NAME, version) / "model.onnx").stat().st_ino for version in (1, 2)]
    assert publish_sample(disk_registry, b"three", classes=5) == 3
    assert [(disk_registry.engine(NAME, version) / "model.onnx").stat().st_ino for version in (1, 2)] == inodes
    assert "dims: [5]" in (disk_registry.engines / NAME / "config.pbtxt").read_text()
    assert os.listdir(disk_registry.staging) == []
    check_whole(disk_registry)


def test_published_files_bear_the_time_of_publishing(disk_registry: Registry, tmp_path: Path) -> None:
    """A version that comes with an older time than the last is missed by Triton's poll."""
    source = tmp_path / "model.onnx"
    source.write_bytes(b"old file")
    os.utime(source, (1, 1))
    started = time.time()
    publish(disk_registry, NAME, {"model.onnx": source}, {}, provenance())
    folder = disk_registry.engine(NAME, 1)
    slack_s = 1.0
    assert min(folder.stat().st_mtime, (folder / "model.onnx").stat().st_mtime) >= started - slack_s


def test_strays_in_an_engines_folder_do_not_become_versions(registry: Registry) -> None:
    """A folder made by hand, empty, must not stop the first publish, nor be taken for a version."""
    (registry.engines / NAME / "03").mkdir(parents=True)
    assert publish_sample(registry) == 1
    check_whole(registry)


@pytest.mark.parametrize("kind", ["symlink", "folder", "pipe"])
@pytest.mark.parametrize("place", ["file", "record"])
def test_only_plain_files_are_published(registry: Registry, tmp_path: Path, kind: str, place: str) -> None:
    """A symlink would publish /etc, or dangle: then a poll may treat every model as deleted."""
    plain, odd = tmp_path / "plain", tmp_path / "odd"
    plain.write_bytes(b"engine")
    if kind == "symlink":
        odd.symlink_to(plain)
    elif kind == "folder":
        odd.mkdir()
    else:
        os.mkfifo(odd)
    files = {"model.onnx": odd if place == "file" else plain}
    with pytest.raises(RegistryError, match="not a plain file"):
        publish(registry, NAME, files, {"report.json": odd if place == "record" else plain}, provenance())
    assert registry.names() == ()
    assert os.listdir(registry.staging) == []


@pytest.mark.parametrize("name", ["../model.onnx", "/model.onnx", "a/../../b", "", ".", "a//b", "a/", "./a", "a\0b"])
def test_a_name_that_leaves_its_folder_is_refused(registry: Registry, tmp_path: Path, name: str) -> None:
    """It would write over another engine, or anywhere."""
    source = tmp_path / "source"
    source.write_bytes(b"engine")
    for files, records in (({"model.onnx": source, name: source}, {}), ({"model.onnx": source}, {name: source})):
        with pytest.raises(RegistryError, match="name of a published file"):
            publish(registry, NAME, files, records, provenance())
    assert registry.names() == ()


@pytest.mark.parametrize("name", ["manifest.json", "retired.json", "pending"])
def test_the_registrys_own_record_files_are_refused(registry: Registry, tmp_path: Path, name: str) -> None:
    """A stage's file named so would be taken for the registry's word."""
    source = tmp_path / "source"
    source.write_bytes(b"engine")
    with pytest.raises(RegistryError, match=name):
        publish(registry, NAME, {"model.onnx": source}, {name: source}, provenance())


def test_a_target_without_its_file_is_refused(registry: Registry, tmp_path: Path) -> None:
    """Triton would find a version in which nothing can be loaded."""
    source = tmp_path / "engine.onnx"
    source.write_bytes(b"engine")
    with pytest.raises(RegistryError, match=r"model\.onnx"):
        publish(registry, NAME, {"engine.onnx": source}, {}, provenance())


def test_a_missing_source_publishes_nothing(registry: Registry, tmp_path: Path) -> None:
    """Half the files of an engine are no engine."""
    source = tmp_path / "model.onnx"
    source.write_bytes(b"engine")
    with pytest.raises(StorageError, match="No such file"):
        publish(registry, NAME, {"model.onnx": source, "weights": tmp_path / "gone"}, {}, provenance())
    assert registry.names() == ()
    assert registry.recorded_versions(NAME) == ()


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        (provenance(gates=()), "no gate"),
        (provenance(proof="emulated"), "emulated"),
        (provenance(gates=(PASSED, PASSED.model_copy(update={"passed": False, "measured": 0.5}))), "0.5"),
        (provenance(gates=(PASSED.model_copy(update={"measured": 0.5}),)), "0.5"),
        (provenance(gates=(PASSED.model_copy(update={"measured": float("nan")}),)), "nan"),
        (provenance(gates=(PASSED.model_copy(update={"comparison": "<="}),)), "<="),
    ],
)
def test_what_is_not_proved_is_not_published(registry: Registry, tmp_path: Path, facts: Provenance, word: str) -> None:
    """Fidelity measured but not gated, nothing compared, NaN: none may pass this last door."""
    source = tmp_path / "model.onnx"
    source.write_bytes(b"engine")
    with pytest.raises(GateMissed, match=word):
        publish(registry, NAME, {"model.onnx": source}, {}, facts)
    assert registry.names() == ()


def test_an_unverified_engine_is_published_if_the_spec_says_so(registry: Registry, tmp_path: Path) -> None:
    """In so many words only; and a missed gate still holds it back."""
    source = tmp_path / "model.onnx"
    source.write_bytes(b"engine")
    unverified: dict[str, Any] = {"proof": "emulated", "spec": {"publish": {"unverified": True}}}
    assert publish(registry, NAME, {"model.onnx": source}, {}, provenance(**unverified)) == 1
    assert current(registry, NAME)[0].proof == "emulated"
    missed = PASSED.model_copy(update={"passed": False})
    with pytest.raises(GateMissed):
        publish(registry, NAME, {"model.onnx": source}, {}, provenance(**unverified, gates=(missed,)))


def test_a_busy_name_is_refused_and_another_is_not(registry: Registry, tmp_path: Path) -> None:
    """Two publishes of one name would race for one number; those of two names must not wait for each other."""
    source = tmp_path / "model.onnx"
    source.write_bytes(b"engine")
    with hold(registry.lock(NAME), "publish it"):
        with pytest.raises(RegistryBusy, match=str(os.getpid())):
            publish(registry, NAME, {"model.onnx": source}, {}, provenance(), wait_s=0)
        assert publish_sample(registry, name="other") == 1
    assert publish_sample(registry) == 1


def test_a_reader_never_sees_half_a_version(disk_registry: Registry, tmp_path: Path) -> None:
    """A second process hashes and parses all the time while versions come, go and change their configuration."""
    publish_sample(disk_registry, b"first")
    stop = tmp_path / "stop"
    command = [sys.executable, str(READER), str(disk_registry.root), NAME, str(stop)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"
        for turn in range(40):
            publish_sample(disk_registry, f"turn {turn}".encode(), classes=10 + (turn // 3) % 2)
            if turn % 7 == 6:
                rollback(disk_registry, NAME)
            if turn % 5 == 4:
                gc(disk_registry, keep=4)
        stop.touch()
        seen = reader.stdout.read()
        assert reader.wait() == 0, seen
    looks, versions = (int(word) for word in seen.split())
    assert looks > 0
    assert versions > 1
    check_whole(disk_registry)
