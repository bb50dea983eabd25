from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from edgekit.core.errors import DataError
from edgekit.data.text import Text


def rows(tmp_path: Path, name: str, content: str | bytes, **options: object) -> list[tuple[dict[str, object], object]]:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    reader = Text(path=name, **options)  # type: ignore[arg-type]
    count = reader.count(tmp_path)
    return [(dict(r.values), r.label) for r in reader.stream(tmp_path, range(count))]


def test_tsv_is_not_quoted(tmp_path: Path) -> None:
    found = rows(tmp_path, "a.tsv", 'a "good film\t1\n\nbad\t0\n', text=0, label=1)
    assert found == [({"text": 'a "good film'}, "1"), ({"text": "bad"}, "0")]


def test_csv_is_quoted_and_may_hold_line_breaks(tmp_path: Path) -> None:
    found = rows(tmp_path, "a.csv", '"3","Title","one, ""two""\nthree"\n"1","T","x"\n', text=(1, 2), label=0, join=": ")
    assert found == [({"text": 'Title: one, "two"\nthree'}, "3"), ({"text": "T: x"}, "1")]


def test_columns_by_name_need_a_header(tmp_path: Path) -> None:
    content = "id,premise,hypothesis,label,genre\n7,it rains,it is wet,yes,talk\n"
    options = {"text": "premise", "pair": "hypothesis", "label": "label", "metadata": ("genre",)}
    assert rows(tmp_path, "a.csv", content, header=True, **options) == [({"text": "it rains", "pair": "it is wet"}, "yes")]
    assert next(iter(Text(path="a.csv", header=True, **options).stream(tmp_path, [0]))).metadata == {"genre": "talk"}  # type: ignore[arg-type]
    with pytest.raises(DataError, match="names need 'header: true'"):
        rows(tmp_path, "a.csv", content, **options)


def test_jsonl(tmp_path: Path) -> None:
    assert rows(tmp_path, "a.jsonl", '{"text": "é", "y": 2}\n\n{"text": "b", "y": 0}\n', text="text", label="y") == [
        ({"text": "é"}, 2),
        ({"text": "b"}, 0),
    ]


def test_lines_that_follow_a_pattern(tmp_path: Path) -> None:
    found = rows(
        tmp_path, "a.txt", "NUM:date When ?\r\nLOC:city Where ?\n", format="lines", pattern=r"(?P<y>\w+):\S+ (?P<q>.*)", text="q", label="y"
    )
    assert found == [({"text": "When ?"}, "NUM"), ({"text": "Where ?"}, "LOC")]


def test_a_byte_order_mark_and_other_encodings(tmp_path: Path) -> None:
    assert rows(tmp_path, "a.tsv", b"\xef\xbb\xbfhello\n", text=0) == [({"text": "hello"}, None)]
    assert rows(tmp_path, "b.tsv", b"caf\xe9\n", text=0, encoding="latin-1") == [({"text": "café"}, None)]


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.tsv", "a\t1\nb\n", {"text": 0}, "line 2: 1 cells where the first row has 2"),
        ("a.csv", 'a,1\n"b"x,0\n', {"text": 0}, "line 2: "),
        ("a.csv", 'a,1\n"b,0\n', {"text": 0}, "line 2: unexpected end of data"),
        ("a.tsv", "a\t1\n", {"text": 2}, "line 1: there is no column 2"),
        ("a.csv", "text,y\na,1\n", {"text": "txt", "header": True}, "line 2: there is no column 'txt'.*did you mean 'text'"),
        ("a.jsonl", '{"t": "a"}\n{"t": \n', {"text": "t"}, "line 2 is not JSON"),
        ("a.jsonl", '["a"]\n', {"text": 0}, "line 1 is list, not an object"),
        ("a.jsonl", '{"t": 5}\n', {"text": "t"}, "line 1: column 't' is int, not text"),
        ("a.txt", "x\n", {"text": 0}, "does not tell the format"),
        ("a.txt", "A b\nwrong\n", {"text": "t", "format": "lines", "pattern": r"[A-Z] (?P<t>.*)"}, "line 2 does not match"),
        ("a.tsv", b"ok\n\xff\xfe\n", {"text": 0}, "bytes that are not utf-8"),
        ("a.tsv", b"ok\n", {"text": 0, "encoding": "martian"}, "can't be read"),
    ],
)
def test_malformed_files_name_the_line(tmp_path: Path, name: str, content: str | bytes, options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows(tmp_path, name, content, **options)


@pytest.mark.parametrize(
    "options", [{"pattern": "(?P<a>.*)"}, {"format": "lines"}, {"format": "lines", "pattern": "("}, {"format": "lines", "pattern": ".*"}]
)
def test_wrong_patterns_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"pattern|expression|named groups"):
        Text(path="a", text=0, **options)  # type: ignore[arg-type]


def test_texts_that_stand_twice_count_once_where_that_is_asked(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("one\t0\ntwo  words\t1\none\t1\ntwo words\t0\nthree\t1\n", encoding="utf-8")
    reader = Text(path="a.tsv", text=(0,), label=1, unique=True)
    assert reader.count(tmp_path) == 3
    assert [(r.values["text"], r.label) for r in reader.stream(tmp_path, [0, 1, 2])] == [("one", "0"), ("two  words", "1"), ("three", "1")]
    assert [r.values["text"] for r in reader.stream(tmp_path, [2])] == ["three"]
    assert Text(path="a.tsv", text=(0,), label=1).count(tmp_path) == 5
