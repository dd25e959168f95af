"""Settings of the documentation's site; `python docs/build.py` builds it.

The pages are the Markdown files beside this one, which stay readable where the repository is browsed. What the site
does on top of Sphinx is in `site_parts/`, one file for each thing.
"""

import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
# Notebooks run in processes of their own: with this checkout's package and command, and with what shows pictures.
PATHS = (str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH"))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, PATHS))
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

project = "iqametrics"
author = "The iqametrics authors"
project_copyright = author
version = release = installed_version("iqametrics")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "site_parts.contents",
    "site_parts.docstrings",
    "site_parts.leaderboard",
    "site_parts.mathml",
    "site_parts.references",
    "site_parts.repository",
    "site_parts.versions",
]
exclude_patterns = ["site_parts", "example", "_static", "_templates"]
nitpicky = True
# A page that no section of index.md names is listed under "Further pages" (site_parts/contents.py).
suppress_warnings = ["mystnb.unknown_mime_type"]

myst_enable_extensions = ["deflist", "dollarmath", "colon_fence", "attrs_inline", "attrs_block"]
myst_heading_anchors = 4
# Notebooks run at each build: what stands under a cell is what this version gives.
nb_execution_mode = "force"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_code_prompt_show = "The code of this figure"
nb_code_prompt_hide = "Hide the code"
nb_merge_streams = True
nb_number_source_lines = False

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_default_options = {"members": True, "show-inheritance": True, "ignore-module-all": True}
toc_object_entries = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
modindex_common_prefix = ["iqametrics."]

html_theme = "furo"
html_title = f"iqametrics {version}"
html_static_path = ["_static"]
templates_path = ["_templates"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_domain_indices = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {"color-brand-primary": "#0b6e75", "color-brand-content": "#0b6e75"},
    "dark_css_variables": {"color-brand-primary": "#5cc8c2", "color-brand-content": "#5cc8c2"},
}
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/versions.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
linkcheck_timeout = 20
