"""The base of every record that trtd writes to disk or hands to another process."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    """An immutable record with a JSON form. Unknown keys are refused on reading.

    NaN and infinity are kept as the JSON numbers ``NaN`` and ``Infinity`` would be: as strings, so that
    the file stays standard JSON and a NaN metric survives the round trip.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        ser_json_inf_nan="strings",
        protected_namespaces=(),
        defer_build=True,  # most commands use few of the records: building all would cost them 50 ms
    )
