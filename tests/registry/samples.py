"""Small engines to publish, and the test of a registry's wholeness."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from trtd.model.facts import TensorFacts
from trtd.registry.layout import CONFIG_FILE, Registry, is_name
from trtd.registry.manifest import Provenance, Target, verify_files
from trtd.registry.publish import publish
from trtd.verify.report import Gate

NAME = "digits-int8"
MEMORY = Path("/dev/shm")
RECORD_NAMES = ("report.json", "report.html", "calibration.json", "build.log")
PASSED = Gate(name="cosine", output="prob", comparison=">=", bound=0.99, measured=0.999, passed=True)


def provenance(classes: int = 10, **changes: Any) -> Provenance:
    """Provenance of an engine; another number of ``classes`` means another ``config.pbtxt``."""
    facts: dict[str, Any] = {
        "precision": "int8",
        "target": Target(backend="onnxruntime-cpu", fingerprint={"isa": ["avx512_vnni"]}),
        "proof": "verified",
        "gates": (PASSED,),
        "model_digest": "sha256:" + "1" * 64,
        "build_digest": "sha256:" + "2" * 64,
        "ingredients": {"model": "sha256:" + "1" * 64},
        "calibration_digest": "sha256:" + "3" * 64,
        "heldout_digest": "sha256:" + "4" * 64,
        "spec": {"name": NAME, "publish": {"keep": 3, "unverified": False}},
        "inputs": (TensorFacts(name="image", dtype="float32", shape=(None, 1, 8, 8)),),
        "outputs": (TensorFacts(name="prob", dtype="float32", shape=(None, classes)),),
        "max_batch_size": 4,
        "tools": {"onnxruntime": "1.32.0"},
    }
    return Provenance.model_validate(facts | changes)


def publish_sample(registry: Registry, content: bytes = b"engine", classes: int = 10, name: str = NAME) -> int:
    """Publish ``content`` as ``model.onnx``, with a second file below it and a full record."""
    sources = registry.private / f"sources-{os.getpid()}"
    sources.mkdir(parents=True, exist_ok=True)
    (sources / "model.onnx").write_bytes(content)
    (sources / "weights").write_bytes(content * 100)
    for record in RECORD_NAMES:
        (sources / record).write_bytes(record.encode() + content)
    return publish(
        registry,
        name,
        {"model.onnx": sources / "model.onnx", "data/weights": sources / "weights"},
        {record: sources / record for record in RECORD_NAMES},
        provenance(classes),
    )


def content_of(registry: Registry, version: int, name: str = NAME) -> bytes:
    """What was given to :func:`publish_sample`."""
    return (registry.engine(name, version) / "model.onnx").read_bytes()


def check_whole(registry: Registry) -> None:
    """Raise unless everything inside ``engines/`` is a complete, digest-true version or a configuration."""
    for model in registry.engines.iterdir():
        assert is_name(model.name), f"stray {model}"
        assert model.is_dir()
        versions = registry.versions(model.name)
        assert versions, f"{model} has no version"
        assert {path.name for path in model.iterdir()} == {CONFIG_FILE, *(str(version) for version in versions)}
        for version in versions:
            verify_files(registry, model.name, version)


def failpoints_in(*modules: str) -> list[str]:
    """Names of all failpoints in the source of these modules of the registry, in the order in which they stand."""
    folder = Path(__file__).parents[2] / "trtd" / "registry"
    return [name for module in modules for name in re.findall(r'failpoint\("(.*?)"\)', (folder / module).read_text())]
