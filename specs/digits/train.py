"""Train the digits example: a small convolutional network on scikit-learn's 8x8 handwritten digits.

Run it again only to change the example; its results are committed next to it::

    python specs/digits/train.py          # about a minute on two cores; needs paddlepaddle and scikit-learn

It writes
    model/inference.json, model/inference.pdiparams   the network, in Paddle 3's format
    calibration.npy                                   512 training images, uint8, shape (512, 1, 8, 8)
    heldout.npy, heldout_labels.npy                   540 test images of the same shape, and their classes, int64

The network takes raw pixel values (0..16) and scales and enlarges them itself, so the data files stay tiny and
nobody can feed it wrongly scaled images. It returns class probabilities.

Data: "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI Machine Learning Repository
(CC BY 4.0), as shipped with scikit-learn.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import paddle
from paddle import nn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HERE = Path(__file__).resolve().parent
SEED = 20
TEST_SHARE = 0.3
CALIBRATION_ITEMS = 512
BATCH = 64
LEAST_TOP1 = 0.98


def conv(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch normalization, ReLU."""
    return nn.Sequential(
        nn.Conv2D(channels_in, channels_out, 3, stride=stride, padding=1, bias_attr=False),
        nn.BatchNorm2D(channels_out),
        nn.ReLU(),
    )


class DigitNet(nn.Layer):
    """Images (N, 1, 8, 8) of values 0..16 to class probabilities (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv(1, 32),  # 32 x 32
            conv(32, 64, stride=2),  # 16 x 16
            conv(64, 64),
            conv(64, 128, stride=2),  # 8 x 8
        )
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.classify = nn.Linear(128, 10)

    def logits(self, images: paddle.Tensor) -> paddle.Tensor:
        enlarged = nn.functional.interpolate(images / 16.0, size=[32, 32], mode="bilinear")
        return self.classify(self.pool(self.features(enlarged)).flatten(1))

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return nn.functional.softmax(self.logits(images))


def load_split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images and labels, test images and labels; each class has the same share on both sides."""
    digits = load_digits()
    images = digits.images.astype(np.uint8)[:, np.newaxis]
    labels = digits.target.astype(np.int64)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=TEST_SHARE, random_state=SEED, stratify=labels
    )
    return train_x, train_y, test_x, test_y


def train(images: np.ndarray, labels: np.ndarray, epochs: int) -> DigitNet:
    paddle.seed(SEED)
    random = np.random.default_rng(SEED)
    net = DigitNet()
    batches = len(images) // BATCH
    rate = paddle.optimizer.lr.CosineAnnealingDecay(2e-3, T_max=epochs * batches)
    adam = paddle.optimizer.AdamW(rate, parameters=net.parameters(), weight_decay=1e-3)
    for epoch in range(epochs):
        net.train()
        total = 0.0
        for chosen in np.array_split(random.permutation(len(images)), batches):
            batch = paddle.to_tensor(images[chosen].astype(np.float32))
            loss = nn.functional.cross_entropy(net.logits(batch), paddle.to_tensor(labels[chosen]))
            loss.backward()
            adam.step()
            adam.clear_grad()
            rate.step()
            total += float(loss)
        print(f"epoch {epoch + 1:2d}/{epochs}  loss {total / batches:.4f}", flush=True)
    net.eval()
    return net


def top1(net: DigitNet, images: np.ndarray, labels: np.ndarray) -> float:
    scores = net(paddle.to_tensor(images.astype(np.float32))).numpy()
    return float((scores.argmax(1) == labels).mean())


def export(net: DigitNet, folder: Path) -> None:
    """Write the network as ``inference.json`` and ``inference.pdiparams``, batch size open."""
    spec = [paddle.static.InputSpec([None, 1, 8, 8], "float32", name="image")]
    with tempfile.TemporaryDirectory() as scratch:
        paddle.jit.save(net, str(Path(scratch) / "inference"), input_spec=spec)
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("inference.json", "inference.pdiparams"):
            shutil.copyfile(Path(scratch) / name, folder / name)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the digits example and write its model and data.")
    parser.add_argument(
        "--out", type=Path, default=HERE, metavar="DIR", help="folder to write (default: this script's)"
    )
    parser.add_argument("--epochs", type=int, default=15)
    options = parser.parse_args()

    started = time.monotonic()
    train_x, train_y, test_x, test_y = load_split()
    net = train(train_x, train_y, options.epochs)
    accuracy = top1(net, test_x, test_y)
    print(f"top-1 on {len(test_x)} test images: {accuracy:.4f} after {time.monotonic() - started:.0f} s")
    if accuracy < LEAST_TOP1:
        raise SystemExit(f"top-1 {accuracy:.4f} is below {LEAST_TOP1}: nothing written; train longer (--epochs)")
    export(net, options.out / "model")
    np.save(options.out / "calibration.npy", train_x[:CALIBRATION_ITEMS])
    np.save(options.out / "heldout.npy", test_x)
    np.save(options.out / "heldout_labels.npy", test_y)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
