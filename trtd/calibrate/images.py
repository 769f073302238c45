"""Images as model inputs: decode, orient, resize, normalize, lay out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trtd.calibrate.fitting import show, target_dtype
from trtd.errors import DataError

if TYPE_CHECKING:  # numpy and Pillow are imported where they work: `trtd check` lists images without decoding any
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from trtd.model.facts import TensorFacts
    from trtd.spec.schema import Preprocess

FORMATS = ("PNG", "JPEG", "BMP", "WEBP")

Fit = Literal["stretch", "crop", "letterbox"]
Channels = Literal["rgb", "bgr", "gray"]
Layout = Literal["nchw", "nhwc"]


@dataclass(frozen=True)
class ImageRecipe:
    """How an image becomes an input: ``(pixel * scale - mean) / std``, pixels 0..255, in the channel order fed.

    Attributes:
        size: height and width of the result, in pixels; ``None`` keeps each image's own.
        fit: ``stretch`` ignores the aspect; ``crop`` resizes the shorter side, then takes the centre;
            ``letterbox`` keeps the whole image and pads both ends of the other side.
        pad_value: 0..255, of every channel, before scaling.
    """

    size: tuple[int, int] | None
    fit: Fit
    pad_value: float
    channels: Channels
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layout: Layout

    @property
    def words(self) -> str:
        """``stretch to 64 x 64, rgb, 0..1``, of a recipe that nobody wrote down."""
        size = "no change of size" if self.size is None else f"{self.fit} to {self.size[0]} x {self.size[1]}"
        return f"{size}, {self.channels}, 0..{255 * self.scale:g}"

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Of one item: ``(1, C, H, W)`` or ``(1, H, W, C)``; ``None`` where an image keeps its size."""
        count = 1 if self.channels == "gray" else 3
        height, width = self.size or (None, None)
        return (1, count, height, width) if self.layout == "nchw" else (1, height, width, count)


def plan_images(
    inputs: Sequence[TensorFacts], shape: Sequence[int] | None, preprocess: Preprocess | None
) -> ImageRecipe:
    """Decide how images feed a model.

    Without ``preprocess``, images are stretched to the input's height and width, RGB (or gray where the input has
    one channel), scaled to 0..1 for float inputs and left at 0..255 for integer inputs; the layout is read off where
    the 3 or 1 channels stand.

    Args:
        inputs: of the model; it must have one, with four dimensions.
        shape: of that input with open dimensions filled in (the profile's opt shape), if known.
        preprocess: from the spec. Without ``resize``, images are brought to the height and width of ``shape``; where
            that is not known and the model leaves both open, they keep their own.

    Raises:
        DataError: images cannot feed this model, or the recipe's result does not fit the input.
    """
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        listed = ", ".join(f"{each.name} {show(each.shape)}" for each in inputs)
        raise DataError(
            f"images can feed a model with exactly one image input; this one has: {listed}",
            hint="give a folder of .npz files that hold one array for each input, by its name",
        )
    tensor = inputs[0]
    dims = tuple(
        given if fixed is None else fixed for fixed, given in zip(tensor.shape, shape or (None,) * 4, strict=True)
    )
    if preprocess is None:
        layout, count = _guess_layout(tensor, dims)
        size = _size(tensor, dims, layout)
        scale = 1 / 255 if target_dtype(tensor).kind == "f" else 1.0
        channels: Channels = "gray" if count == 1 else "rgb"
        return ImageRecipe(size, "stretch", 0, channels, scale, (0.0,) * count, (1.0,) * count, layout)
    layout = preprocess.layout
    spatial = dims[2:4] if layout == "nchw" else dims[1:3]
    if preprocess.resize is not None:
        height, width = preprocess.resize
        chosen: tuple[int, int] | None = (height, width)
    else:
        chosen = None if spatial == (None, None) else _size(tensor, dims, layout)
    recipe = ImageRecipe(
        chosen,
        preprocess.fit,
        preprocess.pad_value,
        preprocess.channels,
        preprocess.scale,
        tuple(preprocess.mean),
        tuple(preprocess.std),
        layout,
    )
    _check_shape(recipe, tensor)
    return recipe


def read_image(path: Path, recipe: ImageRecipe) -> NDArray[np.float32]:
    """Decode one image and apply the recipe: float32 of ``recipe.shape``, C-contiguous.

    EXIF orientation is applied, 16-bit grays are reduced to 8 bits, palettes are expanded, alpha is dropped, the first
    frame of an animation is taken. Resizing is Pillow's antialiased bilinear.

    Raises:
        DataError: the file cannot be decoded; names it.
    """
    import numpy as np

    image = _fit(decode(path, gray=recipe.channels == "gray"), recipe)
    pixels = np.asarray(image, dtype=np.float32).reshape(image.height, image.width, -1)
    if recipe.channels == "bgr":
        pixels = pixels[:, :, ::-1]
    mean, std = np.asarray(recipe.mean, np.float32), np.asarray(recipe.std, np.float32)
    pixels = (pixels * np.float32(recipe.scale) - mean) / std
    if recipe.layout == "nchw":
        pixels = pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels[np.newaxis], dtype=np.float32)


def decode(path: Path, *, gray: bool) -> Image.Image:
    """The image as mode ``RGB`` or ``L``, upright. Raises ``DataError`` naming the file."""
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as opened:
                opened.load()
                return _to_mode(ImageOps.exif_transpose(opened), "L" if gray else "RGB")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"the image claims too many pixels: {error}", where=str(path), hint="shrink it, or take it out of the data"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever a torn file makes them stumble over
        raise DataError(f"cannot decode the image: {error}", where=str(path), hint=_why(path)) from error


def _to_mode(image: Image.Image, mode: Literal["L", "RGB"]) -> Image.Image:
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I"):  # Pillow clips 16-bit values at 255 instead of scaling them
        deep = np.asarray(image).astype(np.float64) / 257
        image = Image.fromarray(np.rint(deep.clip(0, 255)).astype(np.uint8))
    return image.convert(mode)


def _fit(image: Image.Image, recipe: ImageRecipe) -> Image.Image:
    from PIL import Image

    if recipe.size is None:
        return image
    height, width = recipe.size
    if recipe.fit == "stretch":
        return _resize(image, height, width)
    pick = max if recipe.fit == "crop" else min
    ratio = pick(height / image.height, width / image.width)
    image = _resize(image, max(1, round(image.height * ratio)), max(1, round(image.width * ratio)))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    if recipe.fit == "crop":
        return image.crop((left, top, left + width, top + height))
    value = round(recipe.pad_value)
    canvas = Image.new(image.mode, (width, height), value if image.mode == "L" else (value,) * 3)
    canvas.paste(image, (-left, -top))
    return canvas


def _resize(image: Image.Image, height: int, width: int) -> Image.Image:
    from PIL import Image

    if (image.height, image.width) == (height, width):
        return image
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _guess_layout(tensor: TensorFacts, dims: Sequence[int | None]) -> tuple[Layout, int]:
    if (count := dims[1]) in (1, 3):
        return "nchw", count
    if (count := dims[3]) in (1, 3):
        return "nhwc", count
    raise DataError(
        f"cannot tell where the channels of input {tensor.name!r} {show(tensor.shape)} stand: neither axis 1 nor "
        "axis 3 has size 3 or 1",
        hint="write [calibration.preprocess] with channels and layout, or give the data as .npy or .npz",
    )


def _size(tensor: TensorFacts, dims: Sequence[int | None], layout: Layout) -> tuple[int, int]:
    height, width = dims[2:4] if layout == "nchw" else dims[1:3]
    if not height or not width or height < 1 or width < 1:
        raise DataError(
            f"input {tensor.name!r} {show(tensor.shape)} leaves height or width open, so images have no size to take",
            hint=f"give resize in [calibration.preprocess], or [model.inputs.{tensor.name}] opt",
        )
    return height, width


def _check_shape(recipe: ImageRecipe, tensor: TensorFacts) -> None:
    pairs = zip(tensor.shape[1:], recipe.shape[1:], strict=True)
    if any(want is not None and got is not None and want != got for want, got in pairs):
        raise DataError(
            f"preprocess makes {show(recipe.shape)}, input {tensor.name!r} wants {show(tensor.shape)}",
            hint="check resize, channels and layout in [calibration.preprocess]",
        )


def _why(path: Path) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:
        return "the file cannot be read: check that it is still there, and its permissions"
    if not head:
        return "the file is empty: copy it again"
    if head.startswith(b"version https://git-lfs"):
        return "it is a git-LFS pointer, not the image: run `git lfs pull`"
    return f"the file is torn, or not one of {', '.join(FORMATS)}: copy or convert it again, or take it out"
