"""What somebody may have meant by a name that is not known."""

import difflib
from collections.abc import Callable, Iterable

_CUTOFF = 0.6


def did_you_mean(
    name: str, known: Iterable[str], *, most: int = 1, show: Callable[[str], str] = repr, end: str = ""
) -> str:
    """Ask for the known names that are closest to one that is not known, whatever their case.

    Args:
        name: What was given.
        known: What could have been meant.
        most: Largest number of names to offer.
        show: Writes a name as the message shows it.
        end: Text after the question.

    Returns:
        The question, or "" where no name is close.

    >>> did_you_mean("PFD-IQ", ["bpclip-fr", "pfd-iqa"])
    "did you mean 'pfd-iqa'?"
    >>> did_you_mean("colour", ["bpclip-fr", "pfd-iqa"])
    ''
    """
    spelled = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), spelled, n=most, cutoff=_CUTOFF)
    return f"did you mean {' or '.join(show(spelled[other]) for other in close)}?{end}" if close else ""
