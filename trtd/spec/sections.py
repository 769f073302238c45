"""The sections of a spec by their path."""

from __future__ import annotations

from trtd.spec.schema import Spec
from trtd.spec.section import KeyPath, Section
from trtd.spec.section_tree import ANY_NAME, SectionTree

__all__ = ["ANY_NAME", "SECTIONS", "SPEC"]

SPEC = SectionTree(Spec)
SECTIONS: dict[KeyPath, type[Section]] = SPEC.sections
