"""A switch between versions that needs no server: each is built into a folder of its own, beside the others.

build/docs/0.1.0/index.html, build/docs/0.2.0/index.html
build/docs/versions.js     which versions there are, and the pages of each; a script tag reads it from the disk
build/docs/index.html      leads to the newest
"""

import json
import re
from pathlib import Path

from packaging.version import Version
from sphinx.application import Sphinx

_VERSION = re.compile(r"\d+(\.\d+)*\w*")
_FORWARD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>iqametrics</title>
<meta http-equiv="refresh" content="0; url={newest}/index.html">
</head>
<body>
<h1>iqametrics, by version</h1>
<ul>
{items}
</ul>
</body>
</html>
"""


def built_versions(folder: Path) -> list[str]:
    """Return the versions whose sites lie in a folder, newest first."""
    found = [path.parent.name for path in folder.glob("*/index.html") if _VERSION.fullmatch(path.parent.name)]
    return sorted(found, key=Version, reverse=True)


def write_versions(folder: Path) -> None:
    """Write the list of versions and the page that leads to the newest, for the sites in a folder."""
    versions = built_versions(folder)
    if not versions:
        return
    pages = {
        version: sorted(path.relative_to(folder / version).as_posix() for path in (folder / version).rglob("*.html"))
        for version in versions
    }
    listed = [{"version": version, "pages": pages[version]} for version in versions]
    (folder / "versions.js").write_text(f"window.IQAMETRICS_VERSIONS = {json.dumps(listed)};\n", "utf-8")
    items = "\n".join(f'<li><a href="{version}/index.html">{version}</a></li>' for version in versions)
    (folder / "index.html").write_text(_FORWARD.format(newest=versions[0], items=items), "utf-8")


def _finish(app: Sphinx, error: Exception | None) -> None:
    """List the site among its neighbours, where it was built into a folder that is called like its version."""
    outdir = Path(app.outdir)
    if error is None and app.builder.format == "html" and outdir.name == app.config.version:
        write_versions(outdir.parent)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("build-finished", _finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
