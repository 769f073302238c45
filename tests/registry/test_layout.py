"""Names, numbers and the search for the registry that a spec lies in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.registry.samples import MEMORY
from trtd.errors import RegistryError, StorageError
from trtd.registry.layout import Registry, find, valid_name


def test_init_makes_the_layout_and_keeps_what_is_there(tmp_path: Path) -> None:
    """Running it twice must not fail or lose a spec."""
    registry = Registry(tmp_path / "new" / "registry")
    registry.init()
    (registry.specs / "digits.toml").write_text("name = 'digits'")
    registry.init()
    registry.check()
    assert sorted(os.listdir(registry.root)) == [".trtd", "engines", "models", "records", "specs"]
    assert (registry.specs / "digits.toml").read_text()
    assert os.listdir(registry.engines) == []


def test_looking_at_a_registry_makes_no_empty_folder_of_specs(tmp_path: Path) -> None:
    """Whoever moved `specs/` away for a moment and typed `trtd show` would have deleted all specs."""
    registry = Registry(tmp_path)
    registry.init()
    for folder in (registry.specs, registry.models, registry.engines):
        folder.rmdir()
    registry.check()
    assert sorted(os.listdir(tmp_path)) == [".trtd", "engines", "records"]


def test_init_where_a_file_is_in_the_way_is_a_storage_or_registry_error(tmp_path: Path) -> None:
    """A bare FileExistsError would reach the user as a bug."""
    (tmp_path / "registry").touch()
    with pytest.raises((StorageError, RegistryError)):
        Registry(tmp_path / "registry").init()


def test_a_folder_without_trtd_is_no_registry(tmp_path: Path) -> None:
    """Publishing into a folder given by mistake would scatter folders there."""
    with pytest.raises(RegistryError, match="not a registry") as caught:
        Registry(tmp_path).check()
    assert "trtd init" in caught.value.hint
    assert os.listdir(tmp_path) == []


def test_a_registry_over_two_mounts_is_refused_before_the_work(disk_registry: Registry) -> None:
    """EXDEV at the very end would throw away a build of an hour."""
    if not MEMORY.is_dir() or MEMORY.stat().st_dev == disk_registry.root.stat().st_dev:
        pytest.skip("needs a second mount")
    disk_registry.engines.rmdir()
    disk_registry.engines.symlink_to(MEMORY)
    with pytest.raises(StorageError, match="mounts"):
        disk_registry.check()


@pytest.mark.parametrize("name", ["a", "0", "ppocr-det", "ppocr_det.v4-int8", "a" * 63])
def test_good_names(name: str) -> None:
    """They must stay accepted: published engines bear them."""
    assert valid_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".a", "-a", "_a", "A", "a/b", "../a", "a b", "a\n", "é", "a" * 64, "a\0"]
)
def test_bad_names_are_refused_everywhere(registry: Registry, name: str) -> None:
    """A name that is a path would publish outside engines/."""
    for use in (valid_name, registry.versions, registry.next_version, registry.lock, registry.model_versions):
        with pytest.raises(RegistryError, match="cannot be a name"):
            use(name)
    with pytest.raises(RegistryError):
        registry.engine(name, 1)


def test_only_plain_integers_are_versions(registry: Registry) -> None:
    """Triton ignores leading zeros; a stray folder or file must not become live."""
    for folder in ("1", "2", "10", "03", "0", "-4", "5.0", "six", "\u0667", "9" * 30):
        (registry.engines / "digits" / folder).mkdir(parents=True)
    (registry.engines / "digits" / "11").touch()
    (registry.engines / "digits" / "12").symlink_to("10")
    assert registry.versions("digits") == (1, 2, 10)
    assert registry.latest("digits") == 10
    assert registry.latest("other") is None
    assert registry.names() == ("digits",)


def test_a_number_is_never_given_twice(registry: Registry) -> None:
    """A version that was retired or crashed must not come back with other content."""
    assert registry.next_version("digits") == 1
    (registry.records / "digits" / "7").mkdir(parents=True)
    assert registry.next_version("digits") == 8
    (registry.engines / "digits" / "9").mkdir(parents=True)
    assert registry.next_version("digits") == 10


def test_names_leaves_out_strays(registry: Registry) -> None:
    """`show` must list what can be loaded, nothing else."""
    (registry.engines / "empty").mkdir()
    (registry.engines / "Bad" / "1").mkdir(parents=True)
    (registry.engines / "file").touch()
    assert registry.names() == ()


def test_find_goes_upward_from_a_spec(registry: Registry) -> None:
    """A spec inside a registry must publish there without being told where."""
    spec = registry.specs / "deep" / "digits.toml"
    spec.parent.mkdir()
    spec.touch()
    found = find(spec)
    assert found is not None
    assert found.root == registry.root.resolve()


def test_find_outside_of_any_registry(tmp_path: Path) -> None:
    """A folder that merely looks like one must not be written to."""
    (tmp_path / "engines").mkdir()
    found = find(tmp_path / "engines")
    assert found is None or tmp_path.resolve() not in (found.root, *found.root.parents)
