"""Small networks made of the operators that PaddleOCR, PaddleClas, PaddleDetection and PaddleSeg models are made of."""

from __future__ import annotations

from typing import Any

import paddle
import paddle.nn.functional as F  # noqa: N812
from paddle import _C_ops, nn


class TransformerEncoder(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x: Any) -> Any:
        return self.encoder(x)


class VisionTransformer(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2D(3, 32, 8, stride=8)
        self.token = self.create_parameter([1, 1, 32])
        self.position = self.create_parameter([1, 17, 32])
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, activation="gelu"), 2)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Any) -> Any:
        tokens = self.patches(x).flatten(2).transpose([0, 2, 1])
        token = self.token.expand([paddle.shape(x)[0], -1, -1])
        return self.head(self.encoder(paddle.concat([token, tokens], 1) + self.position)[:, 0])


class SwinBlock(nn.Layer):
    """Shifted windows of 4 x 4 over an 8 x 8 grid of patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2D(3, 32, 4, stride=4)
        self.norm = nn.LayerNorm(32)
        self.qkv = nn.Linear(32, 96)
        self.bias = self.create_parameter([1, 4, 16, 16])

    def forward(self, x: Any) -> Any:
        grid = self.norm(self.patches(x).transpose([0, 2, 3, 1]))
        shifted = paddle.roll(grid, [-2, -2], [1, 2])
        windows = shifted.reshape([-1, 2, 4, 2, 4, 32]).transpose([0, 1, 3, 2, 4, 5]).reshape([-1, 16, 32])
        q, k, v = self.qkv(windows).reshape([-1, 16, 3, 4, 8]).transpose([2, 0, 3, 1, 4]).unbind(0)
        attention = F.softmax(paddle.matmul(q * 8**-0.5, k, transpose_y=True) + self.bias, -1)
        mixed = paddle.matmul(attention, v).transpose([0, 2, 1, 3]).reshape([-1, 2, 2, 4, 4, 32])
        back = mixed.transpose([0, 1, 3, 2, 4, 5]).reshape([-1, 8, 8, 32])
        return grid + paddle.roll(back, [2, 2], [1, 2])


class Crnn(nn.Layer):
    """Convolutions that shrink the height to 1, then two bidirectional LSTM layers, as in older PP-OCR recognition."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2D(3, 16, 3, stride=2, padding=1),
            nn.BatchNorm2D(16),
            nn.Hardswish(),
            nn.Conv2D(16, 32, 3, stride=(2, 1), padding=1),
            nn.BatchNorm2D(32),
            nn.ReLU(),
            nn.MaxPool2D((8, 1)),
        )
        self.rnn = nn.LSTM(32, 24, num_layers=2, direction="bidirectional")
        self.head = nn.Linear(48, 40)

    def forward(self, x: Any) -> Any:
        sequence = self.stem(x).squeeze(2).transpose([0, 2, 1])
        return F.softmax(self.head(self.rnn(sequence)[0]), -1)


class GruEncoder(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(32, 24, direction="bidirectional")

    def forward(self, x: Any) -> Any:
        return self.rnn(x)[0]


class DbHead(nn.Layer):
    """Feature pyramid with nearest upsampling, squeeze and excitation, then two transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2D(3, 16, 3, 2, 1), nn.BatchNorm2D(16), nn.Hardswish())
        self.second = nn.Sequential(nn.Conv2D(16, 16, 3, 2, 1), nn.BatchNorm2D(16), nn.Hardswish())
        self.gate = nn.Conv2D(16, 16, 1)
        self.up = nn.Sequential(
            nn.Conv2DTranspose(32, 8, 2, 2), nn.BatchNorm2D(8), nn.ReLU(), nn.Conv2DTranspose(8, 1, 1, 1)
        )

    def forward(self, x: Any) -> Any:
        high = self.first(x)
        low = self.second(high)
        low = low * F.hardsigmoid(self.gate(F.adaptive_avg_pool2d(low, 1)), slope=0.2, offset=0.5)
        return F.sigmoid(self.up(paddle.concat([high, F.upsample(low, scale_factor=2, mode="nearest")], 1)))


class SegmentationHead(nn.Layer):
    """Pyramid pooling with several bin counts, then a bilinear resize to the size of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2D(3, 16, 3, 2, 1), nn.BatchNorm2D(16), nn.ReLU())
        self.parts = nn.LayerList([nn.Conv2D(16, 4, 1) for _ in range(4)])
        self.head = nn.Conv2D(32, 5, 3, padding=1)

    def forward(self, x: Any) -> Any:
        features = self.stem(x)
        size = paddle.shape(features)[2:]
        levels = [features]
        for bins, part in zip((1, 2, 3, 6), self.parts):  # noqa: B905 - Paddle's own zip knows no strict
            pooled = part(F.adaptive_avg_pool2d(features, bins))
            levels.append(F.interpolate(pooled, size, mode="bilinear", align_corners=False))
        logits = self.head(paddle.concat(levels, 1))
        logits = F.interpolate(logits, paddle.shape(x)[2:], mode="bilinear", align_corners=True)
        return logits, paddle.argmax(logits, 1)


class NhwcBlock(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2D(3, 8, 3, padding=1, data_format="NHWC")
        self.norm = nn.BatchNorm2D(8, data_format="NHWC")
        self.depthwise = nn.Conv2D(8, 8, 3, padding=1, groups=8, data_format="NHWC")
        self.pool = nn.MaxPool2D(2, 2, data_format="NHWC")

    def forward(self, x: Any) -> Any:
        return self.pool(F.relu(self.depthwise(self.norm(self.conv(x.transpose([0, 2, 3, 1]))))))


class Activations(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2D(3, 8, 3, padding=1)
        self.prelu = nn.PReLU(8)

    def forward(self, x: Any) -> Any:
        y = self.prelu(self.conv(x))
        names = (
            "relu relu6 hardswish hardsigmoid swish silu mish gelu sigmoid tanh elu celu selu leaky_relu softplus "
            "softsign hardtanh hardshrink softshrink tanhshrink log_sigmoid thresholded_relu"
        ).split()
        return (*[getattr(F, name)(y) for name in names], F.gelu(y, approximate=True), F.glu(y, 1), F.log_softmax(y, 1))


class Normalizations(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2D(3, 8, 3, padding=1)
        self.group, self.instance, self.layer = nn.GroupNorm(4, 8), nn.InstanceNorm2D(8), nn.LayerNorm(8)

    def forward(self, x: Any) -> Any:
        y = self.group(self.conv(x))
        y = y + self.instance(y)
        y = self.layer(y.transpose([0, 2, 3, 1]))
        return F.normalize(y, axis=-1), y * (y.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt()


class DynamicShapes(nn.Layer):
    def forward(self, x: Any) -> Any:
        shape = paddle.shape(x)
        half = x[:, :, : shape[2] // 2]
        marked = x * 1.0
        marked[:, 0] = 0.5
        marked[:, 1, 1:5] = x[:, 2, 0:4]
        focus = paddle.concat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)
        mean = x.mean(1, keepdim=True).expand_as(x)
        flat = x.reshape([shape[0], -1])
        return half, marked, focus, mean, flat, paddle.flip(x, [2, 3]), paddle.topk(flat, 5)[1], x.sum(), shape


class DeformableConv(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.offset, self.mask = nn.Conv2D(3, 18, 3, padding=1), nn.Conv2D(3, 9, 3, padding=1)
        self.first = paddle.vision.ops.DeformConv2D(3, 8, 3, padding=1)
        self.second = paddle.vision.ops.DeformConv2D(3, 8, 3, padding=1)

    def forward(self, x: Any) -> Any:
        offset = self.offset(x)
        return self.first(x, offset), self.second(x, offset, F.sigmoid(self.mask(x)))


class DeformableAttention(nn.Layer):
    """Queries chosen by score sample the feature map at learned places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2D(3, 16, 3, 2, 1)
        self.score, self.places, self.weights = nn.Linear(16, 4), nn.Linear(16, 16), nn.Linear(16, 8)

    def forward(self, x: Any) -> Any:
        features = self.stem(x)
        memory = features.flatten(2).transpose([0, 2, 1])
        scores = self.score(memory)
        _, best = paddle.topk(scores.max(-1), 10, axis=1)
        batch = paddle.arange(end=paddle.shape(x)[0]).astype(best.dtype).unsqueeze(-1).tile([1, 10])
        queries = paddle.gather_nd(memory, paddle.stack([batch, best], -1))
        grid = paddle.tanh(self.places(queries)).reshape([0, 10, 8, 2])
        sampled = F.grid_sample(features, grid, align_corners=False)
        weights = F.softmax(self.weights(queries), -1).unsqueeze(1)
        return (sampled * weights).sum(-1).transpose([0, 2, 1]), paddle.take_along_axis(scores.max(-1), best, 1)


def _multiclass_nms(boxes: Any, scores: Any) -> Any:
    """As PaddleDetection exports it: (boxes kept, 6) and how many there are of each image."""
    kept, _, count = _C_ops.multiclass_nms3(boxes, scores, None, 0.05, 100, 20, 0.5, True, 1.0, -1)
    return kept, count


class YoloBoxNms(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2D(3, 16, 3, 4, 1), nn.ReLU(), nn.Conv2D(16, 27, 3, 2, 1))

    def forward(self, x: Any) -> Any:
        size = paddle.full([x.shape[0] if self.training else 1, 2], 64, "int32")
        anchors = [10, 13, 16, 30, 33, 23]
        boxes, scores = paddle.vision.ops.yolo_box(self.head(x), size, anchors, 4, 0.01, 8)
        return _multiclass_nms(boxes, scores.transpose([0, 2, 1]))


class AnchorFreeNms(nn.Layer):
    """Distances as distributions over 8 bins (DFL), anchor points from the run-time size of the features."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2D(3, 16, 3, 4, 1), nn.BatchNorm2D(16), nn.Swish())
        self.boxes, self.classes = nn.Conv2D(16, 32, 3, 2, 1), nn.Conv2D(16, 3, 3, 2, 1)

    def boxes_and_scores(self, x: Any) -> Any:
        features = self.stem(x)
        scores = F.sigmoid(self.classes(features)).flatten(2)
        logits = self.boxes(features).flatten(2).transpose([0, 2, 1]).reshape([0, -1, 4, 8])
        distances = (F.softmax(logits, -1) * paddle.arange(8, dtype="float32")).sum(-1)
        rows, columns = paddle.shape(x)[2] // 8, paddle.shape(x)[3] // 8
        ys, xs = paddle.meshgrid(paddle.arange(rows) + 0.5, paddle.arange(columns) + 0.5)
        points = paddle.stack([xs, ys], -1).astype("float32").reshape([1, -1, 2])
        boxes = paddle.concat([points - distances[..., :2], points + distances[..., 2:]], -1) * 8
        return boxes, scores

    def forward(self, x: Any) -> Any:
        return _multiclass_nms(*self.boxes_and_scores(x))


class MatrixNms(AnchorFreeNms):
    def forward(self, x: Any) -> Any:
        return paddle.vision.ops.matrix_nms(*self.boxes_and_scores(x), 0.1, 0.05, 50, 20)[0]


class PlainNms(AnchorFreeNms):
    def forward(self, x: Any) -> Any:
        boxes, scores = self.boxes_and_scores(x)
        kept = paddle.vision.ops.nms(boxes[0], 0.5, scores[0, 0])
        return paddle.gather(boxes[0], kept)


class SpatialTransformer(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Linear(3 * 32 * 32, 6)

    def forward(self, x: Any) -> Any:
        theta = self.theta(x.flatten(1)).reshape([-1, 2, 3])
        return F.grid_sample(x, F.affine_grid(theta, paddle.shape(x)))
