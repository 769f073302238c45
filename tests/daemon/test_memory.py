"""What is remembered of a subject, written and read again."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from trtd.daemon.memory import Memory, Saved, read, write

saved = st.builds(Saved, st.from_type(Memory), st.text())


@given(saved)
def test_what_is_written_is_read(record: Saved) -> None:
    """Something would be lost over a restart: a pause, a count, figures that are infinite."""
    text = write(record)
    found = read(text)
    assert found is not None
    assert write(found) == text  # NaN equals nothing, and its text does
    assert json.loads(text)["memory"]["paused"] == record.memory.paused


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_what_was_not_written_is_forgotten(data: object) -> None:
    """A torn or foreign entry of the state database would end the daemon."""
    assert read(json.dumps({"memory": data})) is None or isinstance(data, dict)
    assert read(json.dumps(data)) is None
    assert read(json.dumps(data)[:-1] + "\x00") is None


def test_texts_that_are_not_unicode_are_written_all_the_same() -> None:
    """The path of a log under a folder whose name is not UTF-8 would crash the daemon."""
    found = read(write(Saved(Memory(log="/logs/\udcff.log"))))
    assert found is not None
    assert found.memory.log == "/logs/?.log"
