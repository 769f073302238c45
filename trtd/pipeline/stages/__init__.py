"""The stages, in the order of the data. Each is one process; its module holds what it takes and what it gives."""

from __future__ import annotations

STAGES: dict[str, str] = {
    "convert": "trtd.pipeline.stages.convert:run",
    "reference": "trtd.pipeline.stages.reference:run",
    "produce": "trtd.pipeline.stages.produce:run",
    "calibrate": "trtd.pipeline.stages.calibrate:run",
    "quantize": "trtd.pipeline.stages.quantize:run",
    "build": "trtd.pipeline.stages.build:run",
    "paddle-prepare": "trtd.pipeline.stages.paddle_prepare:run",
    "paddle-calibrate": "trtd.pipeline.stages.paddle_calibrate:run",
    "paddle-build": "trtd.pipeline.stages.paddle_build:run",
    "verify": "trtd.pipeline.stages.verify:run",
    "bench": "trtd.pipeline.stages.bench:run",
    "doctor": "trtd.pipeline.stages.doctor:run",
}
