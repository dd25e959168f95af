"""Words of others stay text: in cards, in reports of every form, in `info` and on stderr."""

import csv
import html.parser
import io
import re

import pytest
from fakes import metadata, seeded_model
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from iqametrics.benchmark.lines import Line
from iqametrics.benchmark.render import render
from iqametrics.benchmark.report import Report
from iqametrics.cli.main import main
from iqametrics.common.markup import html_text, latex, markdown, plain, spreadsheet
from iqametrics.publishing.card import card
from iqametrics.weights.checkpoint import save_checkpoint

ATTACKS = [
    "[here](javascript:alert(1))",
    "![x](http://tracker.example/x.png)",
    "<javascript:alert(1)>",
    "[x]: javascript:alert(1)",
    "[![a](b)](javascript:c)",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "&#106;avascript",
    r"\input{/etc/passwd}",
    r"\write18{rm -rf ~}",
    r"\[a](javascript:b)",
    "x\n\\input{/etc/passwd}",
    "x\r\\input{/etc/passwd}",
    "x\u2028\\input{a}",
    "# Title",
    "- a list",
    "1. a list",
    "1) a list",
    "> quoted",
    "---",
    "===",
    "```\ncode\n```",
    "~~~",
    "`code`",
    "| a | b |",
    "*emphasis* and **strong** and _so_ and __on__",
    "~~struck~~",
    "$x^2$",
    "    code",
    "\x1b[2J\x1b]0;title\x07",
    "a\u202eb",
    "</td></tr></table><script>",
    '" onmouseover="alert(1)',
]
ALLOWED = {"paragraph_open", "paragraph_close", "inline"}
TEXTS = st.text(st.sampled_from(list("ab 1.)(][!<>&#;:*_`~|$\\-+='\"{}\n\t\x1b")), max_size=30)


@pytest.fixture
def reader():
    return MarkdownIt("commonmark").enable(["table", "strikethrough"])


class Tags(html.parser.HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, tuple(name for name, _ in attributes)))

    def handle_data(self, data):
        self.text += data


def assert_only_text(reader, text):
    """Whatever stands there, it is one paragraph of text, and that text."""
    tokens = reader.parse(markdown(text))
    assert {token.type for token in tokens} <= ALLOWED
    inline = [child for token in tokens for child in token.children or []]
    assert {child.type for child in inline} <= {"text", "text_special"}
    assert "".join(child.content for child in inline) == plain(text)


@pytest.mark.parametrize("text", ATTACKS)
def test_markdown(reader, text):
    assert_only_text(reader, text)


@settings(max_examples=400, deadline=None)
@example("_ _")
@example("1.\t")
@given(TEXTS)
def test_any_markdown(text):
    assert_only_text(MarkdownIt("commonmark").enable(["table", "strikethrough"]), text)


@pytest.mark.parametrize("text", ATTACKS)
def test_others(text):
    assert plain(text).isprintable()
    assert Tags(f"<p title='{html_text(text)}'>{html_text(text)}</p>").tags == [("p", ("title",))]
    # Every command that is left is one of those that stand for a sign.
    commands = re.findall(r"\\([a-z]+)", latex(text))
    assert set(commands) <= {"textbackslash", "textasciitilde", "textasciicircum", "pm"}
    assert "\n" not in latex(text)


def test_spreadsheet():
    for text in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"):
        assert spreadsheet(text) == f"'{text.strip()}"
    for value in ("bpclip-nr=x", "", -1.5, None, 3, True):
        assert spreadsheet(value) == value


@pytest.mark.parametrize("text", ATTACKS)
def test_a_card_says_the_same_whatever_the_record_says(reader, text):
    def kinds(words):
        record = metadata(
            "fake-nr",
            tag="mine",
            licence=words,
            sources=[words],
            training={
                "data": [words],
                "images": {words: 3},
                "split": {"by": words, words: words},
                "epoch": words,
                "commit": words,
                "date": words[:10],
                "hardware": {"gpu": words},
                "settings": {words: [words]},
            },
            results={words: {"n": words, "srcc": 0.5}},
        )
        body = card({"format": 1, **record}, sha256="0" * 64, elements=1, repo="org/name").split("---\n", 2)[2]
        tokens = reader.parse(body)
        inline = {child.type for token in tokens for child in token.children or []}
        assert inline <= {"text", "text_special", "softbreak"}
        return [token.type for token in tokens]

    assert kinds(text) == kinds("words")


def report_of(text):
    """A report whose every word is of others."""
    line = Line(row=text, place=text, statistic="srcc", measured=0.5, verdict="", n=1, planned=1, note=text)
    return Report(
        id="bpclip-table1", title=text, paper=text, facts=(text,), lines=(line,), pairs=(), failures=(f"job: {text}",)
    )


def page_of(text):
    """The tags of a report as a page, in order, each with the names of its attributes."""
    return Tags(render(report_of(text), "html", {text: "data:image/png;base64,AA=="})).tags


@pytest.mark.parametrize("text", ATTACKS)
def test_reports(reader, text):
    report = report_of(text)
    tokens = reader.parse(render(report, "md"))
    inline = {child.type for token in tokens for child in token.children or []}
    assert inline <= {"text", "text_special"}
    assert sum(token.type == "table_open" for token in tokens) == 1
    assert sum(token.type == "heading_open" for token in tokens) == 3
    assert page_of(text) == page_of("words")
    for words in render(report, "latex").splitlines():
        assert words.startswith("%") or not re.search(r"\\(input|write)", words)
    row = next(csv.DictReader(io.StringIO(render(report, "csv"))))
    assert row["row"] == spreadsheet(plain(text))


def test_info_and_messages(tmp_path, fake_metrics, capsys):
    attack = "\x1b[2J\x1b]0;owned\x07\rmine"
    record = metadata("fake-nr", licence=attack, training={"data": [attack], attack: attack}, sources=[attack])
    save_checkpoint(tmp_path / "x.safetensors", seeded_model().state_dict(), record)
    name = f"fake-nr={tmp_path / 'x.safetensors'}"
    for form in ("table", "json"):
        assert main(["info", name, "--format", form]) == 0
        assert all(words.isprintable() for words in capsys.readouterr().out.splitlines())
    for command in (["info", f"fake-nr={attack}"], ["info", attack], ["score", attack, "--metric", "fake-nr.tiny"]):
        assert main(command) != 0
        assert capsys.readouterr().err[:-1].isprintable()
