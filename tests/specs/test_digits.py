"""The digits example: what is committed is what the spec and the documentation promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

DIGITS = Path(__file__).resolve().parents[2] / "specs" / "digits"

# Paddle prints, warns and starts threads on import: it gets a process of its own, and the answer is its last line.
TOP1 = """
import sys
import numpy as np
from paddle import inference

folder = sys.argv[1]
config = inference.Config(f"{folder}/model/inference.json", f"{folder}/model/inference.pdiparams")
config.disable_glog_info()
config.disable_mkldnn()  # oneDNN cannot run an interpolation that comes out of an inference.json (Paddle 3.3)
predictor = inference.create_predictor(config)
images, labels = np.load(f"{folder}/heldout.npy"), np.load(f"{folder}/heldout_labels.npy")
[name] = predictor.get_input_names()
predictor.get_input_handle(name).copy_from_cpu(images.astype(np.float32))
predictor.run()
[name] = predictor.get_output_names()
scores = predictor.get_output_handle(name).copy_to_cpu()
print(name, (scores.argmax(axis=1) == labels).mean())
"""


def test_the_committed_model_still_classifies() -> None:
    """A model, data or label file committed by mistake, or data scaled twice, would show here."""
    run = subprocess.run([sys.executable, "-c", TOP1, str(DIGITS)], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]
    assert float(run.stdout.split()[-1]) >= 0.98


def test_calibration_and_heldout_images_are_disjoint() -> None:
    """An image on both sides would let calibration see what judges it."""
    calibration, heldout = np.load(DIGITS / "calibration.npy"), np.load(DIGITS / "heldout.npy")
    assert not {image.tobytes() for image in calibration} & {image.tobytes() for image in heldout}


def test_data_files_fit_the_model_and_each_other() -> None:
    """Another dtype or shape would be refused at build time only; labels must match the images one by one."""
    calibration, heldout = np.load(DIGITS / "calibration.npy"), np.load(DIGITS / "heldout.npy")
    labels = np.load(DIGITS / "heldout_labels.npy")
    assert {calibration.dtype, heldout.dtype} == {np.dtype(np.uint8)}
    assert calibration.shape[1:] == heldout.shape[1:] == (1, 8, 8)
    assert len(calibration) >= 256
    assert labels.dtype == np.int64
    assert labels.shape == (len(heldout),)
    assert set(labels) == set(range(10))


def test_the_example_stays_small() -> None:
    """The example is cloned and installed with every copy of trtd: 2 MB is its budget."""
    total_bytes = sum(path.stat().st_size for path in DIGITS.rglob("*") if path.is_file())
    assert total_bytes < 2_000_000
