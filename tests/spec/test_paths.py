"""A spec reads what it is allowed to read, and nothing through the back door."""

from __future__ import annotations

import glob
import os
from pathlib import Path

import pytest

from trtd.errors import SpecError
from trtd.spec.paths import FixedRoots, default_roots, how_to_allow, is_inside, resolve


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with specs/det.toml, models/det and data, and a folder outside of it."""
    root = tmp_path.resolve() / "project"
    for folder in ("specs", "models/det", "data/pages"):
        (root / folder).mkdir(parents=True)
    (root / "specs" / "det.toml").write_text('# comment\n[model]\npath = "../models/det"\n')
    (root / "data" / "pages" / "1.png").touch()
    (root.parent / "outside").mkdir()
    (root.parent / "outside" / "secret.npy").touch()
    return root


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("../models/det", "models/det"),
        ("det.onnx", "specs/det.onnx"),
        ("./x/../../data", "data"),
        ("../data/pages/*.png", "data/pages/*.png"),
        ("../data/**/[ab]?.png", "data/**/[ab]?.png"),
        ("../not/yet/there", "not/yet/there"),
    ],
)
def test_paths_start_at_the_specs_folder(text: str, expected: str, project: Path) -> None:
    """Where the command was typed must not matter."""
    spec = project / "specs" / "det.toml"
    assert resolve(spec, text, [project]) == project / expected
    assert resolve(spec, str(project / expected), [project]) == project / expected


def test_relative_spec_files_mean_the_working_directory(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``trtd check det.toml`` inside specs/ reads the same files as from above."""
    monkeypatch.chdir(project / "specs")
    assert resolve(Path("det.toml"), "../models/det", [project]) == project / "models" / "det"


@pytest.mark.parametrize(
    "text",
    [
        "../../outside/secret.npy",
        "../../outside/*.npy",
        "/etc/passwd",
        "/*",
        "../..",
        "../../project-2/x",
        "/dev/../etc",
    ],
)
def test_outside_is_refused(text: str, project: Path) -> None:
    """A dropped spec must not read the host's files into an engine or a report."""
    with pytest.raises(SpecError, match="outside the folders that this spec may read"):
        resolve(project / "specs" / "det.toml", text, [project])


def test_links_are_followed_before_judging(project: Path) -> None:
    """A link inside an allowed folder is the classic way out."""
    spec = project / "specs" / "det.toml"
    (project / "data" / "link").symlink_to(project.parent / "outside")
    for text in ("../data/link", "../data/link/secret.npy", "../data/link/*.npy", "../data/link/../outside"):
        with pytest.raises(SpecError, match="through a symbolic link to"):
            resolve(spec, text, [project])
    (project / "data" / "inner").symlink_to(project / "data" / "pages")
    assert resolve(spec, "../data/inner/1.png", [project]) == project / "data" / "pages" / "1.png"


def test_a_linked_root_is_its_target(project: Path) -> None:
    """Mounted volumes are often reached by links; the folder behind is what was allowed."""
    alias = project.parent / "alias"
    alias.symlink_to(project)
    spec = alias / "specs" / "det.toml"
    assert resolve(spec, "../models/det", [alias]) == project / "models" / "det"


def test_a_link_in_a_circle_leads_nowhere(project: Path) -> None:
    """It must neither hang nor escape."""
    circle = project / "data" / "circle"
    circle.symlink_to(circle)
    found = resolve(project / "specs" / "det.toml", "../data/circle", [project])
    assert not found.exists()


def test_wildcards_do_not_climb(project: Path) -> None:
    """``*/..`` leaves the folder after it was judged."""
    with pytest.raises(SpecError, match=r"goes up \(\.\.\) after a wildcard"):
        resolve(project / "specs" / "det.toml", "../data/*/../../../outside/*", [project])


def test_globs_find_what_was_meant(project: Path) -> None:
    """A folder with brackets in its name is no pattern, and neither is a file that exists."""
    odd = project / "run [1]"
    odd.mkdir()
    (odd / "a.png").touch()
    (odd / "b[2].npy").touch()
    spec = odd / "det.toml"
    assert glob.glob(str(resolve(spec, "*.png", [project]))) == [str(odd / "a.png")]
    assert resolve(spec, "b[2].npy", [project]) == odd / "b[2].npy"


def test_what_a_glob_finds_can_be_judged(project: Path) -> None:
    """Items of a folder may be links of their own."""
    (project / "data" / "pages" / "2.png").symlink_to(project.parent / "outside" / "secret.npy")
    assert is_inside(project / "data" / "pages" / "1.png", [project])
    assert not is_inside(project / "data" / "pages" / "2.png", [project])
    assert is_inside(project, [project])
    assert not is_inside(project.with_name("project-2"), [project])


def test_the_refusal_says_where_and_what_to_do(project: Path) -> None:
    """Whoever reads it may be allowed to allow it."""
    outside = project.parent / "outside"
    with pytest.raises(SpecError) as caught:
        resolve(project / "specs" / "det.toml", "../../outside/secret.npy", [project], key=("model", "path"))
    (found,) = caught.value.diagnostics
    assert (found.line, found.key) == (3, "model.path")
    assert found.message == (
        f'"../../outside/secret.npy" leads to {outside}/secret.npy, '
        f"outside the folders that this spec may read: {project}"
    )
    assert found.hint == (
        f"move it into one of them, or allow its folder: --allow-root {outside}, or export TRTD_ALLOWED_ROOTS={outside}"
    )


def test_what_the_operator_fixed_only_the_operator_changes(project: Path) -> None:
    """An option of `trtd build` would be tried on a daemon, which does not heed it."""
    outside = project.parent / "out side"
    with pytest.raises(SpecError) as caught:
        resolve(project / "specs" / "det.toml", str(outside / "x.npy"), FixedRoots([project]), key=("model", "path"))
    (found,) = caught.value.diagnostics
    assert f'add "{outside}" to [access] roots in the daemon\'s trtd.toml' in found.hint
    assert "allow-root" not in found.hint
    assert f"--allow-root '{outside}'" in how_to_allow(outside, [project])


def test_default_roots(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry, the spec's folder and its parent, the working directory and what the operator adds."""
    spec = project / "specs" / "det.toml"
    registry, work, extra = (tmp_path.resolve() / name for name in ("registry", "work", "extra"))
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("TRTD_ALLOWED_ROOTS", f"{os.pathsep}{extra}{os.pathsep}")
    assert default_roots(spec, registry) == (registry, project, project / "specs", work, extra)
    assert default_roots(spec, None, [registry]) == (project, project / "specs", work, registry)
    monkeypatch.delenv("TRTD_ALLOWED_ROOTS")
    assert default_roots(spec) == (project, project / "specs", work)


def test_the_file_system_is_no_default_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service works in /; that must not allow every file of the host. Only the operator can."""
    monkeypatch.chdir("/")
    monkeypatch.delenv("TRTD_ALLOWED_ROOTS", raising=False)
    assert Path("/") not in default_roots(Path("/specs/det.toml"))
    assert Path("/") in default_roots(Path("/specs/det.toml"), None, [Path("/")])
