"""Names in signatures: ours must lead somewhere, names of other packages stay text, since builds use no network."""

import re
import sys
from typing import Any, TypeVar

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def _leave_foreign(_: Sphinx, __: BuildEnvironment, node: addnodes.pending_xref, content: nodes.Node) -> Any:
    """Leave a name of another package, or a private one of ours, as text."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    ours = target.startswith("iqametrics.") and not re.search(r"\._", target)
    return None if ours and not _is_variable(target) else content


def _is_variable(target: str) -> bool:
    """Tell whether a name is a variable that stands for types, which is no page's subject."""
    module, _, name = target.rpartition(".")
    return isinstance(getattr(sys.modules.get(module), name, None), TypeVar)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx, after everything that could find the name."""
    app.connect("missing-reference", _leave_foreign, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
