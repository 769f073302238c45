"""Who claims which name, against a plain look at everybody's names."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trtd.daemon.claims import Claims, Name

names = st.frozensets(st.builds(Name, st.sampled_from(["spec", "engine", "kept"]), st.sampled_from("xyz")), max_size=4)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), names), max_size=40))
def test_rivals_are_those_with_a_name_in_common(history: list[tuple[str, frozenset[Name]]]) -> None:
    """A conflict would be missed, or would outlive its cause; nobody would be told that it began or ended."""
    claims = Claims()
    everybody: dict[str, frozenset[Name]] = {}
    for key, new in history:
        before = {other: _rivals(other, everybody) for other in everybody}
        turned = claims.replace(key, new)
        everybody[key] = new
        for other in everybody:
            found = {name: set(keys) for name, keys, _ in claims.rivals(other, most=99)}
            assert found == _rivals(other, everybody)
            assert all(more == (len(found[name]) > 2) for name, _, more in claims.rivals(other, most=2))
            if other != key and other in before:
                begun_or_ended = found.keys() != before[other].keys()
                assert not begun_or_ended or other in turned
                reworded = found != before[other]
                crowd = {k for name in claims.crowded for k in claims.keys(name)}
                assert not reworded or other in turned or other in crowd
            for engine in "xyz":
                held = {Name("engine", engine), Name("kept", engine)}
                wanted = any(held & theirs for k, theirs in everybody.items() if k != other)
                assert claims.is_wanted(engine, other) == wanted


def _rivals(key: str, everybody: dict[str, frozenset[Name]]) -> dict[Name, set[str]]:
    found = {
        name: {other for other, theirs in everybody.items() if other != key and name in theirs}
        for name in everybody[key]
        if name.kind != "kept"
    }
    return {name: others for name, others in found.items() if others}
