"""What differs between TensorRT 10, TensorRT 11 and TensorRT-RTX. Everything else is the same code.

TensorRT 11 and TensorRT-RTX know strongly typed networks alone; TensorRT 10 wants a flag for it, which the others
accept. Names that only some versions have are asked for where they are used, with ``hasattr``: ``tests/engines`` holds
them against the real bindings of every version.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from trtd.errors import EnvironmentMissing


@dataclass(frozen=True)
class Flavour:
    """One product.

    Attributes:
        target: as a spec names it.
        module: that Python imports.
        distributions: any of which tells the version.
        extra: of trtd, which installs it.
        capabilities: compute capabilities that it builds for without a GPU; empty if it builds on the GPU alone.
        times_kernels: the build times kernels on the GPU, and keeps the timings in a cache.
        compiles_on_load: kernels are compiled for the GPU when an engine is loaded, and can be kept in a cache.
    """

    target: str
    module: str
    distributions: tuple[str, ...]
    extra: str
    capabilities: tuple[str, ...]
    times_kernels: bool
    compiles_on_load: bool

    def version(self) -> str | None:
        """The installed version, from package metadata alone."""
        for distribution in self.distributions:
            try:
                return version(distribution)
            except PackageNotFoundError:
                continue
        return None

    def load(self) -> Any:
        """The Python module.

        Raises:
            EnvironmentMissing: it is not installed, or its libraries cannot be loaded.
        """
        try:
            return importlib.import_module(self.module)
        except ImportError as error:
            raise self._missing(error) from error

    def _missing(self, error: ImportError) -> EnvironmentMissing:
        install = f"pip install 'trtd[{self.extra}]'"
        if isinstance(error, ModuleNotFoundError) and error.name == self.module:
            return EnvironmentMissing(f"{self.module} is not installed", hint=install, where=self.target)
        return EnvironmentMissing(
            f"{self.module} is installed, and its libraries cannot be loaded: {error}",
            hint=f"the Python bindings came without the libraries, or with those of another version: {install}, "
            "or add the folder of libnvinfer to LD_LIBRARY_PATH",
            where=self.target,
        )


FLAVOURS: dict[str, Flavour] = {
    "tensorrt": Flavour(
        target="tensorrt",
        module="tensorrt",
        distributions=("tensorrt-cu13-bindings", "tensorrt-cu12-bindings", "tensorrt"),
        extra="gpu",
        capabilities=(),
        times_kernels=True,
        compiles_on_load=False,
    ),
    "tensorrt-rtx": Flavour(
        target="tensorrt-rtx",
        module="tensorrt_rtx",
        distributions=("tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu12-bindings", "tensorrt-rtx"),
        extra="rtx",
        capabilities=("7.5", "8.0", "8.6", "8.9", "12.0", "12.1"),
        times_kernels=False,
        compiles_on_load=True,
    ),
}


def flavour_of(target: str) -> Flavour:
    return FLAVOURS[target]
