"""Keys to lines, for every way that TOML has to write a key."""

from __future__ import annotations

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from trtd.spec.lines import key_lines, line_of
from trtd.spec.section import KeyPath

TEXT = '''\
# [not.a.table]
name = "x" # name = "y"

[verify.gates]
cosine = 0.9
outputs."a.b".cosine = 1 # dotted, quoted
outputs . 'c d' . sqnr_db = 2

  [ "calibration" ]
data = """
[model]
samples = 3 \\"""
"""""
samples = [ # [
    1, "]",
    2,
]
preprocess = { resize = [1, 2], fit = "[crop" }
method = \'\'\'
"""
batch = 1\'\'\'\'
percentile = '"'

[[layers]]
name = "a"
[layers.deep]
key = 1
[[layers]]
[[layers.deep]]
key = 2
[[layers.deep]]

key = 3
[verify]
"\\u0064ata" = ""
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("name",), 2),
        (("verify", "gates"), 4),
        (("verify", "gates", "cosine"), 5),
        (("verify", "gates", "outputs"), 6),
        (("verify", "gates", "outputs", "a.b", "cosine"), 6),
        (("verify", "gates", "outputs", "c d", "sqnr_db"), 7),
        (("calibration",), 9),
        (("calibration", "data"), 10),
        (("calibration", "samples"), 14),
        (("calibration", "samples", 1), 14),
        (("calibration", "preprocess", "fit"), 18),
        (("calibration", "method"), 19),
        (("calibration", "percentile"), 22),
        (("calibration", "batch"), 9),
        (("layers",), 24),
        (("layers", 0, "name"), 25),
        (("layers", 0, "deep", "key"), 27),
        (("layers", 1), 28),
        (("layers", 1, "deep"), 29),
        (("layers", 1, "deep", 0, "key"), 30),
        (("layers", 1, "deep", 1, "key"), 33),
        (("verify",), 34),
        (("verify", "data"), 35),
        (("verify", "gates", "nothing", "here"), 4),
        (("nothing",), None),
        ((), None),
    ],
)
def test_every_way_to_write_a_key(path: KeyPath, line: int | None) -> None:
    """A diagnostic at the wrong line is worse than one without."""
    assert tomli.loads(TEXT)
    assert line_of(key_lines(TEXT), path) == line
    assert line_of(key_lines(TEXT.replace("\n", "\r\n")), path) == line


def test_one_enormous_key_costs_little() -> None:
    """Every prefix of a path of thousands of parts would fill the memory."""
    assert len(key_lines(".".join("a" * 5000) + " = 1")) < 50


def quoted(key: str, style: str) -> str:
    bare = bool(key) and all(c.isascii() and (c.isalnum() or c in "-_") for c in key)
    if style == "bare" and bare:
        return key
    if style == "literal" and "'" not in key:
        return f"'{key}'"
    return '"' + "".join(f"\\u{ord(c):04x}" if c in '"\\' or not c.isprintable() else c for c in key) + '"'


parts = st.text(st.characters(max_codepoint=0x2FFF, exclude_categories=["Cs", "Cc"]), max_size=5)
styles = st.sampled_from(["bare", "basic", "literal"])
dots = st.sampled_from([".", " . ", ".\t"])
VALUES = [
    "1",
    '"a # b = c"',
    "'[x]'",
    '"""\n[x]\ny = 1\n"""',
    "'''\n# \"\"\"\nz = 2'''''",
    '"\\"]"',
    "[\n1, # ]\n[2],\n]",
]
VALUES += ['{ a = "}", b = [1, 2] }', '["""\n]\n""", \'#\',\n]', '"""\\"""\n"""', "[]", "1979-05-27 07:32:00"]
fillers = st.sampled_from(["", "\n", "# k = 1\n", "  \n\t# [t]\n"])
tails = st.sampled_from(["\n", " # end [\n", "\r\n"])


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, dict[KeyPath, int]]:
    """A TOML text, and the line of every key that it states."""
    text, expected = "", {}
    top = iter(draw(st.lists(parts, min_size=4, max_size=4, unique=True)))

    def written(path: list[str]) -> str:
        return draw(dots).join(quoted(part, draw(styles)) for part in path)

    def keys(base: KeyPath) -> None:
        nonlocal text
        for first in draw(st.lists(parts, max_size=3, unique=True)):
            path = [first, *draw(st.lists(parts, max_size=2))]
            text += draw(fillers)
            expected[(*base, *path)] = text.count("\n") + 1
            text += f"{written(path)} = {draw(st.sampled_from(VALUES))}{draw(tails)}"

    for name in top:
        path = [name, *draw(st.lists(parts, max_size=2))]
        for index in range(draw(st.integers(1, 2)) if (is_array := draw(st.booleans())) else 1):
            text += draw(fillers)
            base: KeyPath = (*path, index) if is_array else tuple(path)
            expected[base] = text.count("\n") + 1
            opening, closing = ("[[", "]]") if is_array else ("[", "]")
            text += f"{opening} {written(path)} {closing}{draw(tails)}"
            keys(base)
    return text, expected


@settings(max_examples=300, deadline=None)
@given(texts())
def test_lines_of_random_tables(case: tuple[str, dict[KeyPath, int]]) -> None:
    """What the walk takes for a key must be what tomli takes for one, whatever strings and comments look like."""
    text, expected = case
    document = tomli.loads(text)
    lines = key_lines(text)
    for path, line in expected.items():
        assert lines[path] == line
        value = document
        for key in path:
            value = value[key]  # type: ignore[index]
    for path in lines:
        value = document
        for key in path:
            value = value[key]  # type: ignore[index]
