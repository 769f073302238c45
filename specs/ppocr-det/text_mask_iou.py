"""A task metric for text detectors that needs no labels: how well the engine's text mask covers the FP32 reference's.

The detector's output is a map of text probabilities; what it is used for is the mask of pixels above a threshold.
"""

from __future__ import annotations

import numpy as np

THRESHOLD = 0.3  # PaddleOCR's det_db_thresh


def metric(outputs: list[dict[str, np.ndarray]], reference: list[dict[str, np.ndarray]]) -> float:
    """Intersection over union (0..1) of the two masks, over all pages together.

    Both lists hold one dict of output arrays a batch of pages, in the same order. NaN, which no gate lets pass, if
    neither side found any text: then nothing was compared.
    """
    both = either = 0
    for batch, expected in zip(outputs, reference, strict=True):
        for name, probabilities in expected.items():
            found, wanted = batch[name] > THRESHOLD, probabilities > THRESHOLD
            both += int(np.count_nonzero(found & wanted))
            either += int(np.count_nonzero(found | wanted))
    return both / either if either else float("nan")
