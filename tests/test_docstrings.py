"""One docstring dialect: Google's sections, imperative summaries, sentences, Markdown marks."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

ROOMS = ("iqametrics", "weights", "benchmarks", "docs")

SECTIONS = ("Args:", "Attributes:", "Returns:", "Yields:", "Raises:")
ENTRY = re.compile(r"(?P<name>\*{0,2}[\w.]+(, \*{0,2}\w+)*): (?P<text>.*)", re.DOTALL)
# Names that are written small at the start of a sentence too: Greek letters, functions, projects.
SMALL = re.compile(r"(tau|gamma|eps|sigmoid|phi|piq|pyiqa|timm|torch|torchvision|open_clip)\b|[a-z]?\W|\w*[_\d(]")
NO_VERB = re.compile(r"(The|A|An|What|Whether|Which|Where|How|All|Each|Every|One|Its?|This|That|These|Equation)\b")
THIRD_PERSON = re.compile(r"(?!Pass|Process|Express|Guess|Address|Compress|Cross|Miss|Press)[A-Z][a-z]+s\b")
RST = re.compile(r"``|^\s*:(param|returns?|rtype|raises)\b|:(class|func|meth|mod|attr):`|^\s*\.\. \w+::", re.MULTILINE)

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def problems_of(source: str) -> list[str]:
    """Return what is against the dialect, one line each."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Documented) and (text := ast.get_docstring(node)):
            name = getattr(node, "name", "module")
            found += [f"{name}: {problem}" for problem in (*_summary(node, text), *_sections(text))]
    return found


def _summary(node: Documented, text: str) -> Iterator[str]:
    summary = " ".join(text.split("\n\n")[0].split())
    if not summary.endswith((".", ":")):
        yield f"the summary has no full stop: {summary!r}"
    if RST.search(text):
        yield "RST marks; Markdown is written here"
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    if not re.match("[A-Z][a-z]", summary):
        yield f"the summary does not begin with a capital letter: {summary!r}"
    is_property = any(ast.unparse(mark).endswith("property") for mark in node.decorator_list)
    if not is_property and (NO_VERB.match(summary) or THIRD_PERSON.match(summary)):
        yield f"the summary is not in the imperative mood: {summary!r}"


def _sections(text: str) -> Iterator[str]:
    section, body = "", []
    for line in [*text.split("\n"), "end"]:
        if line and not line.startswith(" "):
            yield from (f"{section} {problem}" for entry in _entries(section, body) for problem in _entry(*entry))
            section, body = (line, []) if line in SECTIONS else ("", [])
        elif section:
            body.append(line)


def _entries(section: str, body: list[str]) -> Iterator[tuple[str, str, str]]:
    """Yield the section, the name (empty under Returns) and the text of each entry."""
    text = "\n".join(line[4:] for line in body).strip()
    if section in ("Returns:", "Yields:"):
        yield section, "", text
        return
    for entry in filter(None, re.split(r"\n(?=\S)", text)):
        match = ENTRY.match(entry)
        yield (section, match["name"], match["text"]) if match else (section, "", entry)


def _entry(section: str, name: str, text: str) -> Iterator[str]:
    text = text.strip()
    if section in ("Returns:", "Yields:"):
        text = text.split("\n\n")[0]
    elif not name:
        yield f"{text!r} is not of the form `name: Text.`"
    if section == "Raises:" and not text.startswith("If "):
        yield f"{name}: {text!r} does not begin with `If`"
    if text[:1].islower() and not SMALL.match(text):
        yield f"{name}: {text!r} does not begin with a capital letter"
    if not text.endswith("."):
        yield f"{name}: {text!r} has no full stop"


@pytest.mark.parametrize("room", ROOMS)
def test_docstrings_of_a_room_are_in_the_one_dialect(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files, f"{room} is gone; take it off the list"
    problems = [
        f"{file.relative_to(ROOT)}: {problem}" for file in files for problem in problems_of(file.read_text("utf-8"))
    ]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("Return the width.", ""),
        ("Return the width.\n\n    Raises:\n        ValueError: If it is 0.\n    ", ""),
        ("Return the width.\n\n    Returns:\n        (N, C), in [0, 1].\n    ", ""),
        ("Return the width", "full stop"),
        ("return the width.", "capital"),
        ("The width.", "imperative"),
        ("Returns the width.", "imperative"),
        ("Return ``width``.", "RST"),
        ("Return the width.\n\n    Raises:\n        ValueError: if it is 0.\n    ", "`If`"),
        ("Return the width.\n\n    Raises:\n        ValueError: when it is 0.\n    ", "`If`"),
        ("Return the width.\n\n    Args:\n        of: the image.\n    ", "capital"),
        ("Return the width.\n\n    Args:\n        of: The image\n    ", "full stop"),
        ("Return the width.\n\n    Args:\n        the image\n    ", "form"),
    ],
)
def test_the_check_tells_right_from_wrong(docstring: str, expected: str) -> None:
    problems = problems_of(f'def width(of):\n    """{docstring}"""\n')
    assert bool(problems) == bool(expected)
    assert any(expected in problem for problem in problems) or not expected
