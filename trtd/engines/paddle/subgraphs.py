"""How many parts of a model Paddle hands to TensorRT: it tells its log, and nobody else."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

# Paddle 2.6.2 and 3.3.1, tensorrt_subgraph_pass.cc, at the level INFO.
FOUND = re.compile(r"detect a sub-graph with (\d+) nodes")


@dataclass
class Subgraphs:
    """Attributes: ``nodes``: of each subgraph that TensorRT gets, known once the context has ended."""

    nodes: list[int] = field(default_factory=list)


@contextmanager
def counted() -> Iterator[Subgraphs]:
    """Count the subgraphs that are found inside, in what the process writes to standard error meanwhile.

    That is a stage's log, and is left where it is: a crash of Paddle's must find it there.
    """
    found = Subgraphs()
    with ExitStack() as stack:
        if not stat.S_ISREG(os.fstat(2).st_mode):
            stack.enter_context(_written_to_a_file())
        start = os.fstat(2).st_size
        try:
            yield found
        finally:
            with open("/proc/self/fd/2", "rb") as log:  # another view of the same file: this one may only append
                log.seek(start)
                text = log.read().decode(errors="replace")
            found.nodes = [int(nodes) for nodes in FOUND.findall(text)]


@contextmanager
def _written_to_a_file() -> Iterator[None]:
    """Where standard error is a terminal or a pipe: what is written appears afterwards, all at once."""
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            log.seek(0)
            os.write(stderr, log.read())
            os.close(stderr)
