"""From a file to a :class:`~trtd.spec.schema.Spec`, or to a list of everything that is wrong with it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pydantic import ValidationError

from trtd.errors import Diagnostic, SpecError
from trtd.spec.fields import NAME_PATTERN
from trtd.spec.schema import Spec
from trtd.spec.toml_file import Kind, parse, read_text, stop
from trtd.spec.values import literal, printable, slug

LIMIT_BYTES = 1 << 20
"""Largest spec; a thousand times what one needs."""

_SPEC = Kind("spec", "give the path of a spec, e.g. specs/NAME.toml", LIMIT_BYTES)
_SHORTEST = 'the shortest spec: model.path = "../models/NAME" and calibration.data = "../data/*.png"'


def load_spec(path: Path) -> Spec:
    """Read a spec. Its name, if it gives none, is the file's stem.

    Args:
        path: a regular file of at most 1 MiB, UTF-8 TOML. Nothing else is opened, so nothing blocks.

    Raises:
        SpecError: with a diagnostic for each fault that was found.
    """
    return spec_from_text(read_text(path, _SPEC), file=printable(os.fspath(path)), stem=path.stem)


def spec_from_text(text: str, *, file: str, stem: str) -> Spec:
    """Read a spec from TOML text.

    Args:
        text: the TOML.
        file: the name that diagnostics give to the text.
        stem: the spec's name, if it gives none.

    Raises:
        SpecError: with a diagnostic for each fault that was found.
    """
    document = parse(text, file)
    if not document:
        raise stop(file, "says nothing: it is empty, or all comments", hint=_SHORTEST)
    named = {"name": stem} | document
    try:
        return Spec.model_validate(named)
    except ValidationError as error:
        from trtd.spec.diagnose import diagnose
        from trtd.spec.sections import SPEC

        diagnostics = diagnose(error, named, text, file, SPEC)
    if "name" not in document and not re.fullmatch(NAME_PATTERN, stem):
        diagnostics = [_unfit_stem(file, stem) if found.key == "name" else found for found in diagnostics]
    raise SpecError(diagnostics)


def _unfit_stem(file: str, stem: str) -> Diagnostic:
    message = f"missing, and the file's name {literal(stem)} cannot name an engine"
    return Diagnostic(file, None, "name", message, f'add name = "{slug(stem)}", or rename the file')
