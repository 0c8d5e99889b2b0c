"""Pairs from the text of class names, against the ids that are known for three orders of the classes."""

from pathlib import Path

import pytest

from kinema.data.datasets.mirror_pairs import mirror_pairs, mirrored_name

SOMETHING = (Path(__file__).parent / "something_something.txt").read_text().splitlines()
PULLING = ("Pulling something from left to right", "Pulling something from right to left")
PUSHING = ("Pushing something from left to right", "Pushing something from right to left")
TURNING = ("Turning the camera left while filming something", "Turning the camera right while filming something")

JESTER_LISTED = """
Swiping Left,Swiping Right,Swiping Down,Swiping Up,Pushing Hand Away,Pulling Hand In,Sliding Two Fingers Left,
Sliding Two Fingers Right,Sliding Two Fingers Down,Sliding Two Fingers Up,Pushing Two Fingers Away,Pulling Two Fingers In,
Rolling Hand Forward,Rolling Hand Backward,Turning Hand Clockwise,Turning Hand Counterclockwise,Zooming In With Full Hand,
Zooming Out With Full Hand,Zooming In With Two Fingers,Zooming Out With Two Fingers,Thumb Up,Thumb Down,Shaking Hand,Stop Sign,
Drumming Fingers,No gesture,Doing other things""".replace("\n", "").split(",")


def ids_of(names):
    return [(names.index(a), names.index(b)) for a, b in mirror_pairs(names)]


def test_something_something_sorted_and_as_listed():
    assert len(SOMETHING) == 174 and sorted(SOMETHING) == SOMETHING
    assert ids_of(SOMETHING) == [(86, 87), (93, 94), (166, 167)]
    # In the order of V1's own list, of which only these places are known.
    listed = [name for name in SOMETHING if name not in PULLING + PUSHING + TURNING]
    for place, name in zip((2, 4, 30, 41, 52, 66), TURNING + PUSHING + PULLING, strict=True):
        listed.insert(place, name)
    assert ids_of(listed) == [(2, 4), (30, 41), (52, 66)]


def test_right_out_is_no_side():
    name = "Plugging something into something but pulling it right out as you remove your hand"
    assert name in SOMETHING and mirrored_name(name) == name
    assert mirrored_name("looking right at it") == "looking left at it"
    assert mirrored_name("turn right outside") == "turn left outside"


def test_jester_sorted_and_as_listed():
    assert len(JESTER_LISTED) == 27
    assert ids_of(sorted(JESTER_LISTED)) == [(11, 12), (16, 17), (21, 22)]
    assert ids_of(JESTER_LISTED) == [(0, 1), (6, 7), (14, 15)]


@pytest.mark.parametrize(
    ("name", "mirrored"),
    [
        ("move_left", "move_right"),
        ("rotate_clockwise", "rotate_counterclockwise"),
        ("rotate counter-clockwise", "rotate clockwise"),
        ("turning anticlockwise", "turning clockwise"),
        ("circle_CW", "circle_CCW"),
        ("TURN LEFT", "TURN RIGHT"),
        ("left-handed throw", "right-handed throw"),
        ("leaning leftwards", "leaning rightwards"),
        ("eating leftovers", "eating leftovers"),
        ("a bright copyright", "a bright copyright"),
        ("Rolling Hand Forward", "Rolling Hand Forward"),
        ("swipe_left2", "swipe_right2"),
        ("SwipeLeft", "SwipeRight"),
        ("RightPunch", "LeftPunch"),
        ("RotateCounterClockwise", "RotateClockwise"),
        ("LEFTHand", "RIGHTHand"),
        ("BrightLight", "BrightLight"),
    ],
)
def test_words_change_places_and_parts_of_words_do_not(name, mirrored):
    assert mirrored_name(name) == mirrored


def test_other_spellings_are_one_class():
    assert mirror_pairs(["turn Anti-clockwise", "turn clockwise"]) == [("turn Anti-clockwise", "turn clockwise")]
    assert mirror_pairs(["swipe left", "Swipe Right"]) == [("swipe left", "Swipe Right")]


def test_no_sides_no_pairs():
    assert mirror_pairs(["abseiling", "zumba"]) == []


def test_a_side_without_its_mirror_image_is_refused():
    with pytest.raises(
        ValueError, match=r"'turn left' seen in a mirror would be 'turn right', which is none of the 2 classes"
    ):
        mirror_pairs(["turn left", "walk"])
