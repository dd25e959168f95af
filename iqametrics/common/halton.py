"""The Halton sequence."""


def halton(index: int, base: int) -> float:
    """Return number `index` (from 1) of the Halton sequence of a base, in (0, 1).

    Source: Halton, "On the efficiency of certain quasi-random sequences of points", Numerische Mathematik 1960.

        >>> [halton(index, 2) for index in (1, 2, 3, 4)]
        [0.5, 0.25, 0.75, 0.125]
    """
    value, fraction = 0.0, 1.0
    while index:
        fraction /= base
        index, digit = divmod(index, base)
        value += digit * fraction
    return value
