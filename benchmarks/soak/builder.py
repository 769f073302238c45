"""The build process with the stand-in in place of the pipeline; the soak's daemons run it instead of the real one."""

from __future__ import annotations

from benchmarks.soak import quick
from trtd.daemon.builder import main
from trtd.pipeline import build as pipeline
from trtd.pipeline.child import leave

if __name__ == "__main__":
    pipeline.prepare = quick.prepare  # type: ignore[assignment]
    pipeline.build_prepared = quick.build_prepared
    leave(main())
