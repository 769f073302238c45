"""Calibration and quantization: the data, how images become inputs, and what stays in float."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from trtd.spec import relations as rules
from trtd.spec.fields import (
    CHANNEL_COUNT,
    LARGEST,
    Activation,
    Channels,
    Count,
    Fit,
    HeightWidth,
    Layout,
    Method,
    PathText,
    Positive,
    PtqAlgorithm,
    Text,
)
from trtd.spec.section import Relation, Section


def _per_channel(value: float, fields: dict[str, Channels]) -> list[float]:
    return [value] * CHANNEL_COUNT[fields.get("channels", "rgb")]  # absent where channels itself is at fault


class Preprocess(Section):
    """How an image becomes an input: resize, channel order, (value * scale - mean) / std, layout. Images only."""

    relations: ClassVar[tuple[Relation, ...]] = (rules.a_value_per_channel,)

    resize: HeightWidth | None = Field(
        default=None,
        description="Height and width to bring every image to. Default: those of the input's opt shape.",
        examples=[[640, 640]],
    )
    fit: Fit = Field(
        default="stretch",
        description="How resize treats another aspect ratio: stretch ignores it; crop resizes the shorter side and "
        'cuts the centre; letterbox keeps the whole image and pads. Default: "stretch".',
    )
    pad_value: int = Field(
        default=114, ge=0, le=255, description="Pixel value, 0 to 255, that letterbox pads with. Default: 114."
    )
    channels: Channels = Field(
        default="rgb", description='Channel order that the model was trained with. Default: "rgb".'
    )
    scale: Positive = Field(
        default=1 / 255,
        description="Factor on pixel values before mean and std. "
        "Default: 1/255 (0.00392156862745098), which maps 0..255 to 0..1.",
    )
    mean: list[float] = Field(
        default_factory=lambda fields: _per_channel(0.0, fields),
        description="Subtracted after scaling, one value per channel in the order of channels. Default: all 0.0.",
        examples=[[0.485, 0.456, 0.406]],
    )
    std: list[Positive] = Field(
        default_factory=lambda fields: _per_channel(1.0, fields),
        description="Divided by after the mean, one value per channel in the order of channels. Default: all 1.0.",
        examples=[[0.229, 0.224, 0.225]],
    )
    layout: Layout = Field(
        default="nchw",
        description='Order of the input\'s axes: batch, channels, height, width, or channels last. Default: "nchw".',
    )


class CalibrationSection(Section):
    """Real data to find the ranges of activations on, needed for int8, and how images become inputs."""

    relations: ClassVar[tuple[Relation, ...]] = (rules.data_or_table,)

    data: PathText | None = Field(
        default=None,
        description="Images (a folder or a glob), .npy, .npz, or a folder of .npz for models with several inputs. "
        "Relative to the spec's folder. Default: none; int8 needs it, or table.",
        examples=["../data/pages/*.png"],
    )
    table: PathText | None = Field(
        default=None,
        description="A calibration table to use in place of data: calibration.json of trtd, or a calibration cache of "
        "TensorRT up to 10. Relative to the spec's folder. Default: none.",
        examples=["../tables/det.cache"],
    )
    samples: int = Field(
        default=500, ge=2, le=LARGEST, description="Items to calibrate on, at most; the rest is left. Default: 500."
    )
    batch: Count = Field(default=1, description="Items fed to the model at once. Default: 1.")
    method: Method = Field(
        default="mse",
        description="How a tensor's range becomes its scale: minmax keeps everything, entropy loses the least "
        'information, percentile cuts the rarest values, mse errs the least. Default: "mse".',
    )
    percentile: float = Field(
        default=99.99,
        gt=50,
        lt=100,
        description="Share of values, in percent, that the percentile method keeps. Default: 99.99.",
    )
    preprocess: Preprocess | None = Field(
        default=None,
        description="How images become inputs; arrays are fed as they are. "
        "Default: stretched to the input's size, RGB or gray, scaled to 0..1 (left at 0..255 for integer inputs).",
    )


class PtqSection(Section):
    """How Paddle quantizes, by its own names (``paddle.static.quantization.PostTrainingQuantization``)."""

    algorithm: PtqAlgorithm = Field(default="hist", description='How ranges of activations are found. Default: "hist".')
    hist_percent: float = Field(
        default=0.99999, gt=0, le=1, description="Share of the magnitudes that hist keeps. Default: 0.99999."
    )
    skip: list[Text] = Field(
        default=[],
        description="Variables of the Paddle program whose readers stay float. Default: [].",
        examples=[["conv2d_0.tmp_0"]],
    )


class QuantizationSection(Section):
    """What int8 leaves in float, for models that lose too much; and who quantizes."""

    relations: ClassVar[tuple[Relation, ...]] = (rules.ptq_by_paddle,)

    producer: Literal["trtd", "paddle-ptq"] = Field(
        default="trtd",
        description="Who finds the scales of int8: trtd, or Paddle's own post-training quantization, which needs a "
        '.pdmodel program. A model that is quantized already keeps its scales. Default: "trtd".',
    )
    ptq: PtqSection = Field(default=PtqSection(), description="For paddle-ptq. Default: as Paddle does by itself.")
    imported: Literal["target", "paddle"] = Field(
        default="target",
        description="Where a quantized Paddle model is rounded: where the target gains from it, or exactly where "
        'Paddle rounds, at whatever speed. Default: "target".',
    )

    exclude: list[Text] = Field(
        default=[],
        description="Nodes to keep in float: names of the converted ONNX graph, or globs over them. Default: [].",
        examples=[["head/*"]],
    )
    exclude_ops: list[Text] = Field(
        default=[],
        description="ONNX operator types to keep in float. Default: [].",
        examples=[["ConvTranspose"]],
    )
    activation: Activation = Field(
        default="auto",
        description='8-bit type of activations; auto takes what serves the target best. Default: "auto".',
    )
    float_precision: Literal["auto", "fp16", "fp32"] = Field(
        default="auto",
        description="Precision of what int8 leaves in float; auto is fp16 on GPUs and fp32 on CPUs, which compute FP16 "
        'as FP32. Default: "auto".',
    )
