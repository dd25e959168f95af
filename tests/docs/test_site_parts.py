"""What the documentation's site does on top of Sphinx, piece by piece."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
from places import ROOT

pytest.importorskip("furo", reason="the extra docs is not installed; it needs Python 3.11")


def part(name: str) -> ModuleType:
    """Import a module of the site; its folder is no package of ours."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        return importlib.import_module(f"site_parts.{name}")
    finally:
        sys.path.remove(str(ROOT / "docs"))


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("Return `x` of a*b.", r"Return \ :perhaps:`x`\  of a\*b."),
        ("Scores, (N,), |a| and x_ here.", r"Scores, (N,), \|a\| and x\_ here."),
        ("snake_case stays.", "snake_case stays."),
        ("Do it:\n\n    iqametrics score *.png\n\nDone.", "Do it:\n\n::\n\n    iqametrics score *.png\n\nDone."),
        ("Give.\n\nArgs:\n    x: A *.\n\n        More `y`.", None),
        ("Give.\n\n>>> f(1) * 2\n3", "Give.\n\n>>> f(1) * 2\n3"),
        ("`a\nb`", r"\ :perhaps:`a b`\ "),
    ],
)
def test_markdown_becomes_what_autodoc_reads(docstring: str, expected: str | None) -> None:
    lines = part("docstrings").to_rst(docstring.split("\n"))
    if expected is not None:
        assert "\n".join(lines).strip() == expected.strip()
    else:
        assert "::" not in lines, "a paragraph of an argument is no code"


def test_new_pages_and_modules_appear_by_themselves(tmp_path: Path) -> None:
    contents = part("contents")
    for name in ("index", "cli", "brand-new"):
        (tmp_path / f"{name}.md").write_text("# A page", "utf-8")
    index = "```{toctree}\ncli\n<!-- rest -->\n```"
    assert contents.further_pages(index, tmp_path) == ["brand-new"]
    (tmp_path / "tutorials").mkdir()
    assert contents.further_pages(index, tmp_path, "tutorials") == []
    (tmp_path / "tutorials" / "first.md").touch()
    assert contents.further_pages(index, tmp_path, "tutorials") == ["tutorials/first"]
    names = contents.module_names()
    assert "iqametrics.images.read" in names
    assert not [name for name in names if "iqametrics.cli" in name]
    asked = contents.named_modules(ROOT / "docs" / "api")
    rest = contents.modules_of("rest", asked - {"iqametrics.gate"})
    assert "iqametrics.gate.limits" in rest
    assert "iqametrics.images" not in rest


def test_versions_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    versions = part("versions")
    for name in ("0.9.0", "0.10.0", "0.10.0rc1", "notes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.html").touch()
    assert versions.built_versions(tmp_path) == ["0.10.0", "0.10.0rc1", "0.9.0"]
    versions.write_versions(tmp_path)
    assert "url=0.10.0/index.html" in (tmp_path / "index.html").read_text("utf-8")
