"""trtd: TOML specs in, low-precision inference engines out that are proved against FP32.

import trtd

report = trtd.build("specs/digits.toml", "registry")     # or trtd.build_all for a list of precisions
with trtd.load("registry", "digits-int8") as engine:
    scores = engine.run({"x": images})["scores"]
"""

from trtd import errors
from trtd.api import build, build_all, load

__all__ = ["build", "build_all", "errors", "load"]
