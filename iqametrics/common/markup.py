"""Foreign text in our documents: what a checkpoint, a file name or a table says stays plain text there.

A card is published, a report is opened in a browser or compiled, a table goes into a spreadsheet. None of them may run,
load or link anything that a record contains.
"""

import html
import re

_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    ">": r"$>$",
    "<": r"$<$",
}


def plain(text: object, longest: int | None = None) -> str:
    """Make printable words on one line, without line breaks, escape sequences and marks of writing direction.

    Args:
        text: What to write.
        longest: Number of characters to keep; None for all.
    """
    words = " ".join(str(text).split())[:longest]
    return "".join(character if character.isprintable() else "?" for character in words)


def markdown(text: object, longest: int | None = None) -> str:
    r"""Write words so that Markdown, with GitHub's tables and formulas, shows them as they are.

    Examples:
        >>> markdown("[a](javascript:b) <i> snake_case"), markdown("# title")
        ('\\[a\\](javascript:b) &lt;i&gt; snake_case', '\\# title')
    """
    words = html.escape(plain(text, longest), quote=False)
    words = re.sub(r"[\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\\g<0>", words)
    # Signs that begin a heading, a list or a rule.
    return re.sub(r"^(\d*)([#+=.)-])(?=[\s#+=-]|$)", r"\1\\\2", words)


def latex(text: object) -> str:
    """Write words so that LaTeX sets them as they are; without a line break they cannot leave a comment either."""
    return re.sub(r"[&%$#_{}\\~^±<>]", lambda found: _LATEX[found[0]], plain(text))


def html_text(text: object) -> str:
    """Write words so that HTML shows them as they are, in an attribute too."""
    return html.escape(plain(text), quote=True)


def spreadsheet(value: object) -> object:
    """Put a text on one line, with an apostrophe before what a spreadsheet takes for a formula; keep numbers."""
    if not isinstance(value, str):
        return value
    words = plain(value)
    return f"'{words}" if words.startswith(("=", "+", "-", "@")) else words
