"""How many parts of a model Paddle hands to TensorRT: it tells its log, and nobody else."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

# Paddle 2.6.2 and 3.3.1, tensorrt_subgraph_pass.cc, at the level INFO.
FOUND = re.compile(r"detect a sub-graph with (\d+) nodes")


@dataclass
class Subgraphs:
    """Attributes: ``nodes``: of each subgraph that TensorRT gets, known once the context has ended."""

    nodes: list[int] = field(default_factory=list)


@contextmanager
def counted() -> Iterator[Subgraphs]:
    """Count the subgraphs that are found inside. What Paddle logs meanwhile appears afterwards, all at once."""
    found = Subgraphs()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield found
        finally:
            os.dup2(stderr, 2)
            log.seek(0)
            text = log.read()
            os.write(stderr, text)
            os.close(stderr)
            found.nodes = [int(nodes) for nodes in FOUND.findall(text.decode(errors="replace"))]
