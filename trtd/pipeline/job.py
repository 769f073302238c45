"""A job: what one stage is asked to do, as the JSON file that its worker process reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from trtd.document import Document


class Job(Document):
    """One run of one stage.

    Attributes:
        stage: the stage's name, a key of :data:`trtd.pipeline.stages.STAGES`; errors name it.
        call: ``module:function`` to run in place of the stage of that name; for tests and experiments.
        inputs: what the stage is given, plain JSON data. Paths in it should be absolute.
        out: folder that the stage writes its files into. It exists and is empty when the job is launched.
        deadline_s: wall-clock time after which the worker is stopped.
        memory_limit_bytes: limit on the worker's private writable memory (``RLIMIT_DATA``); ``None`` for no limit.
        threads: size of the OpenMP and BLAS thread pools; ``None`` leaves the libraries' defaults. Libraries with
            pools of their own (onnxruntime) need the number among ``inputs`` as well.
    """

    stage: str = Field(min_length=1)
    call: str | None = Field(default=None, pattern=r"^[\w.]+:\w+$")
    inputs: dict[str, Any]
    out: Path
    deadline_s: float = Field(gt=0, allow_inf_nan=False)
    memory_limit_bytes: int | None = Field(default=None, gt=0)
    threads: int | None = Field(default=None, ge=1)
