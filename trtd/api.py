"""The Python API: build from a spec, run what is published."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from trtd.engines.protocol import Runner
    from trtd.model.facts import TensorFacts
    from trtd.registry.manifest import Manifest
    from trtd.verify.report import Report

StrPath = str | os.PathLike[str]


class Engine:
    """A published engine, loaded. Use it as a context manager, or call :meth:`close`.

    Attributes:
        manifest: what was published, digests and gates included.
    """

    def __init__(self, manifest: Manifest, runner: Runner) -> None:
        self.manifest = manifest
        self._runner = runner
        self._is_closed = False

    @property
    def inputs(self) -> tuple[TensorFacts, ...]:
        """Name, dtype and shape of each input."""
        return self._runner.inputs

    @property
    def outputs(self) -> tuple[TensorFacts, ...]:
        """Name, dtype and shape of each output."""
        return self._runner.outputs

    def run(self, feeds: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        """Run once: named input arrays to named output arrays.

        Raises:
            EngineError: an input is missing, unknown, or of another dtype or shape.
            UsageError: ``feeds`` is no mapping, or the engine is closed.
        """
        from trtd.errors import UsageError

        if self._is_closed:
            raise UsageError("the engine is closed", hint="run it inside of its `with`, or load it again")
        if not hasattr(feeds, "keys"):  # an array, for one
            names = ", ".join(f'"{tensor.name}": array' for tensor in self.inputs)
            raise UsageError("run wants the inputs by their names", hint=f"engine.run({{{names}}})")
        return self._runner.run(feeds)

    def close(self) -> None:
        """Free what the backend holds."""
        if not self._is_closed:
            self._is_closed = True
            self._runner.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def load(registry: StrPath, name: str, version: int | None = None, *, threads: int | None = None) -> Engine:
    """Load a published engine, after checking every byte of it against its manifest.

    Args:
        registry: the registry's root.
        version: default: the live one, that is the highest.
        threads: CPU threads; default: all usable cores.

    Raises:
        RegistryError: there is no such engine, or its files are not those that were published.
        EngineError: the backend cannot load it.
        EnvironmentMissing: it was built for a target that cannot run here.
    """
    from trtd.engines.opening import open_engine
    from trtd.engines.table import BACKENDS
    from trtd.errors import EnvironmentMissing
    from trtd.registry.layout import Registry
    from trtd.registry.lookup import current
    from trtd.registry.manifest import verify_files

    opened = Registry(Path(registry).absolute())
    manifest, folder = current(opened, name, version)
    verify_files(opened, name, manifest.version)
    if manifest.target.backend not in BACKENDS:
        raise EnvironmentMissing(
            f"{name}@{manifest.version} is built for {manifest.target.backend}, which this trtd cannot run",
            hint=f"it runs {', '.join(BACKENDS)}",
        )
    runner = open_engine(manifest.engine_files(folder), threads=threads, kernels=_cache() / "kernels")
    return Engine(manifest, runner)


def _cache() -> Path:
    """Folder of what is made again whenever it is missing."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trtd"


def build(spec_file: StrPath, registry: StrPath) -> Report:
    """Build, verify and publish the one engine of a spec, unless it is up to date; returns its report.

    Raises:
        UsageError: the spec asks for several engines; use :func:`build_all`.
        GateMissed: a gate said no; nothing was published.
        TrtdError: the spec is wrong, or a stage failed.
    """
    from trtd.errors import UsageError
    from trtd.spec.load import load_spec

    names = [name for spec in load_spec(Path(spec_file)).per_target() for name in spec.engine_names.values()]
    if len(names) > 1:
        raise UsageError(f"the spec asks for {len(names)} engines", hint="call trtd.build_all", where=str(spec_file))
    return next(iter(build_all(spec_file, registry).values()))


def build_all(spec_file: StrPath, registry: StrPath) -> dict[str, Report]:
    """Build every engine of a spec; returns the reports by the engines' names.

    Raises:
        TrtdError: the first that any engine failed with; the others were built all the same.
    """
    from trtd.pipeline.build import Request
    from trtd.pipeline.build import build as build_engines
    from trtd.registry.layout import Registry

    outcomes = build_engines(Path(spec_file), Request(Registry(Path(registry).absolute())))
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    return {outcome.name: outcome.report for outcome in outcomes if outcome.report is not None}
