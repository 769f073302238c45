"""Saves a small network with this Paddle, with an input and what the network makes of it before it is saved."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import paddle

paddle.seed(0)
folder = Path(sys.argv[1])
network = paddle.nn.Sequential(
    paddle.nn.Conv2D(1, 8, 3, padding=1),
    paddle.nn.ReLU(),
    paddle.nn.MaxPool2D(2),
    paddle.nn.Conv2D(8, 8, 3, padding=1),
    paddle.nn.ReLU(),
    paddle.nn.Flatten(),
    paddle.nn.Linear(8 * 4 * 4, 10),
)
network.eval()
image = np.random.default_rng(0).random((3, 1, 8, 8), np.float32)
spec = paddle.static.InputSpec([None, 1, 8, 8], "float32", name="image")
paddle.jit.save(network, str(folder / "model"), input_spec=[spec])
np.savez(folder / "expected.npz", image=image, scores=network(paddle.to_tensor(image)).numpy())
