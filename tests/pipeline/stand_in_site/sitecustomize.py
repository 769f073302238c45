"""Found by Python at start where this folder is on PYTHONPATH: puts a stand-in in the place of one stage.

``STAND_IN="convert=stand_in_stages:read_null"`` makes every worker run that function as its convert stage.
"""

import os

from trtd.pipeline.stages import STAGES

if "STAND_IN" in os.environ:
    stage, _, call = os.environ["STAND_IN"].partition("=")
    STAGES[stage] = call
