"""``trtd``, whose daemon runs :mod:`benchmarks.soak.builder`."""

from __future__ import annotations

import functools
import sys

from trtd.cli.main import main
from trtd.daemon import parts
from trtd.daemon.children import Children

if __name__ == "__main__":
    vars(parts)["Children"] = functools.partial(Children, module="benchmarks.soak.builder")
    sys.exit(main())
