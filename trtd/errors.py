"""Every error that trtd raises, as one tree.

    TrtdError
    ├── SpecError             the TOML is wrong: a list of diagnostics            exit 2  never
    ├── UsageError            the command line or the call is wrong               exit 2  never
    ├── GateMissed            verification finished and a gate said no            exit 1  never
    ├── StageError            a stage failed                                      exit 3
    │   ├── ModelError        the source model is missing, torn or not a model            never
    │   ├── DataError         calibration or held-out data is unusable                    never
    │   ├── ConversionError   the model did not become ONNX                               never
    │   ├── QuantizationError the graph could not be rewritten                            never
    │   ├── EngineError       a backend could not build, load or run an engine            never
    │   ├── WorkerCrashed     the stage's process died of a signal or of itself           backoff
    │   ├── WorkerOutOfMemory the stage's process hit a memory limit                      backoff
    │   ├── WorkerTimeout     the stage's process outlived its deadline                   backoff
    │   └── WorkerSilent      the stage's process exited 0 without a result               backoff
    ├── RegistryError         a version is missing, torn, or already there        exit 3  never
    │   └── RegistryBusy      somebody else holds the lock                                wait
    ├── StorageError          the disk refused: full, read-only, failing          exit 3  backoff
    └── EnvironmentMissing    a package, library or device is not there           exit 4  wait

The class alone decides how a daemon reacts (``retry``) and how a command exits (``exit_code``).
Every message says what happened and where; ``hint`` says the likely cause and what to type next.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

Retry = Literal["never", "wait", "backoff"]

EXIT_OK = 0
EXIT_GATE = 1
EXIT_USAGE = 2
EXIT_STAGE = 3
EXIT_ENVIRONMENT = 4
EXIT_BUG = 70


class TrtdError(Exception):
    """Base of all errors that trtd raises on purpose.

    Args:
        message: what happened, in one sentence, with the offending name and value.
        hint: the likely cause and the next command to type; empty if there is none.
        where: the file, key, tensor or node that it happened at; empty if there is none.
    """

    code: ClassVar[str] = "trtd"
    retry: ClassVar[Retry] = "never"
    exit_code: ClassVar[int] = EXIT_BUG

    def __init__(self, message: str, *, hint: str = "", where: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}\n  hint: {self.hint}" if self.hint else text

    def to_json(self) -> dict[str, Any]:
        """The error as plain data; :func:`from_json` is its inverse."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "where": self.where,
            "retry": self.retry,
        }


@dataclass(frozen=True)
class Diagnostic:
    """One fault in a spec: where it stands, what is wrong, what would be right."""

    file: str
    line: int | None
    key: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        text = f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"
        return f"{text} ({self.hint})" if self.hint else text


class SpecError(TrtdError):
    """The spec is wrong. Holds every fault that was found, not only the first."""

    code = "spec"
    exit_code = EXIT_USAGE

    def __init__(self, diagnostics: list[Diagnostic], *, hint: str = "") -> None:
        self.diagnostics = tuple(diagnostics)
        count = len(self.diagnostics)
        lines = "\n".join(str(d) for d in self.diagnostics)
        super().__init__(f"{count} fault{'s' if count != 1 else ''} in the spec\n{lines}", hint=hint)

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"diagnostics": [asdict(d) for d in self.diagnostics]}


class UsageError(TrtdError):
    code = "usage"
    exit_code = EXIT_USAGE


class GateMissed(TrtdError):
    code = "gate"
    exit_code = EXIT_GATE


class StageError(TrtdError):
    code = "stage"
    exit_code = EXIT_STAGE


class ModelError(StageError):
    code = "model"


class DataError(StageError):
    code = "data"


class ConversionError(StageError):
    code = "conversion"


class QuantizationError(StageError):
    code = "quantization"


class EngineError(StageError):
    code = "engine"


class WorkerCrashed(StageError):
    code = "worker-crashed"
    retry = "backoff"


class WorkerOutOfMemory(StageError):
    code = "worker-out-of-memory"
    retry = "backoff"


class WorkerTimeout(StageError):
    code = "worker-timeout"
    retry = "backoff"


class WorkerSilent(StageError):
    code = "worker-silent"
    retry = "backoff"


class RegistryError(TrtdError):
    code = "registry"
    exit_code = EXIT_STAGE


class RegistryBusy(RegistryError):
    code = "registry-busy"
    retry = "wait"


class StorageError(TrtdError):
    code = "storage"
    retry = "backoff"
    exit_code = EXIT_STAGE


class EnvironmentMissing(TrtdError):
    code = "environment"
    retry = "wait"
    exit_code = EXIT_ENVIRONMENT


def _tree(root: type[TrtdError]) -> dict[str, type[TrtdError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


def from_json(data: dict[str, Any]) -> TrtdError:
    """Rebuild an error that a worker process reported with :meth:`TrtdError.to_json`."""
    kind = _tree(TrtdError).get(str(data.get("code")), StageError)
    if kind is SpecError:
        return SpecError([Diagnostic(**d) for d in data.get("diagnostics", [])], hint=data.get("hint", ""))
    return kind(data.get("message", ""), hint=data.get("hint", ""), where=data.get("where", ""))
