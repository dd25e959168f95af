"""Lists that are filled in when the site is built, so that new pages and modules appear by themselves.

A page asks for one by a comment, which a repository's browser does not show:

    <!-- modules: iqametrics.images -->   the reference of a module, or of all modules of a package
    <!-- modules: rest -->                of all modules that no page of this folder names
    <!-- public names -->                 what `import iqametrics` offers, as a table
    <!-- rest -->                         in a toctree: pages beside index.md that no toctree names
    <!-- rest: tutorials -->              likewise the pages of a folder
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from sphinx.application import Sphinx

import iqametrics

_INSIDE = ("iqametrics.cli", "iqametrics.common")
_MODULES = re.compile(r"<!-- modules: ([\w. ]+) -->")
_NAMES = "<!-- public names -->"
_REST = re.compile(r"<!-- rest(?:: (\w+))? -->")
_FENCE = "```{{eval-rst}}\n.. automodule:: {name}\n```\n"


def module_names() -> list[str]:
    """Return the names of all modules that are imported by name, packages before what is in them.

    Those of the command line are left out, docs/cli.md is their reference; so is what all rooms share inside.
    """
    walked = (module.name for module in pkgutil.walk_packages(iqametrics.__path__, "iqametrics."))
    return [name for name in walked if "._" not in name and not any(within(name, room) for room in _INSIDE)]


def within(name: str, package: str) -> bool:
    """Tell whether a module is the package or in it."""
    return name == package or name.startswith(f"{package}.")


def named_modules(folder: Path) -> set[str]:
    """Return the modules and packages that the pages of a folder ask for."""
    pages = (path.read_text("utf-8") for path in folder.glob("*.md"))
    return {name for page in pages for asked in _MODULES.findall(page) for name in asked.split()} - {"rest"}


def modules_of(asked: str, elsewhere: set[str]) -> list[str]:
    """Return the modules that a comment asks for: those of its packages, or those that are asked for nowhere else."""
    names = module_names()
    if asked == "rest":
        return [name for name in names if not any(within(name, package) for package in elsewhere)]
    return [name for package in asked.split() for name in names if within(name, package)]


def _reference(names: list[str]) -> str:
    return "\n".join(f"## {name}\n\n{_FENCE.format(name=name)}" for name in names if _has_content(name))


def _has_content(name: str) -> bool:
    """Tell whether anything public is defined in a module; a package may only bundle others."""
    module = importlib.import_module(name)
    return any(
        getattr(value, "__module__", None) == name and inspect.getdoc(value)
        for key, value in vars(module).items()
        if not key.startswith("_")
    )


def public_names() -> str:
    """Return a table of the public names, each with a link to where it is defined, and its summary."""
    return "\n".join(["| Name | What it is |", "|---|---|", *_rows(iqametrics)])


def _rows(module: ModuleType) -> Iterator[str]:
    for name in sorted(module.__all__, key=str.lower):
        value = getattr(module, name)
        if name.startswith("__"):
            continue
        summary = " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())
        yield f"| {{py:obj}}`{name} <{value.__module__}.{value.__qualname__}>` | {summary} |"


def further_pages(index: str, folder: Path, inside: str = "") -> list[str]:
    """Return the pages beside the index, or in a folder beside it, that none of its toctrees names."""
    named = set(re.findall(r"^(?:.*<)?([\w/-]+)>?$", index, re.MULTILINE)) | {"index"}
    found = ((path.relative_to(folder).with_suffix("")).as_posix() for path in (folder / inside).glob("*.md"))
    return sorted(set(found) - named)


def _fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the lists where a page asks for them."""
    text = source[0]
    folder = Path(app.env.doc2path(docname)).parent
    if _NAMES in text:
        text = text.replace(_NAMES, public_names())
    index = text
    text = _REST.sub(lambda found: "\n".join(further_pages(index, folder, found[1] or "")), text)
    elsewhere = named_modules(folder) if "modules: rest" in text else set()
    source[0] = _MODULES.sub(lambda found: _reference(modules_of(found[1], elsewhere)), text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
