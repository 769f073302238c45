"""Opening an engine, whichever backend made it."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from trtd.document import Document
from trtd.engines.digests import refuse_changed
from trtd.engines.protocol import Runner
from trtd.engines.table import BACKENDS


class EngineFiles(Document):
    """Where an engine lies.

    Attributes:
        target: that it was built for, a key of :data:`trtd.engines.table.BACKENDS`.
        folder: that holds its files.
        digests: ``sha256:…`` of each file, by name.
        variants: the file for each compute capability that the spec named; empty if it named none.
    """

    target: str
    folder: Path
    digests: dict[str, str]
    variants: dict[str, str] = Field(default_factory=dict)

    @property
    def paths(self) -> dict[str, Path]:
        """The files by name."""
        return {name: self.folder / name for name in self.digests}

    @property
    def size_bytes(self) -> int:
        """Size on disk; of the largest variant where there are several, since one of them is loaded."""
        sizes = [path.stat().st_size for path in self.paths.values()]
        return max(sizes) if self.variants else sum(sizes)

    @property
    def unverifiable(self) -> str:
        """What keeps this machine from running it; empty if nothing does."""
        return BACKENDS[self.target].unverifiable(tuple(self.variants))

    @property
    def gpus(self) -> tuple[str, ...]:
        """UUID of the GPU that it runs on here; none on a CPU, and where no GPU fits."""
        gpu = BACKENDS[self.target].runs_on(tuple(self.variants))
        return (gpu,) if gpu else ()


def open_engine(engine: EngineFiles, *, kernels: Path, threads: int | None = None) -> Runner:
    """Load an engine.

    Args:
        kernels: folder for what a backend compiles when it loads an engine; nobody else may write there.
        threads: on a CPU.

    Raises:
        EngineError: the backend cannot load it here.
        EnvironmentMissing: what it needs is not here.
        RegistryError: the bytes are not those of ``digests``.
    """
    if engine.target == "onnxruntime-cpu":
        for name, digest in engine.digests.items():
            refuse_changed(engine.folder / name, digest)
        from trtd.engines.onnxruntime_cpu import OnnxRuntimeRunner

        return OnnxRuntimeRunner(engine.folder / BACKENDS[engine.target].model_file, threads=threads)
    if BACKENDS[engine.target].family == "paddle":
        from trtd.engines.paddle.opening import open_paddle

        return open_paddle(engine.folder, engine.digests, cache=kernels, threads=threads)
    from trtd.engines.tensorrt.flavours import flavour_of
    from trtd.engines.tensorrt.run import TensorRTRunner

    file, capabilities = _variant(engine)
    digest = engine.digests[file]
    return TensorRTRunner(
        engine.folder / file,
        flavour_of(engine.target),
        digest=digest,
        capabilities=capabilities,
        kernels=kernels / f"{digest.partition(':')[2][:32]}.kernels",
    )


def _variant(engine: EngineFiles) -> tuple[str, tuple[str, ...]]:
    """The file for this machine's GPU and the capabilities that count; where none fits, all, to be refused by name."""
    if not engine.variants:
        return BACKENDS[engine.target].model_file, ()
    from trtd.engines.gpu import gpus

    here = next((c for c in gpus().capabilities if c in engine.variants), None)
    return engine.variants[here or next(iter(engine.variants))], (here,) if here else tuple(engine.variants)
