"""Sizes that are not numbers yet: what torch.export and torch.compile pass through a network for sizes of any value."""

import torch


def is_symbol(size: object) -> bool:
    """Tell whether a size stands for any number, so that no branch may ask for its value."""
    return isinstance(size, torch.SymInt)
