"""The manifest: what a published version is made of and what proved it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, JsonValue, ValidationError

from trtd.document import Document
from trtd.engines.opening import EngineFiles
from trtd.errors import RegistryError
from trtd.model.facts import TensorFacts
from trtd.registry.layout import CONFIG_FILE, MANIFEST_FILE, MARKS, Registry
from trtd.store.atomic import storage_errors
from trtd.store.digest import PREFIX
from trtd.store.tree import FileFacts, Inventory, difference, file_facts, files_under
from trtd.verify.report import Gate


class Target(Document):
    """What an engine runs on.

    Attributes:
        backend: as a spec names it in ``engine.target``, e.g. ``onnxruntime-cpu``.
        fingerprint: of the device and the backend, e.g. instruction sets or compute capability.
        variants: file for each compute capability that the spec named; empty if it named none.
        accelerators: what Triton's backend is told of TensorRT; empty where it needs not be.
    """

    backend: str
    fingerprint: dict[str, JsonValue]
    variants: dict[str, str] = Field(default_factory=dict)
    accelerators: dict[str, dict[str, str]] = Field(default_factory=dict)


class Provenance(Document):
    """Where an engine comes from and what it proved to be: everything in a manifest but what publishing adds.

    Attributes:
        precision: of the engine.
        target: that it was built for.
        proof: ``verified`` if the gates were measured on the target, else ``emulated``.
        gates: all of them with the measured values.
        model_digest: of the source model's files.
        build_digest: of the BuildPlan; an equal one means that a new build would give this engine again.
        ingredients: the BuildPlan's rows, whose differences are the reasons why an engine is stale.
        calibration_digest: of the calibration set; ``None`` if there was none.
        scales_digest: of the quantized model that the scales are from, where that is not the source; else ``None``.
        heldout_digest: of the held-out set.
        spec_file: where the spec lay; its relative paths start there.
        spec: as the author wrote it, defaults filled in.
        inputs, outputs: of the engine, in its own order.
        max_batch_size: largest first dimension that it was built for; 0 or 1 if it does not batch.
        tools: versions of everything that took part.
        notes: on how it was made, and what its builder warned of.
        rolled_back_from: the older version whose files these are; ``None`` if they were built for this one.
    """

    precision: str
    target: Target
    proof: Literal["verified", "emulated"]
    gates: tuple[Gate, ...]
    model_digest: str
    build_digest: str
    ingredients: dict[str, str] = Field(default_factory=dict)
    spec_file: str = ""
    calibration_digest: str | None
    scales_digest: str | None = None
    heldout_digest: str
    spec: dict[str, JsonValue]
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    max_batch_size: int = Field(default=0, ge=0)
    tools: dict[str, str]
    notes: tuple[str, ...] = ()
    rolled_back_from: int | None = None

    def publish_setting(self, key: str, default: Any) -> Any:
        """``spec.publish.KEY``, or ``default`` where the spec has none."""
        section = self.spec.get("publish")
        return section.get(key, default) if isinstance(section, dict) else default


class Manifest(Provenance):
    """One published version: ``records/<name>/<version>/manifest.json``.

    Attributes:
        name, version: of the engine.
        created: when it was published, UTC, ISO 8601.
        files: in ``engines/<name>/<version>/``: relative path → size and digest; the folder holds nothing else.
        records: the same for the other files of the record.
        config: ``engines/<name>/config.pbtxt`` as long as this version is the live one.
    """

    schema_version: Literal[1] = 1
    name: str
    version: int = Field(ge=1)
    created: str
    files: dict[str, FileFacts]
    records: dict[str, FileFacts]
    config: FileFacts

    def provenance(self) -> Provenance:
        """What was known before publishing, to publish the same engine once more."""
        return Provenance.model_validate({key: getattr(self, key) for key in Provenance.model_fields})

    def engine_files(self, folder: Path) -> EngineFiles:
        """The published files in ``folder`` as an engine to open."""
        return EngineFiles(
            target=self.target.backend,
            folder=folder,
            digests={file: f"{PREFIX}{facts.sha256}" for file, facts in self.files.items()},
            variants=self.target.variants,
        )

    def to_json(self) -> bytes:
        """The manifest's file, who and when first."""
        data = json.loads(self.model_dump_json())
        head = {key: data[key] for key in ("schema_version", "name", "version", "created")}
        return (json.dumps(head | data, indent=1) + "\n").encode()


def read_manifest(registry: Registry, name: str, version: int) -> Manifest:
    """Read one version's manifest.

    Raises:
        RegistryError: it is missing, cannot be parsed, or is another version's.
        StorageError: the disk refused.
    """
    path = registry.record(name, version) / MANIFEST_FILE
    try:
        with storage_errors("read the manifest", path):
            data = path.read_bytes() if path.is_file() else None
        if data is None:
            raise _torn(name, version, "its manifest is missing", path)
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _torn(name, version, f"its manifest cannot be read: {where} {first['msg']}".strip(), path) from error
    if (manifest.name, manifest.version) != (name, version):
        raise _torn(name, version, f"its manifest is that of {manifest.name}@{manifest.version}", path)
    return manifest


def verify_files(registry: Registry, name: str, version: int) -> Manifest:
    """Hash every published file of one version again and compare with its manifest.

    Covers the engine, the record and, for the live version, ``config.pbtxt``.

    Returns:
        The version's manifest.

    Raises:
        RegistryError: a file differs, is missing, or does not belong there; the message names it.
        StorageError: the disk refused.
    """
    manifest = read_manifest(registry, name, version)
    engine, record = registry.engine(name, version), registry.record(name, version)
    fault = difference(engine, manifest.files, rehash=True)
    if fault is not None:
        raise _torn(name, version, fault, engine)
    fault = difference(record, _whole_record(record, manifest), rehash=True)
    if fault is not None:
        raise _torn(name, version, fault, record)
    config = engine.parent / CONFIG_FILE
    if version == registry.latest(name) and (not config.is_file() or file_facts(config) != manifest.config):
        raise _torn(name, version, f"{CONFIG_FILE} is not the one that was published with it", config)
    return manifest


def _whole_record(record: Path, manifest: Manifest) -> Inventory:
    """What the record should hold: the files that the manifest names, itself, and the registry's own marks."""
    marks = set(MARKS) & files_under(record).keys()
    return manifest.records | {mark: file_facts(record / mark) for mark in marks}


def _torn(name: str, version: int, what: str, where: Path) -> RegistryError:
    hint = f"the disk, or somebody by hand, changed it after it was published; `trtd rollback {name}` puts another live"
    return RegistryError(f"{name}@{version} is torn: {what}", hint=hint, where=str(where))
