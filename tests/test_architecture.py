"""The tree in docs/architecture.md names the modules that exist, each in its room, and no other."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
MODULE = re.compile(r"\b[a-z_][a-z0-9_]*\.py\b")
ROOMS = sorted(path.parent.name for path in (ROOT / "iqametrics").glob("*/__init__.py"))


def described() -> dict[str, str]:
    """Return the lines of the package's tree by room; those of modules that are in no room under ""."""
    tree = PAGE.read_text("utf-8").split("```")[1]
    lines = tree[tree.index("\niqametrics/\n") : tree.index("\nweights/")].split("\n")[2:]
    found: dict[str, str] = {"": ""}
    room = ""
    for line in lines:
        if match := re.match(r"  (\w+)/", line):
            room = match[1]
        elif not line.startswith("   "):
            room = ""
        found[room] = found.get(room, "") + line + "\n"
    return found


@pytest.mark.parametrize("room", ["", *ROOMS])
def test_the_tree_names_the_modules_that_exist(room: str) -> None:
    folder = ROOT / "iqametrics" / room
    modules = {path.name for path in (folder.rglob("*.py") if room else folder.glob("*.py"))} - {"__init__.py"}
    text = described().get(room, "")
    # What a module is named as, at the beginning of a line, must be there; elsewhere others may be spoken of.
    named = {name for line in text.split("\n") for name in MODULE.findall(re.split(r" {2,}", line.strip())[0])}
    missing, surplus = sorted(modules - set(MODULE.findall(text))), sorted(named - modules - {"__init__.py"})
    assert not missing, f"the tree in docs/architecture.md lacks {missing}"
    assert not surplus, f"the tree in docs/architecture.md has {surplus}, which do not exist"


def test_every_room_is_in_the_tree() -> None:
    assert set(ROOMS) == set(described()) - {""}
