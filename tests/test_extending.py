"""docs/extending.md quotes the example package whole: every line of every file, and nothing else."""

import re

import pytest
from places import ROOT

PLUGIN = ROOT / "tests" / "plugin"
QUOTED = re.compile(r"^\[(?P<name>[^\]\n]+)\]\(\.\./tests/plugin/(?P=name)\)\n```\w+\n(?P<text>.*?)\n```$", re.M | re.S)


def quotes(page):
    """The lines that a page quotes of each file, without empty ones, which part the quotes."""
    found = {}
    for match in QUOTED.finditer(page):
        found.setdefault(match["name"], []).extend(line for line in match["text"].splitlines() if line)
    return found


def files():
    kinds = (".py", ".toml", ".csv")
    return {
        path.relative_to(PLUGIN).as_posix(): [line for line in path.read_text("utf-8").splitlines() if line]
        for path in PLUGIN.rglob("*.*")
        if path.suffix in kinds and "build" not in path.relative_to(PLUGIN).parts
    }


def test_the_page_quotes_every_file_as_it_is():
    assert quotes((ROOT / "docs" / "extending.md").read_text("utf-8")) == files()


@pytest.mark.parametrize(("written", "other"), [("scales: int = 3", "scales: int = 4"), ("[build-system]\n", "")])
def test_a_page_that_differs_is_found(written, other):
    page = (ROOT / "docs" / "extending.md").read_text("utf-8")
    assert written in page
    assert quotes(page.replace(written, other)) != files()
