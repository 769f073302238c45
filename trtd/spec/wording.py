"""The words for one faulty value: pydantic's error types in plain English, with what to type instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, time
from typing import Any

from pydantic_core import ErrorDetails

from trtd.spec.fields import CAPABILITY_PATTERN, HOOK_PATTERN, NAME_PATTERN
from trtd.spec.section import FAULT, KeyPath
from trtd.spec.values import described, dotted, is_huge, literal, nearest, slug

Words = tuple[str, str]
"""Message and hint."""

_WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a table of keys",
    "model_type": "a table of keys",
}
_BOUNDS = {
    "greater_than": ("gt", "must be more than {}"),
    "greater_than_equal": ("ge", "must be {} or more"),
    "less_than": ("lt", "must be less than {}"),
    "less_than_equal": ("le", "must be {} or less"),
}
_PATTERNS = {
    NAME_PATTERN: 'must be 1 to 63 characters of a-z, 0-9, ".", "_" and "-", the first a letter or a digit',
    CAPABILITY_PATTERN: 'must be a compute capability such as "8.6"',
    HOOK_PATTERN: 'must be "top1", or a Python hook as "FILE.py:FUNCTION"',
}


def words_for(error: ErrorDetails, examples: list[Any]) -> Words:
    """Say what is wrong with one value and what would be right.

    Args:
        error: as pydantic gives it.
        examples: right values of the same key, if there are any.
    """
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    example = f"for example: {dotted(error['loc'][-1:])} = {literal(examples[0])}" if examples else ""
    if kind == FAULT:
        return context["message"], context["hint"]
    if kind == "missing":
        return "missing", example
    if kind in _WANTED:
        return _wrong_type(kind, value, error["loc"], example)
    if kind in _BOUNDS:
        bound, sentence = _BOUNDS[kind]
        return f"{sentence.format(_round(context[bound]))}, got {_number(value)}", ""
    if kind == "literal_error":
        return _not_a_choice(str(context["expected"]), value)
    if kind == "finite_number":
        return f"must be a finite number, got {_number(value)}", ""
    if kind in ("too_short", "too_long"):
        return _wrong_length(kind, context, example)
    if kind == "string_too_short":
        return "must not be empty", example
    if kind == "string_pattern_mismatch":
        return _unlike_pattern(str(context["pattern"]), str(value), example)
    return error["msg"][:1].lower() + error["msg"][1:], example


def _wrong_type(kind: str, value: Any, path: KeyPath, example: str) -> Words:
    if kind in ("int_type", "float_type") and isinstance(value, int) and not isinstance(value, bool):
        return f"is out of range, got {_number(value)}", example
    hint = ""
    if kind in ("int_type", "float_type", "bool_type") and isinstance(value, str):
        hint = _without_quotes(kind, value)
    elif kind == "int_type" and isinstance(value, float) and value.is_integer() and not is_huge(int(value)):
        hint = f"write {int(value)}"
    elif kind == "string_type" and not isinstance(value, (list, dict)) and not is_huge(value):
        text = literal(value) if isinstance(value, bool) else str(value)
        hint = f"put it in quotes: {literal(text)}"
    elif kind == "list_type" and not isinstance(value, (dict, date, time)) and not is_huge(value):
        hint = f"put it in brackets: [{literal(value)}]"
    elif kind in ("dict_type", "model_type"):
        brackets = ", in single brackets" if isinstance(value, list) else ""
        hint = f"write it as a section: [{dotted(path)}]{brackets}"
    return f"must be {_WANTED[kind]}, got {described(value)}", hint or example


def _without_quotes(kind: str, text: str) -> str:
    number = r"[+-]?[0-9]+" if kind == "int_type" else r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?"
    right = text in ("true", "false") if kind == "bool_type" else re.fullmatch(number, text)
    return "remove the quotes" if right else ""


def _not_a_choice(expected: str, value: Any) -> Words:
    choices = re.findall(r"'([^']*)'", expected)
    listed = ", ".join(literal(choice) for choice in choices)
    message = f"must be {'one of ' if len(choices) > 1 else ''}{listed}, got {described(value)}"
    near = nearest(value, choices) if isinstance(value, str) else ""
    return message, f"did you mean {literal(near)}?" if near else ""


def _wrong_length(kind: str, context: Mapping[str, Any], example: str) -> Words:
    number = context["min_length"] if kind == "too_short" else context["max_length"]
    bound = f"at {'least' if kind == 'too_short' else 'most'} {number} value{'' if number == 1 else 's'}"
    return f"must hold {bound}, got {context['actual_length'] or 'none'}", example


def _unlike_pattern(pattern: str, value: str, example: str) -> Words:
    message = f"{_PATTERNS.get(pattern, f'must match {pattern}')}, got {described(value)}"
    return message, f'try "{slug(value)}"' if pattern == NAME_PATTERN else example


def _number(value: Any) -> str:
    return described(value).removeprefix("the number ")


def _round(bound: float) -> str:
    return str(int(bound)) if float(bound).is_integer() else str(bound)
