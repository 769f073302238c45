"""A registry with specs, models and data, and a scanner whose clock the test turns."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from trtd.daemon.messages import Observed
from trtd.daemon.scan import Scanner
from trtd.daemon.scan_result import ScanResult
from trtd.registry.layout import Registry
from trtd.spec.paths import default_roots

SPEC_S = 0.5
INPUTS_S = 10.0
PERIOD_S = 30.0


@dataclass
class Scene:
    """``registry/``, with ``models/net/1/net.onnx`` and ``data/0.png`` in it.

    Attributes:
        known: what was last told of each subject; without those that are gone.
        told: how many observations were told in all.
        gone: keys that were told to be gone, in order.
    """

    folder: Path
    budget: float = 1.0
    now: float = 1000.0
    known: dict[str, Observed] = field(default_factory=dict)
    told: int = 0
    gone: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.registry.init()
        self.model.parent.mkdir(parents=True, exist_ok=True)
        self.data.mkdir(exist_ok=True)
        self.model.write_bytes(b"weights")
        (self.data / "0.png").write_bytes(b"pixels")
        self.start()

    @property
    def registry(self) -> Registry:
        return Registry(self.folder / "registry")

    @property
    def model(self) -> Path:
        return self.registry.models / "net" / "1" / "net.onnx"

    @property
    def data(self) -> Path:
        return self.registry.root / "data"

    def start(self) -> None:
        """A scanner that remembers nothing."""
        roots = default_roots(self.registry.specs / "any.toml", self.registry.root, [])
        self.scanner = Scanner(
            self.registry, roots=roots, settle_spec_s=SPEC_S, settle_s=INPUTS_S, lists_budget=self.budget
        )

    def restart(self) -> None:
        """Another scanner that remembers what this one did, as after the daemon was killed."""
        memories = {key: self.scanner.memory(key) for key in self.known}
        self.start()
        self.known.clear()
        self.told = 0
        self.scanner.restore(memories.items())

    def spec(self, name: str = "a.toml", **text: str) -> Path:
        """Write a spec, at once and in place."""
        file = self.registry.specs / name
        file.write_text(spec_text(**text))
        return file

    def scan(self, after_s: float = 0.0, *, hinted: Path | None = None) -> ScanResult:
        """Scan after a while."""
        self.now += after_s
        result = self.scanner.scan(self.now, hinted=[hinted] if hinted else None)
        for key in result.gone:
            self.known.pop(key, None)
        self.gone += result.gone
        self.known |= {observed.key: observed for observed in result.seen}
        self.told += len(result.seen)
        return result

    def settle(self) -> None:
        """Scan whenever the scanner asks for it, and each period, until there is nothing new any more."""
        for _ in range(200):
            result = self.scan()
            if result.next_due_mono_s is not None:
                self.now = max(self.now, result.next_due_mono_s)
            elif not (result := self.scan(PERIOD_S)).seen and result.next_due_mono_s is None:
                return
        raise AssertionError("the scanner never comes to rest")

    def settled(self, *keys: str) -> list[Observed]:
        """What is known of these specs once nothing changes any more; of the one there is, if none is named."""
        self.settle()
        return [self.known[key] for key in keys or self.known]


def spec_text(*, head: str = "", model: str = "", data: str = "../data", engine: str = "") -> str:
    """A valid spec."""
    model = model or 'registry = "net"'
    engine = f"[engine]\n{engine}\n" if engine else ""
    return f'{head}\n[model]\n{model}\n[calibration]\ndata = "{data}"\n{engine}'


def replace_atomically(path: Path, text: str) -> None:
    """Write beside it and rename, as careful editors and rsync do."""
    beside = path.with_name(f".{path.name}.swp")
    beside.write_text(text)
    os.replace(beside, path)
