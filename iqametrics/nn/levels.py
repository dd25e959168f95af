"""Sizes that all backbones of five levels share; no torch."""

LEVELS = 5
"""Number of levels; level i has a stride of 2**i."""

STRIDES = tuple(2**level for level in range(1, LEVELS + 1))
"""Stride of each level, in pixels."""

CELL = 2**LEVELS
"""Side in pixels of a cell, what one place of the last level sees the step of."""
