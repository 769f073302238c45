"""The full scan: ``specs/``, what specs read, what is published and what is installed, as observations.

The scan is the truth; watch events only make it happen sooner. It remembers what it saw, so that one without news costs
a ``stat`` for each spec and for each engine.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from trtd.daemon.evidence import Evidence, find
from trtd.daemon.inputs import Inputs, InputSet, Use
from trtd.daemon.installed import Installed, Kind
from trtd.daemon.keys import name_of
from trtd.daemon.lists import OUTSIDE, Lists
from trtd.daemon.live_versions import LiveVersions
from trtd.daemon.messages import Failure, Observed, Recorded
from trtd.daemon.record import Record, recall, remember
from trtd.daemon.scan_result import ScanResult
from trtd.daemon.spec_file import failure_of
from trtd.daemon.spec_folder import FolderLook, SpecFolder
from trtd.errors import TrtdError
from trtd.registry.layout import Registry
from trtd.status import EngineStatus, file_of
from trtd.store.atomic import storage_error
from trtd.store.digest import PREFIX


class Scanner:
    """Scans one registry. Never raises for what it finds there.

    Args:
        registry: its ``specs/``, ``models/`` and ``engines/`` are looked at.
        roots: folders that specs may read, as :func:`trtd.spec.paths.default_roots` gives them.
        settle_spec_s: how long a spec file must be still before it is read.
        settle_s: how long models, data and installed packages must be still before they count.
        lists_budget: share of a core that listing models and data may take while nothing hints at a change.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        roots: Sequence[Path],
        settle_spec_s: float,
        settle_s: float,
        lists_budget: float = 0.001,
    ) -> None:
        self._registry = registry
        self._specs = SpecFolder(registry.specs, roots, settle_spec_s, settle_s)
        self._inputs = Inputs(registry, roots)
        self._lists = Lists(self._inputs, settle_s, lists_budget)
        self._live = LiveVersions(registry)
        self._installed = Installed(settle_s)
        self._untold: set[str] = set()
        self._was_blind = False
        self._watched: tuple[object, tuple[Path, ...]] = ((), ())

    def restore(self, remembered: Iterable[tuple[str, str]]) -> None:
        """Take up what was known before a restart; call it before the first scan.

        Args:
            remembered: keys of subjects, and what :meth:`memory` gave. What cannot be used is found out anew.
        """
        for file, (record, counted) in recall(remembered).items():
            self._specs.restore({file: record})
            self._untold.update(record.told)
            for key in record.told:
                self._live.use(key, self._engines(key))
            if record.has_facts:
                self._lists.use(file, [input_set for input_set, _ in record.uses], counted)

    def memory(self, key: str) -> str:
        """What to give to :meth:`restore`, for a subject of the last scan. JSON, pure ASCII."""
        record = self._record(key) or Record({key: None})
        return remember(record, {input_set: self._lists.remembered(input_set) for input_set, _ in record.uses})

    def listings(self, key: str) -> tuple[tuple[InputSet, str], ...]:
        """Digests of the listings of all that a subject's spec reads; none while one of them is not settled."""
        record = self._record(key)
        uses = record.uses if record is not None else ()
        counted = [(input_set, digest) for input_set, _ in uses if (digest := self._lists.counted(input_set))]
        return tuple(counted) if len(counted) == len(uses) else ()

    def path(self, key: str) -> Path:
        """The file of a subject's spec."""
        return self._registry.specs / name_of(key)

    def scan(
        self, now_mono_s: float, *, hinted: Collection[str | Path] | None = None, anything: bool = False
    ) -> ScanResult:
        """Look at everything that may have changed.

        Args:
            now_mono_s: by a clock that never jumps.
            hinted: folders, as ``folders`` named them, in which something happened: they are listed at once.
            anything: as if all folders were hinted at.
        """
        looked = self._specs.look(now_mono_s)
        specs = os.path.realpath(self._registry.specs)
        if looked.problem:
            self._was_blind = True
            return self._unseen(looked, specs)
        anything, self._was_blind = anything or self._was_blind, False
        gone = [key for record in looked.gone.values() for key in record.told]
        for file in looked.read:
            gone += self._specs.records[file].divide(file)
        read = self._subjects(looked.read)
        unknown = [key for key in read if not self._live.names(key)]
        for key in [*read, *gone]:
            self._live.use(key, self._engines(key))
        live = self._live.look(now_mono_s)
        found = {key: self._recall(key) for key in unknown}
        for file in looked.read:
            self._use(file, [known for key in self._subjects([file]) if (known := found.get(key)) is not None])
        for file in looked.gone:
            self._lists.drop(file)
        # What happened in a folder that was not there at the last listing concerns the set of the folder above.
        hints = {os.fspath(folder) for folder in hinted or ()}
        listed = self._lists.look(now_mono_s, hints | {os.path.dirname(folder) for folder in hints}, anything)
        kinds = self._installed.look(now_mono_s)
        keys = {*self._subjects({*looked.read, *looked.moved, *listed.keys}), *live}
        if kinds:
            keys |= {key for key in self._subjects(self._specs.records) if self._kind(key) in kinds}
        keys, self._untold = keys | self._untold, set()
        due = min(looked.due_mono_s, listed.due_mono_s, self._installed.due_mono_s or math.inf)
        return ScanResult(
            seen=self._news(keys),
            recorded=[_recorded(key, *known) for key, known in found.items() if known is not None],
            gone=gone,
            next_due_mono_s=due if due < math.inf else None,
            folders=self._folders(specs),
            changed=frozenset(map(Path, [*listed.homes, *([specs] if looked.changed else [])])),
            devices=self._installed.devices,
        )

    def _unseen(self, looked: FolderLook, specs: str) -> ScanResult:
        """Without ``specs/`` all counts as it was: if the registry is away, all that it holds would differ."""
        return ScanResult(
            next_due_mono_s=looked.due_mono_s,
            folders=self._folders(specs),
            devices=self._installed.devices,
            problem=looked.problem,
        )

    def _record(self, key: str) -> Record | None:
        """What is known of the file of a subject."""
        return self._specs.records.get(file_of(key))

    def _subjects(self, files: Iterable[str]) -> list[str]:
        """Keys of the subjects of spec files."""
        return [key for file in files if file in self._specs.records for key in self._specs.records[file].told]

    def _engines(self, key: str) -> list[str]:
        """Names of the engines that a subject publishes, as its spec was read last."""
        record = self._record(key)
        facts = record.facts(key) if record is not None else None
        return [name for name, _ in facts.engines] if facts is not None else []

    def _recall(self, key: str) -> tuple[Evidence, tuple[EngineStatus, ...]] | None:
        """Of a subject that nothing is known of: what its live versions were made from, as their records say."""
        return find(self._registry, {name: self._live.get(name) for name in self._live.names(key)})

    def _use(self, file: str, found: Sequence[tuple[Evidence, tuple[EngineStatus, ...]]]) -> None:
        """A spec was read: list what it names from now on. What its subjects were made from has settled once."""
        record = self._specs.records[file]
        if record.has_facts:
            settled = dict(listing for evidence, _ in found for listing in evidence.listings)
            self._lists.use(file, [input_set for input_set, _ in record.uses], settled)
        # Else its inputs stay listed: it is being edited, and will likely name the same again.

    def _news(self, keys: Collection[str]) -> list[Observed]:
        news = []
        for key in sorted(keys):
            record = self._record(key)
            if record is None or key not in record.told:
                continue
            if record.told[key] is not None and record.settling is not None:
                continue  # what is known of a spec stands until its new bytes have settled
            if (observed := self._observe(key, record)) != record.told[key]:
                record.told[key] = observed
                news.append(observed)
        return news

    def _observe(self, key: str, record: Record) -> Observed:
        reading = record.reading
        if reading is None:
            return Observed(key, "", None, settled=False)
        facts, fault, settled = record.facts(key), reading.fault, record.settling is None
        counted = [self._lists.counted(input_set) for input_set, _ in reading.uses]
        if facts is not None and OUTSIDE in counted:
            fault = self._refusal(key, reading.uses)
            facts = None if fault else facts
        if facts is None:
            return Observed(key, reading.digest, None, fault, settled=settled)
        listings = [digest for digest in counted if digest is not None]
        if len(listings) == len(counted):
            record.inputs_digest = _together(listings)
        setting = self._installed.of(self._kind(key) or Kind(facts.target, "onnx"))
        return Observed(
            key,
            reading.digest,
            replace(facts, device=setting.device),
            inputs_digest=record.inputs_digest,
            tools=setting.tools,
            versions=tuple((name, self._live.get(name)) for name, _ in facts.engines),
            settled=settled and len(listings) == len(counted),
        )

    def _refusal(self, key: str, uses: Sequence[Use]) -> Failure | None:
        """Why the spec may not read what it names; ``None`` if by now it may."""
        try:
            self._inputs.check(self.path(key), uses)
        except TrtdError as error:
            return failure_of(error)
        except OSError as error:
            return failure_of(storage_error(error, "look at what the spec names", key))
        return None

    def _kind(self, key: str) -> Kind | None:
        """What decides which tools and device a subject's builds depend on; ``None`` while that is not known."""
        record = self._record(key)
        facts = record.facts(key) if record is not None else None
        if record is None or facts is None:
            return None
        return Kind(facts.target, self._lists.format(record.uses[0][0]), facts.capabilities)  # a model comes first

    def _folders(self, specs: str) -> tuple[Path, ...]:
        """``ScanResult.folders``, made anew only if something in it changed."""
        linked = {record.linked: None for record in self._specs.records.values() if record.linked}
        top = specs if os.path.isdir(specs) else os.path.realpath(self._registry.root)
        basis = (top, self._lists.folders, linked)
        if self._watched[0] != basis:
            root, models = os.path.realpath(self._registry.root), os.path.realpath(self._registry.models)
            named = dict.fromkeys([top, models, root, *self._lists.folders, *linked])
            self._watched = (basis, tuple(map(Path, named)))
        return self._watched[1]


def _recorded(key: str, seen: Evidence, engines: tuple[EngineStatus, ...]) -> Recorded:
    return Recorded(key, seen.spec_digest, _together(digest for _, digest in seen.listings), seen.tools, engines)


def _together(listings: Iterable[str]) -> str:
    return PREFIX + hashlib.sha256("\n".join(listings).encode()).hexdigest()
