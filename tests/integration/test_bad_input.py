"""Bad input, as people and machines produce it: a clear error, exit 2 or 3, and nothing published."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.workshop import SPECS, Workshop, write_image
from trtd.errors import ModelError
from trtd.model.inspect import read_facts
from trtd.model.locate import locate

Trtd = Callable[..., Any]


@pytest.fixture
def refused(own: Workshop, trtd: Trtd) -> Callable[..., dict[str, Any]]:
    """Builds a spec that must be refused with this exit status; returns the error, as ``--json`` shows it."""

    def build(spec: Path, status: int) -> dict[str, Any]:
        ran = trtd("build", spec, "--registry", own.registry.root, "--json")
        assert (ran.status, ran.err) == (status, "")
        assert [file.name for file in own.registry.root.rglob("engines/*")] == []
        assert list(own.registry.records.iterdir()) == []
        assert list(own.registry.staging.iterdir()) == []
        told = trtd("build", spec, "--registry", own.registry.root, "--quiet")
        assert (told.status, told.out) == (status, "")
        error: dict[str, Any] = ran.document["error"]
        assert f"error[{error['code']}]: " in told.err
        assert "Traceback" not in told.err
        return error

    return build


Refused = Callable[[Path, int], dict[str, Any]]


# ---------------------------------------------------------------------------------------------------------- TOML

HEAD = b'[model]\npath = "../models/tiny.onnx"\n'
TOML: dict[str, tuple[bytes, int | None, str]] = {
    "empty": (b"", None, "says nothing"),
    "comments": (b"# to do\n\n", None, "says nothing"),
    "cut in a string": (HEAD + b'[calibration]\ndata = "../ima', 4, "not valid TOML at column 15"),
    "cut in a table": (HEAD + b"[calibra", 3, "not valid TOML at column 9"),
    "cut behind a key": (HEAD + b"[calibration]\ndata =", 4, "not valid TOML at column 7"),
    "latin-1": (HEAD + b"# gr\xfc\xdfe\n", 3, "is not UTF-8: byte 0xfc"),
    "utf-16": ("[model]".encode("utf-16"), None, "UTF-16"),
    "nul": (HEAD + b"\0", 3, "not valid TOML"),
    "binary": (bytes(range(256)) * 4, None, ""),
    "deep lists": (b"a = " + b"[" * 100_000, None, "nested too deeply"),
    "deep tables": (b"a = " + b"{a=" * 50_000, None, "nested too deeply"),
    "a long dotted key": (b"a." * 100_000 + b"a = 1", 1, "a key of more than 64 parts"),
    "huge": (b"#" * (2 << 20), None, "larger than 1 MiB"),
    "a huge number": (HEAD + b"version = " + b"9" * 5000, 3, "thousands of digits"),
    "a key twice": (HEAD + b'path = "b"\n', 3, "annot overwrite a value"),
}


@pytest.mark.parametrize("what", TOML)
def test_unreadable_toml_is_refused_with_its_line(what: str, own: Workshop, refused: Refused) -> None:
    """The author would see a traceback of the parser, or the program would hang or die on it."""
    content, line, message = TOML[what]
    spec = own.folder / "specs" / "bad.toml"
    spec.write_bytes(content)
    error = refused(spec, 2)
    (found,) = error["diagnostics"]
    assert found["file"] == str(spec)
    assert message in found["message"]
    if line is not None:
        assert found["line"] == line


VALUES: dict[str, tuple[str, str, str]] = {
    "nan": ("[verify.gates]", "cosine = nan", "verify.gates.cosine"),
    "inf": ("[verify.gates]", "min_speedup = inf", "verify.gates.min_speedup"),
    "true for a number": ("[calibration]", "samples = true", "calibration.samples"),
    "a float for a count": ("[calibration]", "samples = 1.5", "calibration.samples"),
    "a date": ("[calibration]", "batch = 1979-05-27", "calibration.batch"),
    "a time": ("[verify]", "labels = 07:32:00", "verify.labels"),
    "a number for a text": ("[calibration]", "method = 3", "calibration.method"),
    "text for a number": ("[build]", 'deadline_s = "60"', "build.deadline_s"),
    "text for true": ("[publish]", 'unverified = "yes"', "publish.unverified"),
    "one for a list": ("[quantization]", 'exclude = "conv1"', "quantization.exclude"),
    "a list for a table": ("", "publish = [1]", "publish"),
    "none kept": ("[publish]", "keep = 0", "publish.keep"),
    "one sample": ("[calibration]", "samples = 1", "calibration.samples"),
    "an unknown key": ("[calibration]", "sampels = 3", "calibration.sampels"),
    "an unknown section": ("[callibration]", "samples = 3", "callibration"),
    "an unknown precision": ("[engine]", 'precision = "int4"', "engine.precision"),
    "no precision": ("[engine]", "precision = []", "engine.precision"),
    "an unknown target": ("[engine]", 'target = "tpu"', "engine.target"),
    "cosine that cannot fail": ("[verify.gates]", "cosine = -1", "verify.gates.cosine"),
    "error that cannot fail": ("[verify.gates]", "max_abs_error = 1e9", "verify.gates.max_abs_error"),
    "tolerance": ("[verify.gates]", "tolerance = 1e9", "verify.gates.tolerance"),
    "agreement that cannot fail": ("[verify.gates]", "top1_agreement = 0", "verify.gates.top1_agreement"),
    "speed that cannot fail": ("[verify.gates]", "min_speedup = 0", "verify.gates.min_speedup"),
    "distance that cannot fail": ("[verify.gates]", "relative_l2 = 1.5", "verify.gates.relative_l2"),
    "a gate without its metric": ("[verify.gates]", "metric = 0.5", "verify.gates.metric"),
    "a name with escapes": ("", r'name = "a\u001b[2Jb"', "name"),
    "a name that climbs": ("", 'name = "../../etc"', "name"),
    "a name in capitals": ("", 'name = "Tiny"', "name"),
    "a long name": ("", f'name = "{"a" * 64}"', "name"),
    "a web address": ("[calibration]", 'data = "https://example.org/x.npy"', "calibration.data"),
    "an empty path": ("[calibration]", 'data = ""', "calibration.data"),
}


@pytest.mark.parametrize("what", VALUES)
def test_wrong_values_are_refused_with_file_line_and_key(what: str, own: Workshop, refused: Refused) -> None:
    """A slip would silently mean something else: true is 1 in Python, and a gate of nan may never fail."""
    section, line, key = VALUES[what]
    text = '[model]\npath = "../models/tiny.onnx"\n'
    text += '[calibration]\ndata = "../images"\n' if section != "[calibration]" else ""
    extra = 'data = "../images"\n' if section == "[calibration]" and not line.startswith("data") else ""
    text = f"{section}\n{extra}{line}\n{text}" if section else f"{line}\n{text}"
    spec = own.folder / "specs" / "bad.toml"
    spec.write_text(text)
    error = refused(spec, 2)
    number = 1 + text.splitlines().index(section if "section" in what else line)
    assert (key, number) in {(found["key"], found["line"]) for found in error["diagnostics"]}
    assert all(found["file"] == str(spec) for found in error["diagnostics"])
    assert "\x1b" not in str(error)


def test_all_faults_are_told_at_once(own: Workshop, refused: Refused) -> None:
    """The author would mend one to be told of the next."""
    spec = own.spec("bad", more='[publish]\nkeep = 0\n[build]\ndeadline = 3\n[quantization]\nactivation = "int4"')
    keys = {found["key"] for found in refused(spec, 2)["diagnostics"]}
    assert keys == {"publish.keep", "build.deadline", "quantization.activation"}


@pytest.mark.parametrize("kind", ["folder", "pipe", "absent", "dangling", "loop"])
def test_what_is_no_file_is_no_spec(kind: str, own: Workshop, refused: Refused) -> None:
    """A named pipe would hang the program for ever."""
    spec = own.folder / "specs" / "bad.toml"
    if kind == "folder":
        spec.mkdir()
    elif kind == "pipe":
        os.mkfifo(spec)
    elif kind in ("dangling", "loop"):
        spec.symlink_to(spec if kind == "loop" else own.folder / "nowhere")
    assert refused(spec, 2)["diagnostics"][0]["file"] == str(spec)


# --------------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize("key", ["model.path", "calibration.data", "verify.data", "verify.labels"])
@pytest.mark.parametrize("way", ["absolute", "up", "link"])
def test_paths_that_leave_the_allowed_folders_are_refused(
    key: str, way: str, own: Workshop, outside: Path, refused: Refused
) -> None:
    """Whoever may drop a spec could read any file of the machine."""
    (own.folder / "link").symlink_to(outside)
    path = {
        "absolute": str(outside / "file.npy"),
        "up": os.path.relpath(outside / "file.npy", own.folder / "specs"),
        "link": "../link/file.npy",
    }[way]
    (outside / "file.npy").write_bytes(b"secret")
    spec = {
        "model.path": lambda: own.spec("bad", model=f'path = "{path}"'),
        "calibration.data": lambda: own.spec("bad", calibration=f'data = "{path}"'),
        "verify.data": lambda: own.spec("bad", verify=f'data = "{path}"'),
        "verify.labels": lambda: own.spec("bad", verify=f'metric = "top1"\nlabels = "{path}"'),
    }[key]()
    (found,) = refused(spec, 2)["diagnostics"]
    assert found["key"] == key
    assert found["line"] == next(i for i, line in enumerate(spec.read_text().splitlines(), 1) if path in line)
    assert "outside the folders" in found["message"]
    assert "TRTD_ALLOWED_ROOTS" in found["hint"]


def test_a_file_among_the_data_that_leads_outside_is_refused(own: Workshop, outside: Path, refused: Refused) -> None:
    """One link among thousands of images would be enough."""
    write_image(outside / "secret.png", 1)
    (own.images / "zz.png").symlink_to(outside / "secret.png")
    error = refused(own.spec("bad"), 3)
    assert error["where"] == str(own.images / "zz.png")


def test_a_model_file_that_leads_outside_is_refused(own: Workshop, outside: Path, refused: Refused) -> None:
    """A link in an allowed folder would publish somebody else's model."""
    shutil.move(own.model, outside / "tiny.onnx")
    own.model.symlink_to(outside / "tiny.onnx")
    error = refused(own.spec("bad", model='path = "../models"'), 3)
    assert (error["code"], error["where"]) == ("model", str(own.model))


# -------------------------------------------------------------------------------------------------------- models

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
PAGE = b"\n<!DOCTYPE html><html><body>Sign in</body></html>"
NO_MODELS: dict[str, tuple[str, bytes | None, str]] = {
    "git-LFS pointer": ("m.onnx", POINTER, "git-LFS pointer"),
    "HTML page": ("m.onnx", PAGE, "HTML or XML page"),
    "empty": ("m.onnx", b"", "the file is empty"),
    "absent": ("m.onnx", None, "no such file"),
    "garbage": ("m.onnx", bytes(range(256)) * 8, ""),
    "zip": ("m.onnx", b"PK\x03\x04" + bytes(64), "a zip archive"),
    "pickle": ("m.onnx", b"\x80\x04\x95" + bytes(64), "a pickle"),
    "checkpoint": ("m.pdparams", b"x", "training checkpoint"),
    "unknown": ("m.caffemodel", b"x", "no model format"),
    "LFS program": ("m.json", POINTER, "git-LFS pointer"),
    "JSON of something else": ("m.json", b'{"layers": [1, 2]}', ""),
    "torn JSON": ("m.json", b'{"base_code": {"magic": "pir"', ""),
    "text program": ("m.pdmodel", b"hello", ""),
}


@pytest.mark.parametrize("what", NO_MODELS)
def test_files_that_are_no_model_are_refused_by_what_they_are(what: str, own: Workshop, refused: Refused) -> None:
    """A failed download would end in a parser's riddle, or run the code of a pickle."""
    name, content, message = NO_MODELS[what]
    file = own.model.parent / name
    if content is not None:
        file.write_bytes(content)
    error = refused(own.spec("bad", model=f'path = "../models/{name}"'), 3)
    assert error["code"] == "model"
    assert str(file) in error["where"]
    assert message in error["message"]
    assert error["hint"]


@pytest.mark.parametrize("suffix", ["plan", "engine", "trt"])
def test_a_ready_made_engine_is_no_source(suffix: str, own: Workshop, refused: Refused) -> None:
    """An engine has no FP32 to be judged against."""
    (own.model.parent / f"m.{suffix}").write_bytes(b"ptrt")
    (found,) = refused(own.spec("bad", model=f'path = "../models/m.{suffix}"'), 2)["diagnostics"]
    assert "ready-made TensorRT engine" in found["message"]
    (own.model.parent / "m").mkdir()
    shutil.move(own.model.parent / f"m.{suffix}", own.model.parent / "m")
    assert "TensorRT engine" in refused(own.spec("bad", model='path = "../models/m"'), 3)["message"]


def test_missing_parameters_are_named(own: Workshop, refused: Refused) -> None:
    """A program without its parameters would be run on zeros, or crash the converter."""
    shutil.copyfile(SPECS / "digits" / "model" / "inference.json", own.model.parent / "m.json")
    error = refused(own.spec("bad", model='path = "../models/m.json"'), 3)
    assert "m.pdiparams is missing" in error["message"]


def test_parameters_of_another_model_are_refused(own: Workshop, ppocr_det: Path, refused: Refused) -> None:
    """Two exports mixed up give an engine of nonsense weights."""
    folder = own.model.parent / "mixed"
    shutil.copytree(SPECS / "digits" / "model", folder)
    shutil.copyfile(ppocr_det / "model" / "inference.pdiparams", folder / "inference.pdiparams")
    error = refused(own.spec("bad", model='path = "../models/mixed"'), 3)
    assert error["code"] == "model"


def test_external_data_that_points_outside_is_refused(own: Workshop, outside: Path, refused: Refused) -> None:
    """A model from the web would read any file of this machine into its weights."""
    model = onnx.load(own.model)
    onnx.save(model, own.model, save_as_external_data=True, location="weights", size_threshold=0)
    (outside / "weights").write_bytes((own.model.parent / "weights").read_bytes())
    for location in (str(outside / "weights"), os.path.relpath(outside / "weights", own.model.parent), "link"):
        model = onnx.load(own.model, load_external_data=False)
        for tensor in model.graph.initializer:
            next(entry for entry in tensor.external_data if entry.key == "location").value = location
        own.model.with_name("away.onnx").write_bytes(model.SerializeToString())
        if location == "link":
            (own.model.parent / "link").symlink_to(outside / "weights")
        error = refused(own.spec("bad", model='path = "../models/away.onnx"'), 3)
        assert error["code"] == "model"
        assert "outside" in error["message"]


REAL_MODELS = {
    "onnx": ("tiny", "tiny.onnx", 20),
    "PIR program": ("digits", "inference.json", 20),
    "PIR parameters": ("digits", "inference.pdiparams", 20),
    "program": ("ppocr-det", "inference.pdmodel", 20),
    "parameters": ("ppocr-det", "inference.pdiparams", 20),
}


@pytest.mark.parametrize("what", REAL_MODELS)
def test_a_truncated_model_is_refused_wherever_it_was_cut(
    what: str, own: Workshop, ppocr_det: Path, refused: Refused
) -> None:
    """A download that broke off would crash a parser, or be built into an engine with half its weights."""
    model, name, cuts = REAL_MODELS[what]
    folders = {"tiny": own.model.parent, "digits": SPECS / "digits" / "model", "ppocr-det": ppocr_det / "model"}
    source = folders[model]
    torn = own.folder / "torn"
    shutil.copytree(source, torn)
    whole = (source / name).read_bytes()
    offsets = {len(whole) * cut // cuts for cut in range(cuts)} | {1, len(whole) - 1}
    for offset in sorted(offsets):
        (torn / name).write_bytes(whole[:offset])
        with pytest.raises(ModelError) as caught:
            read_facts(locate(torn))
        assert caught.value.hint
    error = refused(own.spec("bad", model='path = "../torn"'), 3)
    assert error["code"] == "model"
    (torn / name).write_bytes(whole)
    assert read_facts(locate(torn)).inputs


def test_a_graph_with_an_unknown_operator_is_refused(own: Workshop, refused: Refused) -> None:
    """The runtime would refuse it after the calibration, in words that name no file."""
    model = onnx.load(own.model)
    model.graph.node[1].CopyFrom(helper.make_node("Swishy", ["c1"], ["r1"], "relu1"))
    onnx.save(model, own.model)
    error = refused(own.spec("bad"), 3)
    assert error["code"] == "conversion"
    assert "Swishy" in error["message"]


def test_open_dimensions_must_be_given(own: Workshop, refused: Refused) -> None:
    """A shape would be guessed, and the engine tuned to it."""
    model = onnx.load(own.model)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[2].dim_param = dims[3].dim_param = "side"
    onnx.save(model, own.model)
    (found,) = refused(own.spec("bad"), 2)["diagnostics"]
    assert found["key"] == "model.inputs.x"
    assert "[?, 3, ?, ?]" in found["message"]


# ---------------------------------------------------------------------------------------------------------- data


def array(**changes: Any) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal((24, 3, 8, 8)).astype(changes.get("dtype", "float32"))


def with_nan() -> np.ndarray[Any, Any]:
    values = array()
    values[17, 0, 0, 0] = np.nan
    return values


DATA: dict[str, tuple[Callable[[], np.ndarray[Any, Any]], str]] = {
    "objects": (lambda: np.array([{}, print] * 12, dtype=object), "dtype object"),
    "texts": (lambda: array().astype("U8"), "dtype <U8"),
    "complex numbers": (lambda: array(dtype="complex64"), "dtype complex64"),
    "wrong channels": (lambda: array()[:, :2], "wants shape"),
    "wrong rank": (lambda: array().reshape(24, -1), "wants shape"),
    "channels last": (lambda: array().transpose(0, 2, 3, 1), "wants shape"),
    "not-a-number": (with_nan, "NaN"),
    "infinity": (lambda: array() * np.float32(np.inf), ""),
    "no items": (lambda: array()[:0], "holds no items"),
    "one item": (lambda: array()[:1], "1 item"),
    "copies of one item": (lambda: array()[:1].repeat(24, axis=0), "duplicates"),
    "a scalar": (lambda: np.asarray(3.0), ""),
}


@pytest.mark.parametrize("what", DATA)
def test_arrays_that_do_not_fit_are_refused(what: str, own: Workshop, refused: Refused) -> None:
    """Wrong data calibrates as fast as right data; only the engine is worthless."""
    make, message = DATA[what]
    np.save(own.folder / "data.npy", make(), allow_pickle=True)
    error = refused(own.spec("bad", calibration='data = "../data.npy"'), 3)
    assert error["code"] == "data"
    assert message in error["message"]
    assert str(own.folder) in error["where"]
    if what == "not-a-number":
        assert error["where"].endswith("data.npy[17]")


def torn_array(folder: Path) -> None:
    np.save(folder / "d.npy", array())
    (folder / "d.npy").write_bytes((folder / "d.npy").read_bytes()[:-100])


def mixed_kinds(folder: Path) -> None:
    np.save(folder / "d.npy", array())
    write_image(folder / "a.png", 0)


def many_pages(folder: Path) -> None:
    for number in range(24):
        (folder / f"{number}.png").write_bytes(PAGE + bytes([number]))


FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda folder: None, "no data files"),
    "wrong input name": (lambda folder: np.savez(folder / "d.npz", image=array()), "no input 'image'"),
    "one input too many": (lambda folder: np.savez(folder / "d.npz", x=array(), y=array()), "no input 'y'"),
    "mixed kinds": (mixed_kinds, "mixes kinds"),
    "an unknown kind": (lambda folder: (folder / "d.tfrecord").write_bytes(b"x"), "neither an image nor an array"),
    "a torn array": (torn_array, "cannot read the array"),
    "an LFS pointer": (lambda folder: (folder / "d.npy").write_bytes(POINTER), "cannot read the array"),
    "a page named .npz": (lambda folder: (folder / "d.npz").write_bytes(PAGE), "cannot read the array"),
    "a dangling link": (lambda folder: (folder / "a.png").symlink_to(folder / "gone.png"), "cannot be read"),
}


@pytest.mark.parametrize("what", FOLDERS)
def test_folders_of_unusable_data_are_refused(what: str, own: Workshop, refused: Refused) -> None:
    """A part of the data would be taken for all of it, or read as something else."""
    fill, message = FOLDERS[what]
    folder = own.folder / "data"
    folder.mkdir()
    fill(folder)
    error = refused(own.spec("bad", calibration='data = "../data"'), 3)
    assert error["code"] == "data"
    assert message in error["message"]
    assert str(folder) in error["where"]


def test_pages_named_png_are_refused_by_name(own: Workshop, refused: Refused) -> None:
    """A crawl that met a login page would calibrate on nothing."""
    folder = own.folder / "pages"
    folder.mkdir()
    many_pages(folder)
    error = refused(own.spec("bad", calibration='data = "../pages"'), 3)
    assert error["code"] == "data"
    assert "cannot decode the image" in error["message"]
    assert error["where"].startswith(f"{folder}/")


def test_heldout_data_equal_to_the_calibration_set_is_refused(own: Workshop, refused: Refused) -> None:
    """An engine would be judged by what it was tuned on."""
    error = refused(own.spec("bad", verify='data = "../images"'), 2)
    assert "is the same as calibration.data" in error["diagnostics"][0]["message"]
    error = refused(own.spec("bad", verify='data = "../images/*.png"'), 3)
    assert "calibration and held-out data share" in error["message"]


def labels_of(values: Any) -> Callable[[Path], object]:
    return lambda path: np.save(path, np.asarray(values), allow_pickle=True)


LABELS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "garbage": ("labels.npy", lambda path: path.write_bytes(b"hello"), "cannot be read"),
    "objects": ("labels.npy", labels_of([None] * 24), "cannot be read"),
    "too few": ("labels.npy", labels_of([1] * 23), "not 24 whole numbers"),
    "fractions": ("labels.npy", labels_of([0.5] * 24), "not 24 whole numbers"),
    "names": ("labels.txt", lambda path: path.write_text("00.png cat\n"), "line 1 is not FILE LABEL"),
    "of other files": ("labels.txt", lambda path: path.write_text("other.png 1\n"), "there is no label for"),
    "latin-1": ("labels.txt", lambda path: path.write_bytes(b"gr\xfcn.png 1\n"), "cannot be read"),
}


@pytest.mark.parametrize("what", LABELS)
def test_labels_that_are_none_are_refused_before_anything_runs(what: str, own: Workshop, refused: Refused) -> None:
    """Labels of another set would give a metric of nothing, or stop the last stage after an hour of calibration."""
    name, write, message = LABELS[what]
    write(own.folder / name)
    error = refused(own.spec("bad", verify=f'metric = "top1"\nlabels = "../{name}"'), 3)
    assert error["code"] == "data"
    assert message in error["message"]
    assert error["where"] == str(own.folder / name)
    assert list(own.registry.logs.iterdir()) == []


# ------------------------------------------------------------------------------------------------------ registry


def test_what_is_no_registry_is_refused(own: Workshop, trtd: Trtd) -> None:
    """Engines would be strewn into any folder."""
    for place in (own.images, own.folder / "absent", own.model):
        ran = trtd("build", own.spec(), "--registry", place, "--json")
        assert ran.status == 3
        assert "not a registry" in ran.document["error"]["message"]
        assert "trtd init" in ran.document["error"]["hint"]
    assert not (own.folder / "absent").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a file system of memory; needs the right to."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> Path:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True)
        if done.returncode != 0:
            pytest.skip("a file system cannot be mounted here (needs root)")
        return place

    yield mount
    while os.path.ismount(place):
        subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_told_and_leaves_nothing_half_done(
    own: Workshop, trtd: Trtd, small_disk: Callable[..., Path]
) -> None:
    """Half an engine would be published, or the user told of a bug in trtd."""
    disk = small_disk("size=400k")
    root = disk / "registry"
    assert trtd("init", root).status == 0
    filler = disk / "filler"
    told = set()
    for free_kb in (180, 100, 16):
        filler.unlink(missing_ok=True)
        space = shutil.disk_usage(disk).free
        filler.write_bytes(bytes(max(space - free_kb * 1024, 0)))
        ran = trtd("build", own.spec(), "--registry", root, "--json")
        if ran.status == 0:
            shutil.rmtree(root / "engines" / "tiny")
            shutil.rmtree(root / "records" / "tiny")
            continue
        assert ran.status == 3
        assert "Traceback" not in ran.err
        told.add(ran.document["error"]["code"])
        assert list((root / "engines").iterdir()) == []
        assert list((root / ".trtd" / "staging").iterdir()) == []
    assert "storage" in told
    filler.unlink()


def test_a_read_only_registry_is_told(own: Workshop, trtd: Trtd, small_disk: Callable[..., Path]) -> None:
    """A mount gone read-only would show as a bug in trtd; what is published must stay readable."""
    disk = small_disk("size=4m")
    root = disk / "registry"
    assert trtd("init", root).status == 0
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    for command in (["build", own.spec()], ["calibrate", own.spec()]):
        ran = trtd(*command, "--registry", root, "--json")
        assert ran.status == 3
        assert ran.document["error"]["code"] == "storage"
        assert "read-only" in ran.document["error"]["message"]
    assert trtd("plan", own.spec(), "--registry", root).status == 0
    assert trtd("show", "--registry", root).status == 0


def test_a_converter_that_dies_is_named_and_the_next_spec_is_built(
    own: Workshop, trtd: Trtd, stand_in: Callable[[str, str], None]
) -> None:
    """A native crash on one model would take the whole command along. (The converter is a stand-in that segfaults.)"""
    stand_in("convert", "stand_in_converter:crash_on_cursed_models")
    shutil.copyfile(own.model, own.model.with_name("cursed.onnx"))
    model = onnx.load(own.model)
    model.doc_string = "other bytes, so that the store does not take the one for the other"
    onnx.save(model, own.model.with_name("cursed.onnx"))
    cursed = own.spec("cursed", model='path = "../models/cursed.onnx"')
    ran = trtd("build", cursed, own.spec("blessed", precision='"fp32"'), "--registry", own.registry.root, "--json")
    assert ran.status == 3
    first, second = ran.document["data"]
    assert first["error"]["code"] == "worker-crashed"
    assert first["error"]["where"] == "convert"
    assert "SIGSEGV" in first["error"]["message"]
    (log,) = own.registry.logs.glob("cursed*.log")
    assert "crash_on_cursed_models" in log.read_text()
    assert (second["name"], second["version"], second["error"]) == ("blessed", 1, None)
    assert own.registry.names() == ("blessed",)


def test_limits_of_the_spec_are_kept(own: Workshop, refused: Refused) -> None:
    """A stage that hangs would hold the machine for ever."""
    error = refused(own.spec("bad", more="[build]\ndeadline_s = 0.05"), 3)
    assert error["code"] == "worker-timeout"
    assert "deadline of 0.05 s" in error["message"]
