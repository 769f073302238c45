"""The full scan: ``specs/``, what specs read, what is published and what is installed, as observations.

The scan is the truth; watch events only make it happen sooner. It remembers what it saw, so that one without news costs
a ``stat`` for each spec and for each engine.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trtd.daemon.inputs import Inputs, InputSet, Use
from trtd.daemon.installed import Installed, Kind
from trtd.daemon.keys import name_of
from trtd.daemon.lists import OUTSIDE, Lists
from trtd.daemon.live_versions import LiveVersions
from trtd.daemon.messages import Failure, Observed
from trtd.daemon.record import Record, recall, remember
from trtd.daemon.spec_file import failure_of
from trtd.daemon.spec_folder import SpecFolder
from trtd.errors import TrtdError
from trtd.registry.layout import Registry
from trtd.store.atomic import storage_error
from trtd.store.digest import PREFIX


@dataclass(frozen=True)
class ScanResult:
    """What a scan found.

    Attributes:
        seen: specs that are new or of which anything changed. Tell those that are ``gone`` first: a renamed spec is in
            both, by two keys.
        gone: keys of specs that are not there any more.
        next_due_mono_s: when to scan again at the latest; ``None``: whenever the next scan is due anyway.
        folders: what to watch: ``specs/``, ``models/`` (with all that is in it), the registry's root, where either may
            be moved away or replaced, then folders of models and data, those that most specs read first. Real paths,
            each once.
        changed: folders in which something changed since the last scan and a watch should have told so.
        problems: what keeps the scan from seeing everything, in words.
    """

    seen: list[Observed]
    gone: list[str]
    next_due_mono_s: float | None
    folders: tuple[Path, ...]
    changed: frozenset[Path]
    problems: tuple[str, ...]


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
        self._specs = SpecFolder(registry.specs, settle_spec_s, settle_s)
        self._inputs = Inputs(registry, roots)
        self._lists = Lists(self._inputs, settle_s, lists_budget)
        self._live = LiveVersions(registry)
        self._installed = Installed(settle_s)
        self._users: dict[str, set[str]] = {}  # keys of the specs that publish an engine, by its name
        self._engines: dict[str, tuple[str, ...]] = {}  # and the other way round
        self._untold: set[str] = set()
        self._watched: tuple[object, tuple[Path, ...]] = ((), ())

    def restore(self, remembered: Mapping[str, str]) -> None:
        """Take up what was known before a restart; call it before the first scan.

        Args:
            remembered: what :meth:`memory` gave, by key. What cannot be used is found out anew.
        """
        for key, text in remembered.items():
            record, counted = recall(key, text)
            self._specs.restore({key: record})
            self._untold.add(key)
            if record.reading is not None:
                self._take_up(key, record, counted)

    def memory(self, key: str) -> str:
        """What to give to :meth:`restore`, for a spec of the last scan. JSON, pure ASCII."""
        record = self._specs.records.get(key) or Record(name_of(key))
        uses = record.reading.uses if record.reading else ()
        return remember(record, {input_set: self._lists.remembered(input_set) for input_set, _ in uses})

    def path(self, key: str) -> Path:
        """The file of a spec."""
        return self._registry.specs / name_of(key)

    def scan(self, now_mono_s: float, *, hinted: Collection[str | Path] | None = None) -> ScanResult:
        """Look at everything that may have changed.

        Args:
            now_mono_s: by a clock that never jumps.
            hinted: folders, as ``folders`` named them, in which something happened: they are listed at once.
        """
        looked = self._specs.look(now_mono_s)
        for key in looked.read:
            self._take_up(key, self._specs.records[key])
        for key in looked.gone:
            self._lists.drop(key)
            self._name(key, ())
        # What happened in a folder that was not there at the last listing concerns the set of the folder above.
        hints = {os.fspath(folder) for folder in hinted or ()}
        listed = self._lists.look(now_mono_s, hints | {os.path.dirname(folder) for folder in hints})
        engines = self._live.look(self._users, now_mono_s)
        kinds = self._installed.look(now_mono_s)
        keys = {*looked.read, *looked.moved, *listed.keys}.union(*(self._users[name] for name in engines))
        if kinds:
            keys |= {key for key, record in self._specs.records.items() if self._kind(record) in kinds}
        if not looked.problem:
            keys |= self._untold
            self._untold.clear()
        specs = os.path.realpath(self._registry.specs)
        due = min(looked.due_mono_s, listed.due_mono_s, self._installed.due_mono_s or math.inf)
        return ScanResult(
            seen=self._news(keys - self._untold),
            gone=looked.gone,
            next_due_mono_s=due if due < math.inf else None,
            folders=self._folders(specs),
            changed=frozenset(map(Path, [*listed.homes, *([specs] if looked.changed else [])])),
            problems=(looked.problem,) if looked.problem else (),
        )

    def _take_up(self, key: str, record: Record, counted: Mapping[InputSet, str] | None = None) -> None:
        """A spec was read, or recalled: use what it names from now on."""
        reading = record.reading
        if reading is None or reading.facts is None:
            self._name(key, ())  # its inputs stay listed: it is being edited, and will likely name the same again
            return
        self._lists.use(key, [input_set for input_set, _ in reading.uses], counted)
        self._name(key, [name for name, _ in reading.facts.engines])

    def _name(self, key: str, names: Sequence[str]) -> None:
        """From now on the spec publishes the engines of these names and no others."""
        for name in self._engines.pop(key, ()):
            self._users[name].discard(key)
            if not self._users[name] and name not in names:
                del self._users[name]
                self._live.forget(name)
        for name in names:
            self._users.setdefault(name, set()).add(key)
        self._engines[key] = tuple(names)

    def _news(self, keys: Collection[str]) -> list[Observed]:
        news = []
        for key in sorted(keys):
            record = self._specs.records.get(key)
            if record is None or (record.told is not None and record.settling is not None):
                continue  # what is known of a spec stands until its new bytes have settled
            if (observed := self._observe(key, record)) != record.told:
                record.told = observed
                news.append(observed)
        return news

    def _observe(self, key: str, record: Record) -> Observed:
        reading = record.reading
        if reading is None:
            return Observed(key, "", None, settled=False)
        facts, fault, settled = reading.facts, reading.fault, record.settling is None
        counted = [self._lists.counted(input_set) for input_set, _ in reading.uses]
        if facts is not None and OUTSIDE in counted:
            fault = self._refusal(key, reading.uses)
            facts = None if fault else facts
        if facts is None:
            return Observed(key, reading.digest, None, fault, settled=settled)
        listings = [digest for digest in counted if digest is not None]
        if len(listings) == len(counted):
            record.inputs_digest = PREFIX + hashlib.sha256("\n".join(listings).encode()).hexdigest()
        return Observed(
            key,
            reading.digest,
            facts,
            inputs_digest=record.inputs_digest,
            tools=self._installed.of(self._kind(record) or (facts.target, "onnx")),
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

    def _kind(self, record: Record) -> Kind | None:
        """What decides which tools a spec's engines depend on; the model is its first input."""
        reading = record.reading
        if reading is None or reading.facts is None:
            return None
        return reading.facts.target, self._lists.format(reading.uses[0][0])

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
