"""From a spec file to everything that a build starts from, without running or importing anything heavy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from trtd.engines.table import BACKENDS
from trtd.errors import DataError, Diagnostic, ModelError, SpecError
from trtd.model.facts import ModelFacts
from trtd.model.inspect import read_facts
from trtd.model.locate import locate
from trtd.model.source import ModelSource
from trtd.pipeline.bounds import UNBOUNDED, Bounds
from trtd.pipeline.data_plan import DataPlan, DataQuestion, choose_data
from trtd.pipeline.faults import (
    image_size_outside,
    refuse_files_outside,
    uncalibrated,
    unknown_outputs,
    unservable,
    unservable_by_paddle,
    unusable_hook,
    with_lines,
)
from trtd.plan.shapes import Profile, close_shapes
from trtd.registry.layout import Registry
from trtd.registry.lookup import source_model
from trtd.spec.load import load_spec
from trtd.spec.paths import FixedRoots, default_roots, resolve, roots_from_environment
from trtd.spec.schema import Spec

__all__ = ["DataPlan", "Intake", "Quantized", "admit", "take_in"]

TOP1 = "top1"


@dataclass(frozen=True)
class Intake:
    """A spec with its model located and its shapes closed. Data is opened when it is first asked for.

    Attributes:
        roots: folders that models and data may be in.
        source, facts: of the model.
        profiles: shapes of every input.
        quantized: the quantized model that the spec names beside the float one.
    """

    spec: Spec
    spec_file: Path
    roots: tuple[Path, ...]
    source: ModelSource
    facts: ModelFacts
    profiles: dict[str, Profile]
    quantized: Quantized | None = None

    def of(self, quantized: Quantized) -> Intake:
        """The same spec and data with a quantized model in the place of the float one."""
        other = replace(self, source=quantized.source, facts=quantized.facts, quantized=None)
        other.__dict__["data"] = self.data  # chosen and hashed already
        return other

    @cached_property
    def data(self) -> DataPlan:
        """Calibration and held-out items, chosen and hashed, the latter with labels if there are any.

        Raises ``DataError``.
        """
        question = DataQuestion(self.spec, self.spec_file, self.roots, self.facts.inputs, self.profiles)
        chosen = choose_data(question)
        if self.labels is not None:
            from trtd.verify.task import read_labels  # only now: most specs have no labels

            read_labels(self.labels, chosen.heldout.refs(), chosen.heldout.open().items)
        return chosen

    @cached_property
    def labels(self) -> Path | None:
        """File of the labels, if the spec names one. Raises ``DataError`` if it is not there."""
        text = self.spec.verify.labels
        if text is None:
            return None
        path = resolve(self.spec_file, text, self.roots, key=("verify", "labels"))
        if not path.is_file():
            raise DataError(
                "there is no such file of labels", where=str(path), hint="check [verify] labels in the spec"
            )
        return path

    @property
    def hook(self) -> Path | None:
        """File of the Python hook that measures the task metric, if the spec names one."""
        metric = self.spec.verify.metric
        if metric is None or metric == TOP1:
            return None
        return resolve(self.spec_file, metric.rpartition(":")[0], self.roots, key=("verify", "metric"))

    @property
    def fingerprint(self) -> dict[str, str]:
        """Of the target: what about its device changes what is built."""
        engine = self.spec.engine
        return BACKENDS[engine.only_target].fingerprint(engine.compute_capabilities)

    @property
    def timings(self) -> Path | None:
        """File of kernel timings that TensorRT is to start from, if the spec names one."""
        text = self.spec.engine.tensorrt.timing_cache
        if text is None:
            return None
        path = resolve(self.spec_file, text, self.roots, key=("engine", "tensorrt", "timing_cache"))
        if not path.is_file():
            hint = "check [engine.tensorrt] timing_cache in the spec; without it the registry keeps one"
            raise DataError("there is no such timing cache", where=str(path), hint=hint)
        return path

    @property
    def table(self) -> Path | None:
        """File of the calibration table, if the spec names one."""
        text = self.spec.calibration.table if self.spec.calibration else None
        if text is None:
            return None
        path = resolve(self.spec_file, text, self.roots, key=("calibration", "table"))
        if not path.is_file():
            hint = "check [calibration] table in the spec"
            raise DataError("there is no such calibration table", where=str(path), hint=hint)
        return path

    @property
    def batch(self) -> int:
        """Batch that the engine is optimized for."""
        return next((p.opt[0] for p in self.profiles.values() if p.opt), 1)

    @property
    def max_batch(self) -> int:
        return next((p.max[0] for p in self.profiles.values() if p.max), 1)


@dataclass(frozen=True)
class Quantized:
    """A Paddle model that holds its own scales."""

    source: ModelSource
    facts: ModelFacts


def take_in(
    spec_file: Path, *, registry: Registry | None, extra_roots: Sequence[Path] = (), bounds: Bounds = UNBOUNDED
) -> list[Intake]:
    """Load and check a spec and its model; one intake for each target of the spec.

    Args:
        extra_roots: further folders that the spec may read.
        bounds: what the operator fixed.

    Raises:
        SpecError: with every fault of the spec, shapes that the model leaves open included.
        ModelError: the model is not there or not a model.
    """
    spec_file = Path(spec_file).absolute()
    return [
        admit(spec, spec_file, registry=registry, extra_roots=extra_roots, bounds=bounds)
        for spec in load_spec(spec_file).per_target()
    ]


def admit(
    spec: Spec,
    spec_file: Path,
    *,
    registry: Registry | None,
    extra_roots: Sequence[Path] = (),
    bounds: Bounds = UNBOUNDED,
) -> Intake:
    """:func:`take_in` for a spec of one target that is loaded already.

    Its relative paths start at ``spec_file``'s folder.
    """
    roots = _roots(spec_file, registry, extra_roots, bounds)
    source = locate(_model_path(spec, spec_file, registry, roots))
    refuse_files_outside(source, roots)
    facts = _facts_of(source)
    profiles, faults = close_shapes(facts.inputs, spec.model.inputs, str(spec_file))
    intake = Intake(spec, spec_file, roots, source, facts, profiles, _quantized(spec, spec_file, roots, facts))
    faults += [
        *uncalibrated(spec, facts, spec_file),
        *unknown_outputs(spec, facts, spec_file),
        *unusable_hook(intake.hook, spec_file, bounds.hooks_allowed),
        *bounds.faults(spec, spec_file),
        *image_size_outside(spec, profiles, spec_file),
        *unservable(spec, facts, spec_file),
        *unservable_by_paddle(spec, facts, profiles, spec_file),
    ]
    if faults:
        raise SpecError(with_lines(spec_file, faults))
    return intake


def _roots(spec_file: Path, registry: Registry | None, extra_roots: Sequence[Path], bounds: Bounds) -> tuple[Path, ...]:
    """Folders that the spec may read. The operator's are all there are: the working folder does not count then."""
    root = registry.root if registry else None
    if bounds.roots is None:
        return default_roots(spec_file, root, (*roots_from_environment(), *extra_roots))
    fixed = bounds.roots if root is None else (root, *bounds.roots)
    return FixedRoots(dict.fromkeys(Path(os.path.realpath(folder)) for folder in fixed))


def _model_path(spec: Spec, spec_file: Path, registry: Registry | None, roots: Sequence[Path]) -> Path:
    if spec.model.path is not None:
        return resolve(spec_file, spec.model.path, roots, key=("model", "path"))
    name = spec.model.registry or ""
    if registry is None:
        fault = Diagnostic(
            str(spec_file), None, "model.registry", f"names the registry model {name!r}, and no registry is given",
            "add --registry DIR",
        )  # fmt: skip
        raise SpecError(with_lines(spec_file, [fault]))
    wanted = spec.model.version
    return source_model(registry, name, wanted if isinstance(wanted, int) else None)[1]


def _facts_of(source: ModelSource) -> ModelFacts:
    """Facts of a model. Raises ``ModelError`` for one that is quantized in a form that cannot be used."""
    facts = read_facts(source)
    if facts.quantized and facts.format == "onnx":
        raise ModelError(
            "the model is quantized already, as ONNX",
            where=str(source.model_file),
            hint="give the float model it was made from, or the quantized Paddle model",
        )
    if facts.quantized:
        from trtd.model.convert_open import require_importable  # only now: it needs numpy

        require_importable(facts)
    return facts


def _quantized(spec: Spec, spec_file: Path, roots: Sequence[Path], facts: ModelFacts) -> Quantized | None:
    """The quantized model beside the float one; raises ``ModelError`` if it is none, or not of the same network."""
    if spec.engine.quantized_model is None:
        return None
    source = locate(resolve(spec_file, spec.engine.quantized_model, roots, key=("engine", "quantized_model")))
    refuse_files_outside(source, roots)
    found = _facts_of(source)
    where = str(source.model_file)
    if not found.quantized:
        hint = "export it with onnx_format=True from PaddleSlim, or remove quantized_model"
        raise ModelError("the model that quantized_model names is not quantized", where=where, hint=hint)
    if facts.quantized:
        hint = "give the float model as [model] path: it is what engines are judged by"
        raise ModelError("both models of the spec are quantized", where=where, hint=hint)
    if found.inputs != facts.inputs or len(found.outputs) != len(facts.outputs):
        raise ModelError(
            "the quantized model has other inputs or outputs than the float one",
            where=where,
            hint="quantize the very model that [model] names",
        )
    return Quantized(source, found)
