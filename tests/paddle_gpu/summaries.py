"""Run by test_config.py: what Paddle says in ``summary()`` of every case with TensorRT, as JSON.

``libnvinfer.so`` is a stand-in that knows nothing but its version; Paddle opens it when it is first asked for.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.paddle_gpu.cases import TENSORRT
from trtd.engines.paddle.config import make_config
from trtd.engines.paddle.predictor import paddle_inference

STAND_IN = "int getInferLibVersion(void) { return 8503; }"

stand_in, folder = Path(sys.argv[1]), Path(sys.argv[2])
compiler = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(stand_in / "libnvinfer.so")]
subprocess.run(compiler, input=STAND_IN, text=True, check=True)
inference = paddle_inference()
print(json.dumps({case: make_config(inference, asked, folder).summary() for case, asked in TENSORRT.items()}))
