"""Whether an engine must be built: what is live, held against the plan."""

from __future__ import annotations

from contextlib import suppress

from pydantic import ValidationError

from trtd.errors import RegistryError
from trtd.pipeline.contracts import REPORT_FILE
from trtd.plan.build_plan import BuildPlan, stale_reasons
from trtd.registry.layout import Registry
from trtd.registry.manifest import read_manifest, verify_files
from trtd.verify.report import Report


def read_report(registry: Registry, name: str, version: int) -> Report:
    """The report that was published with a version. Raises ``RegistryError`` if it is missing or torn."""
    path = registry.record(name, version) / REPORT_FILE
    try:
        return Report.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise RegistryError(
            f"the report of {name}@{version} is missing or torn",
            hint="build it again: trtd build SPEC",
            where=str(path),
        ) from error


def reasons(plan: BuildPlan, registry: Registry) -> list[str]:
    """Why ``plan`` would be built; none if its engine is live and whole, or somebody rolled back from it."""
    version = registry.latest(plan.name)
    if version is None:
        return stale_reasons(None, plan.ingredients)
    try:
        live = verify_files(registry, plan.name, version)
        read_report(registry, plan.name, version)
    except RegistryError as torn:
        return [torn.message]
    if live.rolled_back_from is not None and _was_published(plan, registry):
        return []
    return stale_reasons(live.ingredients, plan.ingredients)


def _was_published(plan: BuildPlan, registry: Registry) -> bool:
    """Whether any version, removed ones included, was made from the plan's ingredients."""
    for version in registry.recorded_versions(plan.name):
        with suppress(RegistryError):
            if read_manifest(registry, plan.name, version).ingredients == plan.ingredients:
                return True
    return False
