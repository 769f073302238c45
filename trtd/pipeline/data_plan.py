"""The data of a spec: what calibrates, and what judges and never calibrates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtd.calibrate.dataset import Dataset, open_dataset
from trtd.calibrate.items import ItemRef
from trtd.calibrate.split import Selection, check_disjoint, select, split
from trtd.errors import Diagnostic, SpecError
from trtd.pipeline.faults import with_lines
from trtd.pipeline.feed import Feed
from trtd.spec.paths import resolve

if TYPE_CHECKING:
    from trtd.pipeline.intake import Intake

MIN_HELDOUT_GIVEN = 1


@dataclass(frozen=True)
class DataPlan:
    """The two disjoint sets, and what a report should say about them."""

    calibration: Feed | None
    heldout: Feed
    notes: tuple[str, ...]


def choose_data(intake: Intake) -> DataPlan:
    """Choose, hash and hold apart what calibrates and what judges. Raises ``DataError``, ``SpecError``."""
    spec, notes = intake.spec, []
    calibration_text = spec.calibration.data if spec.calibration else None
    heldout_text = spec.verify.data
    samples = spec.calibration.samples if spec.calibration else 0
    ours = _open(intake, calibration_text, ("calibration", "data")) if calibration_text else None
    theirs = _open(intake, heldout_text, ("verify", "data")) if heldout_text else None
    if ours is not None and theirs is not None:
        calibration, heldout = select(ours[1], samples), select(theirs[1], None, at_least=MIN_HELDOUT_GIVEN)
        check_disjoint(calibration, heldout)
        chosen = (_feed(intake, ours, calibration.items, calibration.digest), _feed_of(intake, theirs, heldout))
    elif ours is not None:
        parts = split(ours[1], samples)
        chosen = (
            _feed(intake, ours, parts.calibration, parts.calibration_digest),
            _feed(intake, ours, parts.heldout, parts.heldout_digest, parts.heldout_order_digest),
        )
        if parts.duplicates:
            notes.append(f"{len(parts.duplicates)} items have the content of another and were left out.")
    elif theirs is not None:
        heldout = select(theirs[1], None, at_least=MIN_HELDOUT_GIVEN)
        return DataPlan(None, _feed_of(intake, theirs, heldout), tuple(_left_out(theirs[1])))
    else:
        fault = Diagnostic(
            str(intake.spec_file), None, "verify.data", "there is no data to judge the engine on",
            'add data = "FOLDER" to [verify], or a [calibration] section to hold items out of',
        )  # fmt: skip
        raise SpecError(with_lines(intake.spec_file, [fault]))
    notes += _left_out(*[opened[1] for opened in (ours, theirs) if opened is not None])
    if samples > len(chosen[0].items):
        notes.append(f"{len(chosen[0].items)} calibration items; {samples} were asked for.")
    return DataPlan(chosen[0], chosen[1], tuple(notes))


def _open(intake: Intake, text: str, key: tuple[str, str]) -> tuple[str, Dataset]:
    path = str(resolve(intake.spec_file, text, intake.roots, key=key))
    calibration = intake.spec.calibration
    shapes = {name: p.opt for name, p in intake.profiles.items()}
    preprocess = calibration.preprocess if calibration else None
    return path, open_dataset(path, intake.facts.inputs, shapes, preprocess, roots=intake.roots)


def _left_out(*datasets: Dataset) -> list[str]:
    names = [name for dataset in datasets for name in dataset.ignored]
    return [f"Left out beside the data: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}."] if names else []


def _feed_of(intake: Intake, opened: tuple[str, Dataset], chosen: Selection) -> Feed:
    return _feed(intake, opened, chosen.items, chosen.digest, chosen.order_digest)


def _feed(
    intake: Intake, opened: tuple[str, Dataset], items: Sequence[ItemRef], digest: str, order_digest: str = ""
) -> Feed:
    calibration = intake.spec.calibration
    return Feed(
        path=opened[0],
        items=tuple((item.file, item.row) for item in items),
        digest=digest,
        order_digest=order_digest,
        inputs=intake.facts.inputs,
        shapes={name: p.opt for name, p in intake.profiles.items()},
        preprocess=calibration.preprocess if calibration else None,
        roots=intake.roots,
    )
