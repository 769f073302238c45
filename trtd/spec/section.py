"""The base of every section of a spec, and the rules that hold between the keys of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError
from typing_extensions import Self

KeyPath = tuple[str | int, ...]
S = TypeVar("S", bound="Section")

FAULT = "trtd_fault"
"""Error type of a single value that we refuse in our own words."""
RELATION = "trtd_relation"
"""Error type of values that are fine alone and wrong together."""


@dataclass(frozen=True)
class Fault:
    """Keys that contradict each other: the key to name, relative to its section, and what to say."""

    key: KeyPath
    message: str
    hint: str = ""


def refuse(message: str, hint: str = "") -> PydanticCustomError:
    """An error for a field validator to raise; message and hint reach the reader as they are."""
    return PydanticCustomError(FAULT, "{message}", {"message": message, "hint": hint})


@dataclass(frozen=True)
class Relation:
    """A rule over several keys of one section.

    Attributes:
        reads: the keys that the rule looks at. While one of them is at fault itself, the rule has nothing to say.
        find: yields a fault for each way in which the rule is broken.
    """

    reads: tuple[KeyPath, ...]
    find: Callable[[Any], Iterator[Fault]]


SomeSection = TypeVar("SomeSection")


def relation(*reads: str) -> Callable[[Callable[[SomeSection], Iterator[Fault]]], Relation]:
    """Make a generator of faults into a :class:`Relation` that reads these dotted keys."""
    return lambda find: Relation(tuple(tuple(key.split(".")) for key in reads), find)


class Section(BaseModel):
    """One table of a spec: immutable, no unknown keys, no conversions between types, no NaN or infinity.

    Raises:
        pydantic.ValidationError: a value does not fit its key, or values do not fit each other.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())

    relations: ClassVar[tuple[Relation, ...]] = ()

    @model_validator(mode="after")
    def _relations_hold(self) -> Self:
        faults = [fault for rule in self.relations for fault in rule.find(self)]
        if faults:
            raise ValidationError.from_exception_data(type(self).__name__, [_details(fault) for fault in faults])
        return self


def _details(fault: Fault) -> InitErrorDetails:
    words = {"message": fault.message, "hint": fault.hint}
    return InitErrorDetails(type=PydanticCustomError(RELATION, "{message}", words), loc=fault.key, input=None)


def without(section: S, keys: Iterable[str]) -> S:
    """The section with these keys at their defaults."""
    fields = type(section).model_fields
    return section.model_copy(update={key: fields[key].default for key in keys})


def changed(section: Section) -> list[str]:
    """Keys with another value than the default: what was written, and counts."""
    return [key for key, field in type(section).model_fields.items() if getattr(section, key) != field.default]
