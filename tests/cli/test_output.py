from __future__ import annotations

import pytest

from edgekit.cli._output import amount, console, plain, short, size, table


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1_234_567, "1.23 MB"), (999_600, "1 MB"), (None, "")]
)
def test_sizes_for_people(count, words):
    assert size(count) == words


@pytest.mark.parametrize(("count", "words"), [(18, "18"), (3908, "3.91 k"), (300_775_552, "301 M"), (1e15, "1e+03 T")])
def test_amounts_for_people(count, words):
    assert amount(count) == words


def test_what_can_not_be_printed_is_shown():
    assert plain("a\x1b[31m\tb\nc") == "a?[31m?b\nc"


def test_long_names_are_cut_in_the_middle():
    assert short("abcdefghij", 10) == "abcdefghij"
    assert short("abcdefghijk", 10) == "abc...hijk"


def test_tables_take_brackets_literally_and_leave_out_nothing(capsys):
    console().print(table(["name", "n"], [["[red]x[/red]", 3], [None, 40]], right=("n",)))
    assert capsys.readouterr().out.splitlines() == ["name           n", "[red]x[/red]   3", "              40"]


def test_a_pipe_gets_wide_tables(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    console().print(table(["name"], [["x" * 150]]))
    assert "x" * 150 in capsys.readouterr().out
