"""Numbers of the command line that argparse would let pass, or end in a traceback for."""

import argparse
from fractions import Fraction


def positive_fraction(text: str) -> Fraction:
    """A number above 0, also as a fraction: 25, 12.5, 30000/1001.

    Raises:
        ArgumentTypeError: If it is none.
    """
    try:
        number = Fraction(text)
    except (ValueError, ZeroDivisionError):
        number = Fraction(0)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0; give one such as 25, 12.5 or 30000/1001")
    return number
