"""The state of every input set that some spec reads: what its listing is, whether it is still, when to look again."""

from __future__ import annotations

import math
import time
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from trtd.daemon.inputs import Inputs, InputSet
from trtd.daemon.listing import Listing
from trtd.daemon.settle import Settling, is_being_written
from trtd.errors import SpecError, TrtdError

NEWEST = 256
"""So many of the files that changed last are asked whether somebody still writes to them."""
ROUND_S = 20.0
"""Without a reason, no set is listed again sooner than this."""
HINTED_SHARE = 0.01
"""Listing one set, however often something hints at it, takes at most this share of a core."""
MAX_FOLDERS = 1000
"""More folders than these are not offered for watching."""
OUTSIDE = "outside"
"""Stands for the digest of a set whose path leads out of the allowed folders."""

_SAVED_S = 120.0  # what was not spent on listing for longer than this is lost
_NOTHING = Listing(digest="", folders=(), home=None, newest=(), format="onnx")


@dataclass(slots=True)
class _State:
    """One input set.

    Attributes:
        users: keys of the specs that read it.
        last: its last listing; ``None`` before the first.
        counted: digest of the last listing that had settled; empty if none has.
        remembered: digests that had settled before the daemon was started anew.
        settling: what is waited for; ``None`` if the last listing counts.
        due_mono_s: when to list it again whatever happens; infinite if it is settled.
        hinted: whether something may have changed since it was listed.
        cost_s: CPU time of the last listing.
    """

    users: set[str] = field(default_factory=set)
    last: Listing | None = None
    counted: str = ""
    remembered: frozenset[str] = frozenset()
    settling: Settling[str] | None = None
    listed_mono_s: float = -math.inf
    due_mono_s: float = math.inf
    hinted: bool = False
    cost_s: float = 0.0

    def told(self) -> tuple[str, bool, str]:
        """What specs know of it."""
        return self.counted, self.settling is None, self.last.format if self.last else ""

    def wanted_mono_s(self) -> float:
        """When it is to be listed next, unless its turn comes first."""
        if self.last is None:
            return -math.inf
        if not self.hinted:
            return self.due_mono_s
        if self.settling is None:
            return self.listed_mono_s + self.cost_s / HINTED_SHARE
        # Something that is known to change need not be listed at each change. Once it is still, and only held open by
        # a writer, the hint may be that it was closed.
        return max(self.settling.due_mono_s, self.listed_mono_s + self.cost_s / HINTED_SHARE)


@dataclass(frozen=True)
class Looked:
    """What one look found.

    Attributes:
        keys: specs of whose inputs there is something new.
        homes: folders whose listing changed, where a watch of the folder should have told.
        due_mono_s: when to look again at the latest; infinite if nothing is waited for.
    """

    keys: set[str]
    homes: set[str]
    due_mono_s: float


class Lists:
    """All input sets.

    Args:
        inputs: lists one.
        settle_s: how long a listing must be still before it counts.
        budget: share of a core that listing without a reason may take.
    """

    def __init__(self, inputs: Inputs, settle_s: float, budget: float) -> None:
        self._inputs = inputs
        self._settle_s = settle_s
        self._budget = budget
        self._states: OrderedDict[InputSet, _State] = OrderedDict()  # the longest unlisted one first
        self._uses: dict[str, tuple[InputSet, ...]] = {}
        self._allowed_s = 0.0
        self._looked_mono_s = math.inf
        self._folders: tuple[str, ...] | None = None

    def use(self, key: str, sets: Iterable[InputSet], remembered: Mapping[InputSet, str] | None = None) -> None:
        """From now on the spec ``key`` reads these sets and no others. The next look lists them.

        Args:
            remembered: digests that counted before the daemon was started anew.
        """
        before, self._uses[key] = self._uses.get(key, ()), tuple(sets)
        for input_set in self._uses[key]:
            state = self._states.get(input_set)
            if state is None:
                state = self._states[input_set] = _State()
                self._states.move_to_end(input_set, last=False)
            state.users.add(key)
            state.hinted = True
            if remembered and (digest := remembered.get(input_set)):
                state.remembered |= {digest}
        self._leave(key, set(before).difference(self._uses[key]))

    def drop(self, key: str) -> None:
        """The spec ``key`` reads nothing any more."""
        self._leave(key, self._uses.pop(key, ()))

    def _leave(self, key: str, sets: Iterable[InputSet]) -> None:
        self._folders = None
        for input_set in sets:
            state = self._states[input_set]
            state.users.discard(key)
            if not state.users:
                del self._states[input_set]

    def counted(self, input_set: InputSet) -> str | None:
        """Digest of a set that is in use; ``None`` while it is not settled."""
        state = self._states[input_set]
        return state.counted if state.settling is None and state.last is not None else None

    def remembered(self, input_set: InputSet) -> str:
        """Digest of the last listing of a set in use that counted; empty if there is none."""
        state = self._states[input_set]
        return state.counted or next(iter(state.remembered), "")

    def format(self, input_set: InputSet) -> str:
        """Format of a model, as far as names tell."""
        last = self._states[input_set].last
        return last.format if last else "onnx"

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders worth watching, those of most specs first; of very many, only so many that nobody watches more."""
        if self._folders is None:
            counts: Counter[str] = Counter()
            for state in self._states.values():
                for folder in state.last.folders if state.last else ():
                    counts[folder] += len(state.users)
            self._folders = tuple(folder for folder, _ in counts.most_common(MAX_FOLDERS))
        return self._folders

    def look(self, now_mono_s: float, hinted: Collection[str], anything: bool = False) -> Looked:
        """List what is new, hinted at or about to settle, and of the rest as much as the budget allows.

        Args:
            hinted: folders in which something happened.
            anything: something may have happened in any of them.
        """
        self._inputs.look_up()
        due = []
        for input_set, state in self._states.items():
            if anything or (hinted and state.last is not None and any(f in hinted for f in state.last.folders)):
                state.hinted = True
            if state.wanted_mono_s() <= now_mono_s:
                due.append(input_set)
        looked = Looked(set(), set(), math.inf)
        for input_set in due:
            self._list(input_set, now_mono_s, looked)
        self._take_turns(now_mono_s, looked)
        return replace(looked, due_mono_s=min((s.wanted_mono_s() for s in self._states.values()), default=math.inf))

    def _take_turns(self, now_mono_s: float, looked: Looked) -> None:
        since_s = max(0.0, now_mono_s - self._looked_mono_s)
        self._looked_mono_s = now_mono_s
        self._allowed_s = min(self._allowed_s + since_s * self._budget, _SAVED_S * self._budget)
        while self._allowed_s > 0 and self._states:
            input_set, state = next(iter(self._states.items()))
            if now_mono_s - state.listed_mono_s < ROUND_S:
                break
            self._list(input_set, now_mono_s, looked)
            self._allowed_s -= state.cost_s

    def _list(self, input_set: InputSet, now_mono_s: float, looked: Looked) -> None:
        state = self._states[input_set]
        before, last, told = time.thread_time(), state.last, state.told()
        found = self._listing(input_set, state)
        self._settle(state, found, now_mono_s)
        state.last = replace(found, newest=())
        state.listed_mono_s, state.hinted = now_mono_s, False
        state.cost_s = time.thread_time() - before
        self._states.move_to_end(input_set)
        if last is None or last.folders != found.folders:
            self._folders = None
        if last is not None and last.digest != found.digest and found.home and found.home == last.home:
            looked.homes.add(found.home)
        if last is None or told != state.told():
            looked.keys.update(state.users)

    def _listing(self, input_set: InputSet, state: _State) -> Listing:
        is_still = state.settling is None and state.last is not None
        try:
            return self._inputs.list(input_set, newest=0 if is_still else NEWEST)
        except SpecError:
            return replace(_NOTHING, digest=OUTSIDE)
        except (OSError, TrtdError):
            return state.last or _NOTHING  # it may pass; if not, a build will say what is wrong

    def _settle(self, state: _State, found: Listing, now_mono_s: float) -> None:
        known = found.digest in (state.counted, OUTSIDE) or found.digest in state.remembered
        if not known:
            if state.settling is None:
                state.settling = Settling(self._settle_s, found.digest, now_mono_s)
            is_still = state.settling.is_still(found.digest, now_mono_s)
            if not is_still or any(map(is_being_written, found.newest)):
                due = state.settling.due_mono_s
                state.due_mono_s = due if due > now_mono_s else now_mono_s + self._settle_s
                return
        state.counted, state.settling, state.due_mono_s = found.digest, None, math.inf
        state.remembered = frozenset()
