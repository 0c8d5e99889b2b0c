"""Which classes change into one another when a clip is mirrored, read from the text of their names.

"Pushing something from left to right" seen in a mirror is "Pushing something from right to left". Lists of ids for this are
passed around and are right for one order of the classes alone: sorted by name the pairs of Something-Something are 86-87,
93-94 and 166-167, in the order of V1's own list 2-4, 30-41 and 52-66. The text is right for every order.
"""

import re
from collections.abc import Sequence

_OPPOSITE = {"left": "right", "clockwise": "counterclockwise"}
_OPPOSITE |= {
    f"{word}{end}": f"{_OPPOSITE[word]}{end}" for word in ("left",) for end in ("ward", "wards", "hand", "handed")
}
_OPPOSITE |= {"cw": "ccw"}
_OPPOSITE |= {other: word for word, other in list(_OPPOSITE.items())}
_SPELT = {"anticlockwise": "clockwise", "counter-clockwise": "clockwise", "anti-clockwise": "clockwise"}
# Words end at anything that is no letter, underscores and digits too, and where a capital follows a small letter: `move_left`
# and `SwipeLeft` name a side, `leftover` does not. Nor does
# the "right" of "Plugging something into something but pulling it right out as you remove your hand".
_WORD = re.compile(
    r"(?-i:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]))"
    r"(?!right[ _-](?:out|away|after|before|now|here|there)(?![A-Za-z]))"
    r"(?:(?:counter|anti)-?clockwise|(?-i:[A-Z]+(?![a-z])|[A-Z]?[a-z]+))(?-i:(?![a-z]))",
    re.IGNORECASE,
)


def mirrored_name(name: str) -> str:
    """The name of a class as it is called in a mirror: left and right, clockwise and counterclockwise change places.

    Capitals stay as they are: "Swiping Left" becomes "Swiping Right". A name without such words stays the same.
    """

    def swap(match: re.Match[str]) -> str:
        word = match[0]
        other = _OPPOSITE.get(word.lower()) or _SPELT.get(word.lower())
        if other is None:
            return word
        if word.isupper():
            return other.upper()
        return other.capitalize() if word[0].isupper() else other

    return _WORD.sub(swap, name)


def mirror_pairs(class_names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of classes that swap when a clip is mirrored, each once, in the order of the classes.

    Args:
        class_names: All classes.

    Raises:
        ValueError: If a class names a side and its mirrored class is not among them: no label is right for its mirrored
            clips.
    """
    by_spelling = {_plain(name): name for name in class_names}
    place = {name: index for index, name in enumerate(class_names)}
    pairs = []
    for name in class_names:
        mirrored = mirrored_name(name)
        if mirrored == name:
            continue
        partner = by_spelling.get(_plain(mirrored))
        if partner is None:
            raise ValueError(
                f"the class '{name}' seen in a mirror would be '{mirrored}', which is none of the {len(class_names)} classes; "
                "leave flip at 0, or name the pairs in flip_pairs"
            )
        if place[name] < place[partner]:
            pairs.append((name, partner))
    return pairs


def _plain(name: str) -> str:
    """Without the differences of spelling that do not change what a name says."""
    plain = name.lower()
    for spelt in ("counter-clockwise", "anti-clockwise", "anticlockwise"):
        plain = plain.replace(spelt, "counterclockwise")
    return plain
