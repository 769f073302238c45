"""The data of a spec: what calibrates, and what judges and never calibrates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trtd.calibrate.dataset import Dataset, open_dataset
from trtd.calibrate.items import ItemRef
from trtd.calibrate.split import Selection, check_disjoint, select, split
from trtd.errors import Diagnostic, SpecError
from trtd.model.facts import TensorFacts
from trtd.pipeline.faults import with_lines
from trtd.pipeline.feed import Feed
from trtd.plan.shapes import Profile
from trtd.spec.paths import resolve
from trtd.spec.schema import Spec

MIN_HELDOUT_GIVEN = 1


@dataclass(frozen=True)
class DataQuestion:
    """A spec, the inputs of its model, and where its files may lie."""

    spec: Spec
    spec_file: Path
    roots: tuple[Path, ...]
    inputs: tuple[TensorFacts, ...]
    profiles: dict[str, Profile]


@dataclass(frozen=True)
class DataPlan:
    """The two disjoint sets, and what a report should say about them."""

    calibration: Feed | None
    heldout: Feed
    notes: tuple[str, ...]


def choose_data(question: DataQuestion) -> DataPlan:
    """Choose, hash and hold apart what calibrates and what judges. Raises ``DataError``, ``SpecError``."""
    spec, notes = question.spec, []
    calibration_text = spec.calibration.data if spec.calibration else None
    heldout_text = spec.verify.data
    samples = spec.calibration.samples if spec.calibration else 0
    ours = _open(question, calibration_text, ("calibration", "data")) if calibration_text else None
    theirs = _open(question, heldout_text, ("verify", "data")) if heldout_text else None
    if ours is not None and theirs is not None:
        calibration, heldout = select(ours[1], samples), select(theirs[1], None, at_least=MIN_HELDOUT_GIVEN)
        check_disjoint(calibration, heldout)
        chosen = (_feed(question, ours, calibration.items, calibration.digest), _feed_of(question, theirs, heldout))
    elif ours is not None:
        parts = split(ours[1], samples)
        chosen = (
            _feed(question, ours, parts.calibration, parts.calibration_digest),
            _feed(question, ours, parts.heldout, parts.heldout_digest, parts.heldout_order_digest),
        )
        if parts.duplicates:
            notes.append(f"{len(parts.duplicates)} items have the content of another and were left out.")
    elif theirs is not None:
        heldout = select(theirs[1], None, at_least=MIN_HELDOUT_GIVEN)
        notes += [*_assumed(question, theirs[1]), *_left_out(theirs[1])]
        return DataPlan(None, _feed_of(question, theirs, heldout), tuple(notes))
    else:
        fault = Diagnostic(
            str(question.spec_file), None, "verify.data", "there is no data to judge the engine on",
            'add data = "FOLDER" to [verify], or a [calibration] section to hold items out of',
        )  # fmt: skip
        raise SpecError(with_lines(question.spec_file, [fault]))
    notes += _assumed(question, ours[1])
    notes += _left_out(*[opened[1] for opened in (ours, theirs) if opened is not None])
    if samples > len(chosen[0].items):
        notes.append(f"{len(chosen[0].items)} calibration items; up to {samples} would be used.")
    return DataPlan(chosen[0], chosen[1], tuple(notes))


def _open(question: DataQuestion, text: str, key: tuple[str, str]) -> tuple[str, Dataset]:
    path = str(resolve(question.spec_file, text, question.roots, key=key))
    calibration = question.spec.calibration
    shapes = {name: p.opt for name, p in question.profiles.items()}
    preprocess = calibration.preprocess if calibration else None
    return path, open_dataset(path, question.inputs, shapes, preprocess, roots=question.roots)


def _assumed(question: DataQuestion, dataset: Dataset) -> list[str]:
    """What is done to images where the spec says nothing: done wrong, it makes all figures worthless."""
    if (question.spec.calibration and question.spec.calibration.preprocess) or not dataset.image_words:
        return []
    return [f"Images become inputs by default: {dataset.image_words}. [calibration.preprocess] says otherwise."]


def _left_out(*datasets: Dataset) -> list[str]:
    names = [name for dataset in datasets for name in dataset.ignored]
    return [f"Left out beside the data: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}."] if names else []


def _feed_of(question: DataQuestion, opened: tuple[str, Dataset], chosen: Selection) -> Feed:
    return _feed(question, opened, chosen.items, chosen.digest, chosen.order_digest)


def _feed(
    question: DataQuestion, opened: tuple[str, Dataset], items: Sequence[ItemRef], digest: str, order_digest: str = ""
) -> Feed:
    calibration = question.spec.calibration
    return Feed(
        path=opened[0],
        items=tuple((item.file, item.row) for item in items),
        digest=digest,
        order_digest=order_digest,
        inputs=question.inputs,
        shapes={name: p.opt for name, p in question.profiles.items()},
        preprocess=calibration.preprocess if calibration else None,
        roots=question.roots,
    )
