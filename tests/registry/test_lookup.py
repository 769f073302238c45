"""From a name to a folder, with a hint where there is none."""

from __future__ import annotations

import pytest

from tests.registry.samples import NAME, publish_sample
from trtd.errors import RegistryError
from trtd.registry.layout import Registry
from trtd.registry.lookup import current, source_model
from trtd.registry.retention import gc


def test_the_highest_version_is_live(registry: Registry) -> None:
    """Text order would make version 9 live for ever."""
    for _ in range(11):
        publish_sample(registry)
    manifest, folder = current(registry, NAME)
    assert manifest.version == 11
    assert folder == registry.engine(NAME, 11)
    assert current(registry, NAME, 2)[0].version == 2


def test_a_misspelt_name_is_met_with_a_suggestion(registry: Registry) -> None:
    """Without it, the user has to list the folder."""
    publish_sample(registry)
    with pytest.raises(RegistryError, match="digit-int8") as caught:
        current(registry, "digit-int8")
    assert f"did you mean {NAME}?" in caught.value.hint


@pytest.mark.parametrize("name", ["zzz", "../etc", "", "DIGITS"])
def test_a_far_off_or_bad_name_lists_what_there_is(registry: Registry, name: str) -> None:
    """A path as a name must end in the same plain error."""
    with pytest.raises(RegistryError) as caught:
        current(registry, name)
    assert "trtd build" in caught.value.hint
    publish_sample(registry)
    with pytest.raises(RegistryError) as caught:
        current(registry, name)
    assert NAME in caught.value.hint


def test_a_missing_version_lists_the_published_ones(registry: Registry) -> None:
    """And one that gc removed is told apart from one that never was."""
    for _ in range(3):
        publish_sample(registry)
    gc(registry, keep=2)
    with pytest.raises(RegistryError, match="has no version 9") as caught:
        current(registry, NAME, 9)
    assert "2, 3" in caught.value.hint
    with pytest.raises(RegistryError, match="not published any more"):
        current(registry, NAME, 1)


def test_source_models_are_found_by_version(registry: Registry) -> None:
    """A spec that follows `latest` must get the highest."""
    for version in ("1", "2", "10"):
        (registry.models / "ppocr_det" / version).mkdir(parents=True)
    assert source_model(registry, "ppocr_det") == (10, registry.models / "ppocr_det" / "10")
    assert source_model(registry, "ppocr_det", 2)[0] == 2
    with pytest.raises(RegistryError, match="no version 3") as caught:
        source_model(registry, "ppocr_det", 3)
    assert "1, 2, 10" in caught.value.hint
    with pytest.raises(RegistryError) as caught:
        source_model(registry, "ppocr_dte")
    assert "ppocr_det" in caught.value.hint
