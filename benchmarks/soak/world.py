"""The registry of the soak, and everything that people do to it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.soak.quick import HOPELESS, REAL, engine_bytes, made_of
from tests.workshop import Workshop
from trtd.daemon.client import ask
from trtd.daemon.messages import CommandName
from trtd.errors import TrtdError
from trtd.registry.layout import Registry
from trtd.registry.retention import gc
from trtd.spec.load import load_spec

MODELS = [f"net-{number}" for number in range(4)]
SETS = [f"set-{number}" for number in range(3)]
QUICK = [f"quick-{number:02d}" for number in range(20)]
LOOSE = [f"loose-{number}" for number in range(4)]  # on_delete = "unpublish"
BUILT_FOR_REAL = {f"{REAL}fp32": "fp32", f"{REAL}fp16": "fp16", f"{REAL}int8": "int8"}
COMMANDS: tuple[CommandName, ...] = ("pause", "resume", "resume", "retry", "cancel")
CONFIG = """\
[watch]
settle_spec_s = 0.1
settle_s = 0.2
debounce_s = 0.05
[retry]
backoff_s = 0.1
backoff_max_s = 2.0
wait_s = 0.2
[limits]
builds = 3
threads = 1
[shutdown]
drain_s = 5.0
[access]
roots = ["{folder}"]
"""
SPEC = """\
# {edits} edits
[model]
registry = "{model}"
[engine]
precision = {precision}
[calibration]
data = "../data/{data}"
samples = {samples}
[build]
priority = {priority}
[publish]
on_delete = "{on_delete}"
"""
DEBRIS: dict[str, Callable[[Path], object]] = {
    "pipe.toml": os.mkfifo,
    "loop.toml": lambda path: path.symlink_to("loop.toml"),
    "nowhere.toml": lambda path: path.symlink_to("/nowhere/at/all.toml"),
    "folder.toml": lambda path: path.mkdir(),
    ".quick-00.toml.swp": lambda path: path.write_text("[model"),
    "quick-00.toml~": lambda path: path.write_text("[model"),
    "a\n\u202eb\x1b[31m.toml": lambda path: path.write_text("[model"),
    "broken.toml": lambda path: path.write_text("[model\n"),
}


class World:
    """Specs as they should be, and the files that say so.

    Attributes:
        done: how often people did what.
    """

    def __init__(self, folder: Path, chance: random.Random) -> None:
        shop = Workshop(folder)
        shop.furnish()
        self.registry: Registry = shop.registry
        self.done: Counter[str] = Counter()
        self._chance = chance
        self._edits = 0
        (self.registry.root / "trtd.toml").write_text(CONFIG.format(folder=folder))
        for model in MODELS:
            self._new_version(model)
        for data in SETS:
            for number in range(3):
                self._write_data(data, number)
        for name in [*QUICK, *LOOSE]:
            self._edit(name)
        for name, precision in BUILT_FOR_REAL.items():
            shop.spec(name, precision=f'"{precision}"')
            text = (folder / "specs" / f"{name}.toml").read_text().replace("../", f"{folder}/")
            self._spec(name).write_text(text)

    def disturb(self) -> None:
        """Something happens, whatever it is."""
        deeds: list[tuple[int, Callable[[], None]]] = [
            (12, self._edit_one),
            (6, self._touch_spec),
            (4, self._touch_model),
            (2, self._replace_model),
            (1, lambda: self._new_version(self._chance.choice(MODELS))),
            (2, lambda: self._write_data(self._chance.choice(SETS), self._chance.randrange(3))),
            (4, self._remove),
            (2, self._break),
            (2, self._litter),
            (1, self._move_specs),
            (6, self._command),
            (1, self._collect_garbage),
        ]
        weights, actions = zip(*deeds, strict=True)
        (deed,) = self._chance.choices(actions, weights)
        deed()

    def tidy_up(self) -> None:
        """Every spec is there and in order, and nothing else is."""
        for name in DEBRIS:
            self._clear(self.registry.specs / name)
        for name in [*QUICK, *LOOSE]:
            self._edit(name)

    def wanted(self) -> dict[str, bytes]:
        """What should be published of the specs that are there, by engine; without those that are built for real."""
        found: dict[str, bytes] = {}
        for name in [*QUICK, *LOOSE]:
            spec = load_spec(self._spec(name))
            if spec.calibration is None or spec.calibration.samples != HOPELESS:
                ingredients = made_of(spec, self.registry)
                found |= {engine: engine_bytes(engine, ingredients) for engine in spec.engine_names.values()}
        return found

    def _spec(self, name: str) -> Path:
        return self.registry.specs / f"{name}.toml"

    def _edit_one(self) -> None:
        self._edit(self._chance.choice([*QUICK, *LOOSE]))

    def _edit(self, name: str) -> None:
        """Write a spec anew, in one of the ways in which people and programs do it."""
        self.done["specs written"] += 1
        self._edits += 1
        chance, file = self._chance, self._spec(name)
        text = SPEC.format(
            edits=self._edits,
            model=chance.choice(MODELS),
            data=chance.choice(SETS),
            samples=HOPELESS if chance.random() < 0.05 else chance.randrange(20, 24),
            precision=chance.choice(['"int8"', '"int8"', '["int8", "fp16"]']),
            priority=chance.randrange(3),
            on_delete="unpublish" if name in LOOSE else "keep",
        )
        way = chance.randrange(3)
        if way == 0:
            beside = file.with_name(f".{file.name}.new")
            beside.write_text(text)
            beside.replace(file)
        elif way == 1:
            file.write_text(text)
        else:
            with file.open("w") as held:
                held.write(text[: len(text) // 2])
                held.flush()
                time.sleep(0.03)
                held.write(text[len(text) // 2 :])

    def _touch_spec(self) -> None:
        self.done["specs touched"] += 1
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._spec(self._chance.choice([*QUICK, *LOOSE, *BUILT_FOR_REAL])))

    def _touch_model(self) -> None:
        self.done["models touched"] += 1
        os.utime(self._newest(self._chance.choice(MODELS)))

    def _replace_model(self) -> None:
        self.done["models replaced"] += 1
        file = self._newest(self._chance.choice(MODELS))
        beside = file.with_name(".net.onnx.new")
        beside.write_bytes(self._chance.randbytes(5000))
        beside.replace(file)

    def _new_version(self, model: str) -> None:
        self.done["models replaced"] += 1
        folder = self.registry.models / model / str(max(self.registry.model_versions(model), default=0) + 1)
        folder.mkdir(parents=True)
        (folder / "net.onnx").write_bytes(self._chance.randbytes(5000))

    def _newest(self, model: str) -> Path:
        return self.registry.models / model / str(max(self.registry.model_versions(model))) / "net.onnx"

    def _write_data(self, data: str, number: int) -> None:
        self.done["data replaced"] += 1
        folder = self.registry.root / "data" / data
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.npy").write_bytes(self._chance.randbytes(500))

    def _remove(self) -> None:
        self.done["specs removed"] += 1
        self._spec(self._chance.choice([*QUICK, *LOOSE])).unlink(missing_ok=True)

    def _break(self) -> None:
        self.done["specs broken"] += 1
        self._spec(self._chance.choice([*QUICK, *LOOSE])).write_text("[model\nregistry = 1")

    def _litter(self) -> None:
        self.done["debris"] += 1
        name, make = self._chance.choice(list(DEBRIS.items()))
        self._clear(self.registry.specs / name)
        make(self.registry.specs / name)

    def _move_specs(self) -> None:
        """Away and back: what nobody sees for a while is not deleted, and nothing is to be built or retired for it."""
        self.done["specs/ moved away and back"] += 1
        away = self.registry.root / "away"
        self.registry.specs.rename(away)
        time.sleep(self._chance.uniform(0.0, 1.0))
        away.rename(self.registry.specs)

    def _clear(self, path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def _command(self) -> None:
        self.done["commands"] += 1
        command = self._chance.choice(COMMANDS)
        with contextlib.suppress(TrtdError):  # nobody may be there to take it
            ask(self.registry, command, self._chance.choice(QUICK), timeout_s=1.0)

    def _collect_garbage(self) -> None:
        self.done["garbage collections"] += 1
        with contextlib.suppress(TrtdError):  # a build may hold a lock
            gc(self.registry, keep=2, wait_s=0.0)
