"""Who claims which name: engines and specs may each have one file only."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import Literal, NamedTuple


class Name(NamedTuple):
    """``kept``: an engine that a spec published before it came to be at fault; it keeps others from retiring it."""

    kind: Literal["spec", "engine", "kept"]
    text: str


class Claims:
    """Names and the keys that claim them. A key that joins or leaves a crowd costs no look at the crowd.

    Attributes:
        crowded: names whose crowd changed; those in it learn with :meth:`take_crowded` that their rivals did.
    """

    def __init__(self) -> None:
        self._keys: dict[Name, list[str]] = {}
        self._names: dict[str, frozenset[Name]] = {}
        self.crowded: set[Name] = set()

    def replace(self, key: str, names: Iterable[Name]) -> list[str]:
        """Let ``key`` claim just these names. Gives the other keys that came to have rivals, or lost their last."""
        new, old = frozenset(names), self._names.get(key, frozenset())
        turned: list[str] = []
        for name in sorted(old - new):
            keys = self._keys[name]
            del keys[bisect_left(keys, key)]
            turned += self._changed(name, keys, [])
        for name in sorted(new - old):
            others = self._keys.setdefault(name, [])
            turned += self._changed(name, others, [key])
        if new:
            self._names[key] = new
        else:
            self._names.pop(key, None)
        return turned

    def keys(self, name: Name) -> tuple[str, ...]:
        """All that claim ``name``, sorted."""
        return tuple(self._keys.get(name, ()))

    def is_wanted(self, engine: str, besides: str) -> bool:
        """Whether another key than ``besides`` claims the engine, or did before it came to be at fault."""
        holders = (self._keys.get(Name("engine", engine), ()), self._keys.get(Name("kept", engine), ()))
        return any(key != besides for keys in holders for key in keys[:2])

    def rivals(self, key: str, most: int = 3) -> tuple[tuple[Name, tuple[str, ...], bool], ...]:
        """Names that others claim too, each with the first ``most`` of those others, and whether there are more."""
        found = []
        for name in sorted(self._names.get(key, ())):
            keys = self._keys[name]
            if len(keys) > 1 and name.kind != "kept":
                others = [other for other in keys[: most + 1] if other != key][:most]
                found.append((name, tuple(others), len(keys) - 1 > len(others)))
        return tuple(found)

    def take_crowded(self) -> set[str]:
        """Keys whose rivals may be others than when they were last told. Ask once in a while: a crowd may be large."""
        keys = {key for name in self.crowded for key in self._keys.get(name, ())}
        self.crowded.clear()
        return keys

    def _changed(self, name: Name, keys: list[str], joining: list[str]) -> list[str]:
        """``keys`` as they are without the one who joins or left: a sole one among them turned."""
        turned = list(keys) if len(keys) == 1 and name.kind != "kept" else []
        if len(keys) > 1:
            self.crowded.add(name)
        for key in joining:
            insort(keys, key)
        if not keys:
            del self._keys[name]
        return turned
