"""From features to segments, by a network that says what it is told to say."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from kinema.data.untrimmed.feature_files import FeatureError
from kinema.data.untrimmed.segments import AnnotatedVideo, Annotations, Segment
from kinema.data.untrimmed.windows import Windows
from kinema.localization.inference import BrokenMapsError, Detection, PostProcessing, propose
from kinema.localization.network import BoundaryMaps
from kinema.localization.results_file import read_detections, write_detections
from kinema.localization.scoring import detection_metrics

from made import CLASSES, feature_file

SEGMENTS = [(4.0, 10.0, 1), (17.0, 21.0, 2)]


class Seer(nn.Module):
    """Knows the channel of each class: it is sure of the segments that it sees as a whole."""

    def __init__(self, windows, segments, offsets=None, classes=None):
        super().__init__()
        self.windows, self.segments, self.offsets, self.classes = windows, segments, offsets, classes
        self.in_channels, self.unused, self.seen = 8, nn.Parameter(torch.zeros(1)), []

    def forward(self, features):
        assert not self.training
        self.seen.append(len(features))
        count, bins, longest = len(features), self.windows.num_bins, self.windows.max_bins
        start, end = torch.full((2, count, bins), 0.01)
        confidence = torch.full((count, 2, longest, bins), 0.01)
        for number in range(count):
            busy = features[number].amax(0) > 0.6
            edges = torch.diff(busy.int(), prepend=torch.zeros(1), append=torch.zeros(1))
            begins, ends = (edges == 1).nonzero()[:, 0].tolist(), (edges == -1).nonzero()[:, 0].tolist()
            for s, e in zip(begins, ends, strict=True):
                if e - s <= longest:
                    start[number, s] = end[number, min(e, bins - 1)] = 0.9
                    confidence[number, :, e - s - 1, s] = 0.9
        further = {}
        if self.offsets is not None:
            further["offsets"] = torch.tensor(self.offsets)[:, None, None].expand(count, 2, longest, bins)
        if self.classes is not None:
            further["classes"] = (torch.tensor(self.classes)[:, None, None].expand(count, 3, longest, bins),)
        return BoundaryMaps(start, end, confidence, **further)


WHOLE, SLIDING = Windows(60, 30), Windows(24, 16, 0.5, 8)


@pytest.mark.parametrize("windows", [WHOLE, SLIDING])
@pytest.mark.parametrize("fusion", ["proposal", "video"])
def test_segments_come_back_in_seconds_with_their_class(windows, fusion):
    file = feature_file("a", SEGMENTS)
    model = Seer(windows, SEGMENTS).train()
    found = propose(model, file, windows=windows, options=PostProcessing(fusion))
    propose(still := Seer(windows, SEGMENTS).eval(), file, windows=windows)
    assert model.training and not still.training and all(d.score >= e.score for d, e in pairwise(found))
    best = {(round(d.start), round(d.end + 0.1)): d for d in reversed(found) if d.score > 0.1}
    assert set(best) == {(4, 10), (17, 21)}
    for (start, end), detection in best.items():
        assert abs(detection.start - start) < 0.6 and abs(detection.end - end) < 0.6
    if fusion == "proposal":
        assert best[4, 10].label == 1 and best[17, 21].label == 2
        assert best[4, 10].score > 0.8 * 0.9**2.2
    else:  # six seconds against four
        assert best[4, 10].label == best[17, 21].label == 1


def test_windows_go_through_the_network_a_few_at_a_time():
    model = Seer(SLIDING, SEGMENTS)
    propose(model, feature_file("a", SEGMENTS, duration=60.0), windows=SLIDING)
    assert sum(model.seen) == len(SLIDING.of(60.0)) == 15 and max(model.seen) <= 8


def test_options_count():
    file, model = feature_file("a", SEGMENTS), Seer(WHOLE, SEGMENTS)
    found = [
        propose(model, file, windows=WHOLE, options=PostProcessing(**options))
        for options in (
            {"num_labels": 3, "num_proposals": 1},
            {"num_labels": 1, "num_proposals": None},
            {"num_labels": 1, "class_power": 2.0, "num_proposals": 1},
            {
                "num_labels": 1,
                "classification_power": 3.0,
                "regression_power": 2.0,
                "num_proposals": 1,
                "class_power": 0.0,
            },
        )
    ]
    assert len(found[0]) == 3 and {d.label for d in found[0]} == {0, 1, 2}
    assert len({(d.start, d.end) for d in found[1]}) <= 31
    assert found[2][0].score == pytest.approx(found[0][0].score ** 2 / 0.9**2.2, rel=1e-5)
    assert found[3][0].score == pytest.approx(0.9**5, rel=1e-5)
    assert PostProcessing.epic().num_proposals is None and PostProcessing.activitynet().fusion == "video"
    with pytest.raises(ValueError, match="must be at least 1"):
        PostProcessing(num_labels=0)


def test_without_class_scores_there_is_no_label():
    found = propose(Seer(WHOLE, SEGMENTS), feature_file("a", SEGMENTS, scores=False), windows=WHOLE)
    assert found and all(d.label is None for d in found)


def test_verbs_and_nouns_give_pairs():
    file = feature_file("a", SEGMENTS)
    noun = torch.zeros(len(file), 5)
    noun[:, 4] = 6.0
    file = replace(file, logits={"verb": file.logits, "noun": noun})
    found = propose(Seer(SLIDING, SEGMENTS), file, windows=SLIDING, options=PostProcessing.epic())
    best = max(found, key=lambda d: d.score)
    assert best.label in ((1, 4), (2, 4))


def test_classes_may_come_from_the_network():
    file, model = feature_file("a", SEGMENTS, scores=False), Seer(SLIDING, SEGMENTS, classes=[0.0, 0.0, 5.0])
    found = propose(model, file, windows=SLIDING, options=PostProcessing("network", num_labels=1))
    assert {d.label for d in found} == {2}
    with pytest.raises(ValueError, match="needs a network with a class head"):
        propose(Seer(SLIDING, SEGMENTS), file, windows=SLIDING, options=PostProcessing("network"))


def test_offsets_move_boundaries_by_shares_of_the_length():
    options = PostProcessing(num_proposals=2, num_labels=1)
    plain = propose(Seer(SLIDING, SEGMENTS), feature_file("a", SEGMENTS), windows=SLIDING, options=options)
    model = Seer(SLIDING, SEGMENTS, offsets=[-0.25, 0.5])
    moved = propose(model, feature_file("a", SEGMENTS), windows=SLIDING, options=options)
    for one, other in zip(sorted(plain), sorted(moved), strict=True):
        length = one.end - one.start
        assert other.start == pytest.approx(one.start - 0.25 * length)
        assert other.end == pytest.approx(min(one.end + 0.5 * length, 30.0))
    turned = propose(
        Seer(SLIDING, SEGMENTS, offsets=[2.0, -2.0]), feature_file("a", SEGMENTS), windows=SLIDING, options=options
    )
    assert sorted(turned) == sorted(plain)  # a segment is never turned round


def test_a_video_shorter_than_a_window_is_seen():
    file = feature_file("a", [(1.0, 3.0, 0)], duration=5.0)
    (best, *_) = propose(Seer(SLIDING, SEGMENTS), file, windows=SLIDING)
    assert best.start == pytest.approx(1, abs=0.6) and best.end == pytest.approx(3, abs=0.6) and best.label == 0
    assert all(d.end <= 5.0 for d in propose(Seer(SLIDING, SEGMENTS), file, windows=SLIDING))


def test_what_does_not_fit_is_refused():
    file = feature_file("a", SEGMENTS, dim=4)
    with pytest.raises(FeatureError, match="a: the features have 4 channels and the network reads 8"):
        propose(Seer(WHOLE, SEGMENTS), file, windows=WHOLE)
    late = feature_file("a", SEGMENTS)
    late = replace(late, **{name: getattr(late, name) + 500 for name in ("starts", "centers", "ends")})
    with pytest.raises(FeatureError, match="no clip lies within"):
        propose(Seer(SLIDING, SEGMENTS), late, windows=SLIDING)


@pytest.mark.parametrize("name", ["start", "end", "confidence", "offsets", "classes"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_maps_that_are_no_numbers_are_refused(name, value):
    """Offsets would give times, and classes scores, that are NaN and no JSON."""
    broken = Seer(SLIDING, SEGMENTS, offsets=[0.0, 0.0], classes=[0.0, 1.0, 2.0])
    told = type(broken).forward

    def forward(features):
        maps = told(broken, features)
        part = maps.classes[0] if name == "classes" else getattr(maps, name)
        part = part.clone()
        part[2].view(-1)[5] = float(value)
        return maps._replace(**{name: (part,) if name == "classes" else part})

    broken.forward = forward
    with pytest.raises(
        BrokenMapsError, match=f"a: what the network says of '{name}' is not finite in 1 of .* first at 8 s"
    ):
        propose(broken, feature_file("a", SEGMENTS), windows=SLIDING, options=PostProcessing("network"))


ANNOTATIONS = Annotations(
    {"a": AnnotatedVideo(30.0, "val"), "b": AnnotatedVideo(30.0, "val")},
    [Segment("a", *segment) for segment in SEGMENTS],
    CLASSES,
)


def test_detections_are_measured_and_written(tmp_path):
    right = [Detection(4.0, 10.0, 0.9, 1), Detection(4.0, 10.0, 0.8, 0), Detection(17.0, 21.0, 0.3, 2)]
    metrics = detection_metrics(ANNOTATIONS, {"a": right})
    assert metrics["average_mAP"] == metrics["mAP@0.95"] == metrics["AR@100"] == 1
    assert metrics["AR@1"] == 0.5  # two proposals of one annotated video: labels of one segment count once
    last = [Detection(17.0, 21.0, 0.9, 2), Detection(0.0, 1.0, 0.8, 2), Detection(17.0, 21.0, 0.1, 1)]
    assert detection_metrics(ANNOTATIONS.of_videos("a"), {"a": last})["AR@1"] == 0.5  # by the best of their scores
    assert detection_metrics(ANNOTATIONS, {"a": right[:1], "b": [Detection(0, 1, 0.99, 1)]})["average_mAP"] == 0.25
    assert detection_metrics(ANNOTATIONS, {})["average_mAP"] == 0
    write_detections(tmp_path / "found.json", {"a": right[:1]}, ANNOTATIONS)
    text = (tmp_path / "found.json").read_text()
    assert '"results": {"a": [{"segment": [4.0, 10.0], "score": 0.9, "label": "run"}]}' in text


def test_detections_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "found.json"
    found = {"a": [Detection(4.0, 10.0, 0.9, 1), Detection(1.0, 2.0, 0.5, None)], "b": []}
    write_detections(path, found, ANNOTATIONS)
    assert read_detections(path, ANNOTATIONS) == found
    tasks = {"verb": ["open", "cut"], "noun": ["tap", "door"]}
    actions = Annotations({"a": AnnotatedVideo(30.0, "val")}, [], tasks["verb"], tasks)
    several = {"a": [Detection(4.0, 10.0, 0.9, (0, 1))]}
    write_detections(path, several, actions)
    assert read_detections(path, actions) == several


@pytest.mark.parametrize(
    "content, text",
    [
        ("{", "no whole JSON"),
        ('{"database": {}}', "mapping 'results'"),
        ('{"results": {"a": [{"segment": [1], "score": 0.5, "label": "run"}]}}', r"video a: 'segment' \[start, end\]"),
        ('{"results": {"a": [{"segment": [1, 2], "score": NaN, "label": "run"}]}}', "'score'"),
        (
            '{"results": {"a": [{"segment": [3, 2], "score": 0.5, "label": "run"}]}}',
            r"video a: .* ends at 2 s, before it starts at 3",
        ),
        ('{"results": {"a": [{"segment": [1, 2], "score": 0.5, "label": "fly"}]}}', "'fly' is none of the 3 classes"),
    ],
)
def test_detections_of_another_form_are_refused(content, text, tmp_path):
    (tmp_path / "found.json").write_text(content)
    with pytest.raises(ValueError, match=text):
        read_detections(tmp_path / "found.json", ANNOTATIONS)
    with pytest.raises(FileNotFoundError, match=r"val_detections.json of a run"):
        read_detections(tmp_path / "absent.json", ANNOTATIONS)


@pytest.mark.parametrize(
    "verb, noun, text",
    [("99", "0", "video a: 99 is no verb; the annotations have 2, with ids from 0 to 1"), ("0", "-1", "-1 is no noun")],
)
def test_ids_that_no_task_has_are_refused(verb, noun, text, tmp_path):
    tasks = {"verb": ["open", "cut"], "noun": ["tap", "door", "cup"]}
    actions = Annotations({"a": AnnotatedVideo(30.0, "val")}, [], tasks["verb"], tasks)
    row = f'{{"segment": [1, 2], "score": 0.5, "label": "x", "verb": {verb}, "noun": {noun}}}'
    (tmp_path / "found.json").write_text(f'{{"results": {{"a": [{row}]}}}}')
    with pytest.raises(ValueError, match=text):
        read_detections(tmp_path / "found.json", actions)


def test_without_labels_all_classes_are_one():
    found = {"a": [Detection(4.0, 10.0, 0.9, None), Detection(17.0, 21.0, 0.3, None)]}
    metrics = detection_metrics(ANNOTATIONS, found)
    assert metrics["average_mAP"] == 1 and metrics["class_agnostic"] == 1
    with pytest.raises(ValueError, match="1 of 2 detections have no label"):
        detection_metrics(ANNOTATIONS, {"a": [found["a"][0], Detection(1, 2, 0.5, 1)]})
    with pytest.raises(ValueError, match="1 videos that are not annotated were given, such as z"):
        detection_metrics(ANNOTATIONS, {"z": []})


def test_verb_noun_and_action_are_measured():
    tasks = {"verb": ["v0", "v1"], "noun": ["n0", "n1", "n2"]}
    annotations = Annotations(
        {"a": AnnotatedVideo(9.0, "val")},
        [Segment("a", 0, 2, (0, 2)), Segment("a", 5, 6, (1, 2))],
        tasks["verb"],
        tasks,
    )
    found = {"a": [Detection(0, 2, 0.9, (0, 2)), Detection(5, 6, 0.8, (0, 2))]}
    metrics = detection_metrics(annotations, found)
    assert metrics["average_mAP"] == metrics["action_average_mAP"] == 0.5
    assert metrics["verb_average_mAP"] == 0.5 and metrics["noun_average_mAP"] == 1 and metrics["action_mAP@0.10"] == 0.5
    strange = {"a": [Detection(7, 8, 0.95, (0, 1)), *found["a"]]}  # v0 and n1, never annotated together
    metrics = detection_metrics(annotations, strange)
    assert metrics["verb_average_mAP"] == 0.25 and metrics["tadaconv_verb_average_mAP"] == 0.5
    assert metrics["average_mAP"] == 0.5 and metrics["tadaconv_noun_mAP@0.30"] == metrics["noun_mAP@0.30"] == 1


def test_recall_counts_proposals_per_annotated_video():
    """ActivityNet's evaluator; videos without segments would otherwise give the others more proposals each."""
    more = {**ANNOTATIONS.videos, **{name: AnnotatedVideo(30.0, "val") for name in "cdef"}}
    found = {"a": [Detection(0.0, 1.0, 0.9, 1), Detection(4.0, 10.0, 0.8, 1), Detection(17.0, 21.0, 0.7, 2)]}
    alone = detection_metrics(ANNOTATIONS.of_videos("a"), found)
    assert (alone["AR@1"], alone["AR@5"], alone["AR@100"]) == (0, 1, 1)
    assert detection_metrics(Annotations(more, ANNOTATIONS.segments, CLASSES), found) == alone
