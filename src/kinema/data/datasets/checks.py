"""What is refused in a list of samples, whatever the data set."""

from collections.abc import Hashable, Iterable, Sequence
from fractions import Fraction
from typing import Literal

from kinema.data.manifest import ManifestError, VideoRecord

Overlaps = Literal["refuse", "count"]


def check_num_classes(found: int, release: int, name: str, where: object, *, subset: bool, others: str = "") -> None:
    """Refuse a list with another number of classes than the release has.

    Raises:
        ManifestError: If the numbers differ, unless `subset` says that only a part is meant; a part is never larger.
    """
    if found == release or (subset and 1 <= found < release):
        return
    advice = (
        ""
        if subset
        else f"{others}give the annotations of {name}, or say that they are a part of it on purpose: "
        "subset=True in Python, --data.subset true, or --option subset=true of prepare"
    )
    raise ManifestError(f"{where} has {found} classes, {name} has {release}; {advice or 'it is another version'}")


def check_class_order(given: Sequence[str], official: Sequence[str], where: object) -> None:
    """Refuse a list of classes that is not the official one, name by name.

    Raises:
        ManifestError: If a name is another one, or stands elsewhere: scores and labels would be matched wrongly.
    """
    if list(given) == list(official):
        return
    if sorted(given) == sorted(official):
        place = next(index for index, (a, b) in enumerate(zip(given, official, strict=True)) if a != b)
        raise ManifestError(
            f"{where} has the {len(official)} classes in another order: class {place} is '{given[place]}' there and "
            f"'{official[place]}' in the annotations; labels would be wrong. Leave the list out, or sort it as they are"
        )
    only = sorted(set(given) - set(official))[:3], sorted(set(official) - set(given))[:3]
    raise ManifestError(
        f"{where} has {len(given)} classes and the annotations {len(official)}; only in the list: {only[0]}, only in the "
        f"annotations: {only[1]}. Leave the list out"
    )


def class_id(name: str, ids: dict[str, int], where: str) -> int:
    """The id of a class by its name.

    Raises:
        ManifestError: If there is no such class.
    """
    if not name.strip():
        raise ManifestError(f"{where}: the label is empty; write the class of the sample")
    if name not in ids:
        raise ManifestError(
            f"{where}: the label '{name}' is none of the {len(ids)} classes {list(ids)[:3]}...; the list of classes and the "
            "list of samples are of different versions"
        )
    return ids[name]


def refuse_duplicates(keys: Iterable[tuple[Hashable, str]], what: str) -> None:
    """Refuse what stands in the lists twice.

    Args:
        keys: What names a sample, and where it stands.
        what: What the key is, for the message.

    Raises:
        ManifestError: If a key comes twice, in one file or in two.
    """
    seen: dict[Hashable, str] = {}
    for key, where in keys:
        if key in seen:
            shown = "_".join(map(str, key)) if isinstance(key, tuple) else key
            raise ManifestError(
                f"the {what} {shown} stands in {seen[key]} and again in {where}; a sample counts once, remove one of them"
            )
        seen[key] = where


def time_range(start: str, end: str, where: str) -> tuple[Fraction, Fraction]:
    """Read a start and an end in seconds, or as hours:minutes:seconds.

    Raises:
        ManifestError: If one is no time, or the end does not lie after the start.
    """
    times = []
    for column, text in (("start", start), ("end", end)):
        try:
            parts = [Fraction(part) for part in text.strip().split(":")]
        except (ValueError, ZeroDivisionError):
            parts = []
        if not 1 <= len(parts) <= 3 or min(parts) < 0:
            raise ManifestError(f"{where}: the {column} '{text}' is no time; seconds or hh:mm:ss.cc were expected")
        times.append(sum((part * 60**power for power, part in enumerate(reversed(parts))), Fraction(0)))
    if times[1] <= times[0]:
        raise ManifestError(
            f"{where}: the range {start} to {end} is empty or reversed; the end must lie after the start"
        )
    return times[0], times[1]


def check_overlaps(
    samples: Iterable[tuple[VideoRecord, str]], *, within_split: Overlaps, same_class: bool = False
) -> list[str]:
    """Refuse samples that share a stretch of a video.

    Across splits that is never right: what is tested would have been trained on. Within a split some data sets have it on
    purpose, where several things are done at a time.

    Args:
        samples: Records with both times, and where they stand.
        within_split: Whether to refuse or only to count overlaps within one split.
        same_class: Within a split mind only samples with the same labels.

    Returns:
        One sentence if there are any that are counted.

    Raises:
        ManifestError: If there are any that are refused.
    """
    by_video: dict[str, list[tuple[Fraction, Fraction, VideoRecord, str]]] = {}
    for record, where in samples:
        assert record.start is not None and record.end is not None
        by_video.setdefault(record.path, []).append((record.start, record.end, record, where))
    counted = 0
    for path, ranges in by_video.items():
        ranges.sort(key=lambda item: item[:2])
        # Not only neighbours: a long range may cover several that follow.
        open_ranges: list[tuple[Fraction, Fraction, VideoRecord, str]] = []
        for current in ranges:
            open_ranges = [other for other in open_ranges if other[1] > current[0]]
            for other in open_ranges:
                across = other[2].split != current[2].split
                if not across and same_class and other[2].labels != current[2].labels:
                    continue
                if across or within_split == "refuse":
                    parts = f" of the splits {other[2].split} and {current[2].split}" if across else ""
                    advice = "" if across else ", or allow it with overlaps='count'"
                    raise ManifestError(
                        f"{path}: the ranges {_span(other)} ({other[3]}) and {_span(current)} ({current[3]}){parts} overlap; "
                        f"correct one of them{advice}"
                    )
                counted += 1
            open_ranges.append(current)
    return [f"{counted} pairs of samples share a stretch of their video"] if counted else []


def _span(item: tuple[Fraction, Fraction, VideoRecord, str]) -> str:
    return f"{float(item[0]):g} to {float(item[1]):g} s"
