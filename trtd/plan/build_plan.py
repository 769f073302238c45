"""The BuildPlan: everything that determines an engine, as one flat table of ingredients.

One table serves three ends. Its digest is the engine's identity: equal means nothing to build. The difference of two
tables is the list of reasons why an engine is stale. And the rows that a stage depends on make the key under which the
store keeps that stage's output, so that a change of the gates does not calibrate again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from trtd.document import Document
from trtd.plan.shapes import Profile
from trtd.spec.calibration import CalibrationSection
from trtd.spec.engine import EngineSection
from trtd.spec.fields import PADDLE, TENSORRT
from trtd.spec.schema import QuantizationSection, Spec
from trtd.store.digest import json_digest

# Bump a stage's number when a change of its code changes its output.
STAGE_VERSIONS = {
    "convert": 1,
    "reference": 1,
    "paddle-prepare": 2,
    "paddle-calibrate": 2,
    "paddle-build": 2,
    "produce": 1,
    "calibrate": 2,
    "quantize": 4,
    "build": 1,
    "verify": 1,
}  # verification is always run anew

_MODEL = ("model", "tool")
_CALIBRATION = ("inputs", "preprocess", "calibration.set", "calibration.batch")
_HELDOUT = ("heldout", "inputs", "preprocess")
_PADDLE = (*_MODEL, *_CALIBRATION, "precision", "target", "engine")
_QUANTIZE = (*_MODEL, "precision", "target", "calibration", "quantization", "inputs", "preprocess")

# The ingredients, by first word or in full, that each stage's output depends on.
STAGE_INGREDIENTS: dict[str, tuple[str, ...]] = {
    "convert": _MODEL,
    "reference": (*_MODEL, *_HELDOUT),
    "produce": (*_MODEL, *_CALIBRATION, "quantization.producer", "quantization.ptq"),
    "calibrate": (
        *_MODEL, *_CALIBRATION, "target.backend", "target.activation", "target.int8_convolution", "calibration.table",
    ),
    "quantize": _QUANTIZE,
    "build": (*_QUANTIZE, "engine"),
    "paddle-prepare": _PADDLE,
    "paddle-calibrate": _PADDLE,
    "paddle-build": _PADDLE,
}  # fmt: skip

# The stages whose output each stage reads.
STAGE_SOURCES: dict[str, tuple[str, ...]] = {
    "convert": (),
    "reference": (),
    "produce": (),
    "calibrate": ("convert",),
    "quantize": ("convert", "calibrate"),
    "build": ("convert", "calibrate", "quantize"),
    "paddle-prepare": (),
    "paddle-calibrate": ("paddle-prepare",),
    "paddle-build": ("paddle-prepare", "paddle-calibrate"),
}


class BuildPlan(Document):
    """What will be built, and from what.

    Attributes:
        name: of the engine in the registry.
        ingredients: name to value, both text; digests for what is large.
        profiles: shapes of every input.
    """

    name: str
    precision: str
    target: str
    ingredients: dict[str, str]
    profiles: dict[str, Profile]

    @property
    def digest(self) -> str:
        """``sha256:…`` over the ingredients."""
        return json_digest(self.ingredients)

    def stage_key(self, stage: str) -> str:
        """``sha256:…`` over what ``stage`` depends on: its version, those of the stages before it, ingredients."""
        prefixes = STAGE_INGREDIENTS[stage]
        rows = {k: v for k, v in self.ingredients.items() if any(k == p or k.startswith(f"{p}.") for p in prefixes)}
        versions = {name: STAGE_VERSIONS[name] for name in (*STAGE_SOURCES[stage], stage)}
        return json_digest({"stage": stage, "versions": versions, "ingredients": rows})


def make_plan(
    spec: Spec,
    precision: str,
    *,
    name: str,
    model_digest: str,
    profiles: Mapping[str, Profile],
    calibration_digest: str | None,
    heldout_digest: str,
    heldout_order_digest: str,
    labels_digest: str | None,
    hook_digest: str | None,
    table_digest: str | None,
    quantized: bool,
    fallback_digest: str | None,
    shapes_digest: str | None,
    fingerprint: Mapping[str, str],
    tools: Mapping[str, str],
) -> BuildPlan:
    """Plan one engine of ``spec``, which has one target. Pure: digests and versions are given, nothing is read.

    Args:
        name: of the engine.
        quantized: the model holds its own scales.
        fallback_digest: of the quantized model beside the float one.
        shapes_digest: of the set that Paddle collects the shapes of all tensors on.
        fingerprint: of the target, as its backend gives it.
        tools: distribution name to version of everything that takes part.
    """
    quantization, verify = spec.quantization, spec.verify
    ingredients: dict[str, str] = {
        "model": model_digest,
        "precision": precision,
        "target.backend": spec.engine.only_target,
        "inputs": _text({name: p.model_dump(mode="json") for name, p in profiles.items()}),
        "heldout.set": heldout_digest,
        "heldout.order": heldout_order_digest,
        "verify.metric": verify.metric or "none",
        "verify.labels": labels_digest or "none",
        "verify.hook": hook_digest or "none",
        "quantization.exclude": _text(quantization.exclude),
        "quantization.exclude_ops": _text(quantization.exclude_ops),
    }
    preprocess = spec.calibration.preprocess if spec.calibration else None
    ingredients |= _rows("preprocess", preprocess.model_dump(mode="json") if preprocess else {})
    ingredients |= _rows("verify.gates", verify.gates.model_dump(mode="json", exclude_none=True))
    ingredients |= {f"target.{k}": v for k, v in fingerprint.items()}
    ingredients |= {f"tool.{k}": v for k, v in tools.items()}
    ingredients |= {f"stage.{k}": str(v) for k, v in STAGE_VERSIONS.items()}
    ingredients |= _engine_rows(spec.engine, shapes_digest)
    if precision == "int8":
        ingredients |= _scale_rows(quantization, quantized)
        ingredients["quantization.fallback"] = fallback_digest or "none"
    if precision == "int8" and spec.calibration is not None and not quantized:
        ingredients |= _calibration_rows(spec.calibration)
        ingredients |= {"calibration.set": calibration_digest or "none", "calibration.table": table_digest or "none"}
    return BuildPlan(
        name=name,
        precision=precision,
        target=spec.engine.only_target,
        ingredients=dict(sorted(ingredients.items())),
        profiles=dict(profiles),
    )


def _engine_rows(engine: EngineSection, shapes_digest: str | None) -> dict[str, str]:
    """What only some targets are told."""
    if engine.only_target in TENSORRT:
        options = engine.tensorrt.model_dump(mode="json", exclude={"timing_cache"})
        capabilities = _text(sorted(engine.compute_capabilities))
        return {"engine.compute_capabilities": capabilities, **_rows("engine.tensorrt", options)}
    if engine.only_target in PADDLE:
        options = engine.paddle.model_dump(mode="json")
        return {"engine.shapes": shapes_digest or "none", **_rows("engine.paddle", options)}
    return {}


def _scale_rows(quantization: QuantizationSection, quantized: bool) -> dict[str, str]:
    """How scales become part of the graph, and which: the model's own, or those that are found for it."""
    whose = {"imported"} if quantized else {"producer", "ptq"}
    return {
        "target.activation": quantization.activation,
        "quantization.float_precision": quantization.float_precision,
        **_rows("quantization", quantization.model_dump(mode="json", include=whose)),
    }


def _calibration_rows(calibration: CalibrationSection) -> dict[str, str]:
    return {
        "calibration.batch": str(calibration.batch),
        "calibration.method": calibration.method,
        "calibration.percentile": repr(calibration.percentile) if calibration.method == "percentile" else "unused",
    }


def stale_reasons(published: Mapping[str, str] | None, planned: Mapping[str, str]) -> list[str]:
    """Why an engine with the ingredients ``published`` is not what is planned; empty if it is.

    Args:
        published: from the manifest of the live version; ``None`` if nothing is published.
    """
    if published is None:
        return ["nothing is published under this name yet"]
    reasons = []
    for key in sorted({*published, *planned}):
        old, new = published.get(key), planned.get(key)
        if old != new:
            reasons.append(f"{key}: {_short(old)} -> {_short(new)}")
    return reasons


def _rows(prefix: str, values: Mapping[str, object]) -> dict[str, str]:
    """One row for each value, so that a reason names what changed."""
    rows: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}.{key}"
        rows |= _rows(name, value) if isinstance(value, dict) else {name: _text(value)}
    return rows


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _short(value: str | None, limit: int = 60) -> str:
    if value is None:
        return "absent"
    if value.startswith("sha256:"):
        return value[:19]
    return value if len(value) <= limit else value[: limit - 1] + "…"
