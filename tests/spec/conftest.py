"""Fixtures of the spec's tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trtd.errors import SpecError
from trtd.spec.load import spec_from_text

Faults = Callable[..., list[str]]


@pytest.fixture
def faults() -> Faults:
    """Loads a text as ``det.toml`` and gives its diagnostics as a reader sees them; none if it is valid."""

    def load(text: str, stem: str = "det") -> list[str]:
        try:
            spec_from_text(text, file="det.toml", stem=stem)
        except SpecError as error:
            return [str(found) for found in error.diagnostics]
        return []

    return load
