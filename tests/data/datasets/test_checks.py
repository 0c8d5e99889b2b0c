"""What is refused in any list of samples."""

from fractions import Fraction

import pytest

from kinema.data.datasets.checks import check_num_classes, check_overlaps, refuse_duplicates, time_range
from kinema.data.manifest import ManifestError, VideoRecord


def sample(start, end, label=0, split="train", path="a.mp4"):
    return VideoRecord(path, label, Fraction(start), Fraction(end), split), f"line of {start}"


def test_a_long_range_is_compared_with_all_that_follow_in_it():
    samples = [sample(0, 10, 1), sample(1, 10, 2), sample(3, 4, 1), sample(5, 6, 1), sample(10, 11, 1)]
    assert check_overlaps(samples, within_split="count", same_class=True) == [
        "2 pairs of samples share a stretch of their video"
    ]
    assert check_overlaps(samples, within_split="count") == ["5 pairs of samples share a stretch of their video"]
    with pytest.raises(ManifestError, match=r"0 to 10 s \(line of 0\) and 3 to 4 s \(line of 3\) overlap"):
        check_overlaps(samples, within_split="refuse", same_class=True)


def test_order_and_other_videos_do_not_matter():
    samples = [sample(5, 6), sample(0, 1), sample(1, 5), sample(0, 9, path="b.mp4", split="val")]
    assert check_overlaps(samples, within_split="refuse") == []
    with pytest.raises(ManifestError, match=r"of the splits train and val overlap; correct one of them$"):
        check_overlaps([*samples, sample("0.5", "0.6", split="val")], within_split="count")


def test_all_labels_make_a_class():
    records = [VideoRecord("a", 1, Fraction(0), Fraction(2), "train", further_labels=(noun,)) for noun in (3, 4)]
    assert check_overlaps([(record, "") for record in records], within_split="refuse", same_class=True) == []


@pytest.mark.parametrize(
    ("text", "seconds"), [("3.25", "3.25"), ("00:00:03.37", "3.37"), ("01:02:03.5", "3723.5"), ("2:00", "120")]
)
def test_times(text, seconds):
    assert time_range("0", text, "here") == (0, Fraction(seconds))


@pytest.mark.parametrize("text", ["", "soon", "-1", "1:2:3:4", "1/0", "1:-5"])
def test_what_is_no_time(text):
    with pytest.raises(ManifestError, match=r"here: the end .* is no time"):
        time_range("0", text, "here")


def test_numbers_of_classes():
    check_num_classes(3, 3, "X", "f", subset=False)
    check_num_classes(2, 3, "X", "f", subset=True)
    for found, subset in ((2, False), (4, False), (4, True), (0, True)):
        with pytest.raises(ManifestError, match=f"f has {found} classes, X has 3"):
            check_num_classes(found, 3, "X", "f", subset=subset)


def test_duplicates_name_both_places():
    with pytest.raises(ManifestError, match="the id a_1 stands in first and again in third"):
        refuse_duplicates([(("a", 1), "first"), (("b", 1), "second"), (("a", 1), "third")], "id")
