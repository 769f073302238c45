"""Images become inputs the way the spec says, pixel by pixel, and broken ones become errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trtd.calibrate.images import ImageRecipe, plan_images, read_image
from trtd.errors import DataError
from trtd.model.facts import TensorFacts
from trtd.spec.schema import Preprocess

Array = np.ndarray[Any, Any]


def model(*shape: int | None, dtype: str = "float32") -> list[TensorFacts]:
    return [TensorFacts(name="x", dtype=dtype, shape=shape)]


def prepared(**fields: Any) -> Preprocess:
    return Preprocess.model_validate(fields)


def recipe(**fields: Any) -> ImageRecipe:
    return plan_images(model(None, None, None, None), None, prepared(**fields))


def save(path: Path, pixels: Any, **options: Any) -> Path:
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path, **options)
    return path


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """Two rows of three pixels: red, green, blue; black, white, gray."""
    rows = [[(255, 0, 0), (0, 255, 0), (0, 0, 255)], [(0, 0, 0), (255, 255, 255), (51, 51, 51)]]
    return save(tmp_path / "colours.png", rows)


def test_without_preprocess_the_input_decides(colours: Path) -> None:
    """The shortest spec must feed RGB in 0..1 at the input's size, in its layout."""
    nchw = read_image(colours, plan_images(model(None, 3, 2, 3), None, None))
    assert nchw.shape == (1, 3, 2, 3)
    assert nchw.dtype == np.float32
    assert nchw.flags.c_contiguous
    np.testing.assert_allclose(nchw[0, :, 0, 0], [1, 0, 0])
    np.testing.assert_allclose(nchw[0, :, 1, 2], [0.2, 0.2, 0.2])
    nhwc = read_image(colours, plan_images(model(None, 2, 3, 3), None, None))
    np.testing.assert_array_equal(nhwc, nchw.transpose(0, 2, 3, 1))


def test_without_preprocess_open_dims_come_from_the_profile(colours: Path) -> None:
    """An open height and width have one sensible value: the shape that the engine is tuned for."""
    assert plan_images(model(None, 3, None, None), (1, 3, 64, 32), None).shape == (1, 3, 64, 32)
    with pytest.raises(DataError, match="leaves height or width open") as caught:
        plan_images(model(None, 3, None, None), None, None)
    assert "[model.inputs.x] opt" in caught.value.hint


def test_one_channel_is_gray_and_integers_stay_raw(colours: Path) -> None:
    """A digits model takes one channel; a model with its own normalization takes 0..255."""
    gray = read_image(colours, plan_images(model(1, 1, 2, 3), None, None))
    np.testing.assert_allclose(gray[0, 0, 1], [0, 1, 0.2])
    raw = read_image(colours, plan_images(model(1, 2, 3, 3, dtype="uint8"), None, None))
    assert raw[0, 1, 2].tolist() == [51, 51, 51]


@pytest.mark.parametrize("inputs", [model(None, 3), model(1, 3, 8, 8) * 2, model(None, 5, 8, 8), []])
def test_models_that_images_cannot_feed_are_told_what_can(inputs: list[TensorFacts]) -> None:
    """Vectors and several inputs need arrays; the message must say so."""
    with pytest.raises(DataError) as caught:
        plan_images(inputs, None, None)
    assert ".np" in caught.value.hint


def test_channels_scale_mean_std_and_layout(colours: Path) -> None:
    """Mean and std apply after scaling, in the channel order that is fed: a swap costs accuracy and nothing else."""
    fed = read_image(
        colours,
        recipe(channels="bgr", scale=0.5, mean=[1.0, 2.0, 3.0], std=[2.0, 4.0, 8.0], layout="nhwc"),
    )
    np.testing.assert_allclose(fed[0, 0, 0], [(0 - 1) / 2, (0 - 2) / 4, (127.5 - 3) / 8])
    np.testing.assert_allclose(fed[0, 0, 2], [(127.5 - 1) / 2, (0 - 2) / 4, (0 - 3) / 8])


def test_fits(tmp_path: Path) -> None:
    """Stretch fills, crop keeps the centre, letterbox keeps all and pads both ends."""
    pixels = np.zeros((4, 8, 3))
    pixels[:, 2:6] = 100
    path = save(tmp_path / "wide.png", pixels)

    def red(**fields: Any) -> Array:
        return np.asarray(read_image(path, recipe(scale=1.0, **fields))[0, 0])

    assert red(resize=[4, 4], fit="crop").tolist() == [[100] * 4] * 4
    boxed = red(resize=[8, 8], fit="letterbox", pad_value=7)
    assert boxed[[0, 1, 6, 7]].tolist() == [[7] * 8] * 4
    assert boxed[2:6].tolist() == pixels[:, :, 0].tolist()
    stretched = red(resize=[4, 4])
    assert stretched.shape == (4, 4)
    assert stretched[0, 1:3].min() > 80
    assert stretched[0, 0] < 20
    assert red().shape == (4, 8)


@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (37, 41)])
def test_every_size_fits(tmp_path: Path, fit: str, size: tuple[int, int]) -> None:
    """Extreme aspects round to nothing easily; the result must have its size all the same."""
    path = save(tmp_path / "x.png", np.zeros((*size, 3)))
    assert read_image(path, recipe(resize=[17, 32], fit=fit)).shape == (1, 3, 17, 32)


def test_a_fixed_input_size_needs_no_resize(colours: Path) -> None:
    """A model that takes one size only says which; asking for it again would be noise."""
    assert plan_images(model(None, 3, 10, 12), None, prepared()).shape == (1, 3, 10, 12)
    with pytest.raises(DataError, match="open"):
        plan_images(model(None, 3, 48, None), None, prepared())


@pytest.mark.parametrize(
    "fields", [{"layout": "nhwc"}, {"resize": [8, 8]}, {"channels": "gray", "mean": [0.0], "std": [1.0]}]
)
def test_a_recipe_that_does_not_fit_the_input_fails_before_any_image(fields: dict[str, Any]) -> None:
    """The layout is the classic slip; it must not take a decoded image to find."""
    with pytest.raises(DataError, match="preprocess makes"):
        plan_images(model(None, 3, None, 12), None, prepared(**({"resize": [4, 12]} | fields)))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_every_promised_format_is_read(tmp_path: Path, suffix: str) -> None:
    """PNG, JPEG, BMP and WebP are what people have."""
    options = {"lossless": True} if suffix == ".webp" else {}
    path = save(tmp_path / f"x{suffix}", np.full((8, 8, 3), (200, 100, 50)), **options)
    np.testing.assert_allclose(read_image(path, recipe(scale=1.0))[0, :, 4, 4], [200, 100, 50], atol=3)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    """Phones store rotated pixels and a note; without it a quarter of the photos lie on their side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "x.png", np.arange(6).reshape(2, 3) * 10, exif=exif)
    assert read_image(path, recipe(scale=1.0))[0, 0].tolist() == [[30, 0], [40, 10], [50, 20]]


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    """Pillow clips 16-bit gray at 255, which turns a depth map white."""
    Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16)).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png", recipe(scale=1.0))[0, 1, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    """Palettes, alpha and gray are common in folders of images; each must feed three plain channels."""
    suffix = {"CMYK": "jpg"}.get(mode, "png")
    image = Image.new("RGB", (8, 8), (255, 255, 255)).convert("RGBA" if mode == "PA" else mode)
    if mode == "PA":
        image = image.quantize(4)
    image.save(tmp_path / f"x.{suffix}")
    fed = read_image(tmp_path / f"x.{suffix}", recipe(scale=1.0))
    np.testing.assert_allclose(fed, np.full((1, 3, 8, 8), 255.0), atol=2)


def test_alpha_is_dropped_onto_nothing(tmp_path: Path) -> None:
    """Colours under transparency stay what they are; blending would invent a background."""
    Image.new("RGBA", (2, 2), (10, 20, 30, 0)).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png", recipe(scale=1.0))[0, :, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp"])
def test_truncation_is_noticed(tmp_path: Path, suffix: str) -> None:
    """Half an image, the rest gray, calibrates on gray."""
    path = save(tmp_path / f"x.{suffix}", np.random.default_rng(0).integers(0, 255, (40, 40, 3)))
    whole = path.read_bytes()
    for length in [0, 1, 10, *range(20, len(whole) * 3 // 4, len(whole) // 9)]:
        path.write_bytes(whole[:length])
        with pytest.raises(DataError) as caught:
            read_image(path, recipe())
        assert caught.value.where == str(path)
        assert caught.value.hint


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (b"<html></html>", "torn, or not one of"),
        (b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", "torn, or not one of"),
        (b"", "empty"),
    ],
)
def test_what_is_no_image_is_told_apart(tmp_path: Path, data: bytes, hint: str) -> None:
    """A pointer, a web page and an empty file are mended in different ways."""
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_image(tmp_path / "x.png", recipe())
    assert hint in caught.value.hint


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file may claim a terabyte of pixels."""
    path = save(tmp_path / "x.png", np.zeros((20, 20, 3)))
    for limit in (300, 100):  # a warning of Pillow's above the limit, an error of Pillow's above twice the limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(DataError, match="too many pixels"):
            read_image(path, recipe())


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    """A file may vanish between listing and reading."""
    with pytest.raises(DataError, match=r"gone\.png"):
        read_image(tmp_path / "gone.png", recipe())
