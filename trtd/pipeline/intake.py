"""From a spec file to everything that a build starts from, without running or importing anything heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from trtd.calibrate.dataset import Dataset, open_dataset
from trtd.calibrate.split import Selection, check_disjoint, select, split
from trtd.engines.table import BACKENDS
from trtd.errors import Diagnostic, ModelError, SpecError
from trtd.model.facts import ModelFacts
from trtd.model.inspect import read_facts
from trtd.model.source import ModelSource, locate
from trtd.pipeline.feed import Feed
from trtd.plan.build_plan import BuildPlan, make_plan
from trtd.plan.shapes import Profile, close_shapes
from trtd.registry.layout import Registry
from trtd.registry.lookup import source_model
from trtd.spec.lines import key_lines, line_of
from trtd.spec.load import load_spec
from trtd.spec.paths import default_roots, resolve, roots_from_environment
from trtd.spec.schema import Spec
from trtd.store.digest import file_digest

MIN_HELDOUT_GIVEN = 1


@dataclass(frozen=True)
class Intake:
    """A spec with its model located and its shapes closed. Data is opened when it is first asked for.

    Attributes:
        roots: folders that models and data may be in.
        source, facts: of the model.
        profiles: shapes of every input.
    """

    spec: Spec
    spec_file: Path
    roots: tuple[Path, ...]
    source: ModelSource
    facts: ModelFacts
    profiles: dict[str, Profile]

    @cached_property
    def data(self) -> DataPlan:
        """Calibration and held-out items, chosen and hashed. Raises ``DataError``."""
        return _choose_data(self)

    @cached_property
    def labels(self) -> Path | None:
        text = self.spec.verify.labels
        return None if text is None else resolve(self.spec_file, text, self.roots, key=("verify", "labels"))

    @property
    def batch(self) -> int:
        """Batch that the engine is optimized for."""
        return next((p.opt[0] for p in self.profiles.values() if p.opt), 1)

    @property
    def max_batch(self) -> int:
        return next((p.max[0] for p in self.profiles.values() if p.max), 1)


@dataclass(frozen=True)
class DataPlan:
    """The two disjoint sets, and what a report should say about them."""

    calibration: Feed | None
    heldout: Feed
    notes: tuple[str, ...]


def take_in(spec_file: Path, *, registry: Registry | None, extra_roots: Sequence[Path] = ()) -> Intake:
    """Load and check a spec and its model.

    Raises:
        SpecError: with every fault of the spec, shapes that the model leaves open included.
        ModelError: the model is not there or not a model.
    """
    spec_file = Path(spec_file).absolute()
    return admit(load_spec(spec_file), spec_file, registry=registry, extra_roots=extra_roots)


def admit(spec: Spec, spec_file: Path, *, registry: Registry | None, extra_roots: Sequence[Path] = ()) -> Intake:
    """:func:`take_in` for a spec that is loaded already; its relative paths start at ``spec_file``'s folder."""
    extra = (*roots_from_environment(), *extra_roots)
    roots = default_roots(spec_file, registry.root if registry else None, extra)
    source = locate(_model_path(spec, spec_file, registry, roots))
    facts = read_facts(source)
    if facts.quantized:
        raise ModelError(
            "the model is quantized already",
            where=str(source.model_file),
            hint="give the float model it was made from; importing the scales of quantized models is not supported yet",
        )
    profiles, faults = close_shapes(facts.inputs, spec.model.inputs, str(spec_file))
    if faults:
        raise SpecError(_with_lines(spec_file, faults))
    return Intake(spec, spec_file, roots, source, facts, profiles)


def make_plans(intake: Intake) -> tuple[BuildPlan, ...]:
    """One plan for each precision of the spec. Reads and hashes the chosen data."""
    spec, data = intake.spec, intake.data
    backend = BACKENDS[spec.engine.target]
    return tuple(
        make_plan(
            spec,
            precision,
            model_digest=intake.facts.digest,
            profiles=intake.profiles,
            calibration_digest=data.calibration.digest if data.calibration else None,
            heldout_digest=data.heldout.digest,
            labels_digest=file_digest(intake.labels) if intake.labels else None,
            fingerprint=backend.fingerprint(),
            tools=tool_versions(spec.engine.target, intake.facts.format),
        )
        for precision in spec.engine.precisions
    )


def tool_versions(target: str, source_format: str) -> dict[str, str]:
    """Versions of every distribution that takes part, from package metadata alone."""
    names = ["onnx", "onnx-ir", "onnxruntime", *BACKENDS[target].distributions]
    if source_format != "onnx":
        names += ["paddlepaddle", "paddlepaddle-gpu", "paddle2onnx"]
    found = {}
    for name in names:
        try:
            found["paddlepaddle" if name == "paddlepaddle-gpu" else name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _model_path(spec: Spec, spec_file: Path, registry: Registry | None, roots: Sequence[Path]) -> Path:
    if spec.model.path is not None:
        return resolve(spec_file, spec.model.path, roots, key=("model", "path"))
    name = spec.model.registry or ""
    if registry is None:
        fault = Diagnostic(
            str(spec_file), None, "model.registry", f"names the registry model {name!r}, and no registry is given",
            "add --registry DIR",
        )  # fmt: skip
        raise SpecError(_with_lines(spec_file, [fault]))
    wanted = spec.model.version
    return source_model(registry, name, wanted if isinstance(wanted, int) else None)[1]


def _choose_data(intake: Intake) -> DataPlan:
    spec, notes = intake.spec, []
    calibration_text = spec.calibration.data if spec.calibration else None
    heldout_text = spec.verify.data
    samples = spec.calibration.samples if spec.calibration else 0
    ours = _open(intake, calibration_text, ("calibration", "data")) if calibration_text else None
    theirs = _open(intake, heldout_text, ("verify", "data")) if heldout_text else None
    if ours is not None and theirs is not None:
        calibration, heldout = select(ours[1], samples), select(theirs[1], None, at_least=MIN_HELDOUT_GIVEN)
        check_disjoint(calibration, heldout)
        chosen = (_feed(intake, ours, calibration), _feed(intake, theirs, heldout))
    elif ours is not None:
        parts = split(ours[1], samples)
        chosen = (
            _feed(intake, ours, Selection(parts.calibration, ()), parts.calibration_digest),
            _feed(intake, ours, Selection(parts.heldout, ()), parts.heldout_digest),
        )
        if parts.duplicates:
            notes.append(f"{len(parts.duplicates)} items have the content of another and were left out.")
    elif theirs is not None:
        return DataPlan(None, _feed(intake, theirs, select(theirs[1], None, at_least=MIN_HELDOUT_GIVEN)), ())
    else:
        fault = Diagnostic(
            str(intake.spec_file), None, "verify.data", "there is no data to judge the engine on",
            'add data = "FOLDER" to [verify], or a [calibration] section to hold items out of',
        )  # fmt: skip
        raise SpecError(_with_lines(intake.spec_file, [fault]))
    if samples > len(chosen[0].items):
        notes.append(f"{len(chosen[0].items)} calibration items; {samples} were asked for.")
    return DataPlan(chosen[0], chosen[1], tuple(notes))


def _open(intake: Intake, text: str, key: tuple[str, str]) -> tuple[str, Dataset]:
    path = str(resolve(intake.spec_file, text, intake.roots, key=key))
    calibration = intake.spec.calibration
    shapes = {name: p.opt for name, p in intake.profiles.items()}
    preprocess = calibration.preprocess if calibration else None
    return path, open_dataset(path, intake.facts.inputs, shapes, preprocess, roots=intake.roots)


def _feed(intake: Intake, opened: tuple[str, Dataset], chosen: Selection, digest: str | None = None) -> Feed:
    calibration = intake.spec.calibration
    return Feed(
        path=opened[0],
        items=tuple((item.file, item.row) for item in chosen.items),
        digest=digest or chosen.digest,
        inputs=intake.facts.inputs,
        shapes={name: p.opt for name, p in intake.profiles.items()},
        preprocess=calibration.preprocess if calibration else None,
        roots=intake.roots,
    )


def _with_lines(spec_file: Path, faults: Sequence[Diagnostic]) -> list[Diagnostic]:
    """The same faults with the line that each key stands on. Only the last part of a key may hold dots: a name."""
    try:
        lines = key_lines(spec_file.read_text(encoding="utf-8"))
    except OSError:  # a published engine's spec file may be gone
        lines = {}
    return [replace(fault, line=line_of(lines, tuple(fault.key.split(".", 2)))) for fault in faults]
