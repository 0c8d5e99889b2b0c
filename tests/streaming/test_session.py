"""A session says of a stream what the network says of its frames, and begins anew where it should."""

import re
from fractions import Fraction
from math import inf

import numpy as np
import pytest
import torch

from kinema.data.transforms import EvalTransform
from kinema.streaming.reader import FrameReader
from kinema.streaming.session import StreamSession, frame_difference, small_grey
from kinema.streaming.stored import VideoFile
from kinema.training import TSM

from cameras import FPS, NAMES, classifier, encoded, grey, texture
from conftest import REPOSITORY


@pytest.fixture(scope="module")
def predictor():
    return classifier()


def seen(session, frames, *, cuts=()):
    return [
        session.see(frame, Fraction(number, FPS), cut="lost" if number in cuts else "")
        for number, frame in enumerate(frames)
    ]


@pytest.mark.parametrize("rotation", [None, 90])
def test_a_video_as_a_stream_has_the_scores_of_its_clip(rotation, tmp_path):
    path = tmp_path / "it.mp4"
    path.write_bytes(encoded([texture(number) for number in range(6)], rotation=rotation))
    predictor = classifier(num_frames=6)
    session = StreamSession(predictor, half_life_s=inf)
    with FrameReader(VideoFile(path)) as reader:
        found = [session.see(frame.pixels, frame.time_s) for frame in reader]
    torch.testing.assert_close(found[-1].scores, predictor(path), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(found[-1].scores, found[-1].frame_scores, atol=1e-3)
    assert [each.number for each in found] == list(range(6)) and all(each.latency_ms > 0 for each in found)
    assert all(abs(float(each.scores.sum()) - 1) < 1e-9 for each in found)


def test_frames_are_cut_in_their_centre_and_stepped_through(predictor):
    frames = [texture(number) for number in range(3)]
    network, state = predictor.module.network, predictor.module.network.init_state(1, 32)
    for frame, prediction in zip(frames, seen(StreamSession(predictor), frames), strict=True):
        (crop,) = EvalTransform(32, 40)(torch.from_numpy(frame).permute(2, 0, 1)[None])
        with torch.inference_mode():
            logits, state = network.step(predictor.module.normalise(crop[:, :, None])[:, :, 0], state)
        torch.testing.assert_close(prediction.frame_scores, logits[0].double().softmax(0))
        torch.testing.assert_close(prediction.scores, prediction.frame_scores)


def same_as_anew(session_predictions, predictor, frames, first, **options):
    """Whether what was said from a frame on is what a new session says."""
    anew = seen(StreamSession(predictor, **options), frames[first:])
    return all(
        torch.allclose(one.scores, other.scores) and torch.allclose(one.frame_scores, other.frame_scores)
        for one, other in zip(session_predictions[first:], anew, strict=True)
    )


def test_a_change_of_scene_begins_anew_and_motion_does_not(predictor):
    rng = np.random.default_rng(0)
    one, other = texture(1), texture(2)
    noisy = [np.clip(one + rng.normal(0, 12, one.shape), 0, 255).astype(np.uint8) for _ in range(3)]
    frames = [*noisy, np.roll(one, 2, axis=1), other, other]
    session = StreamSession(predictor, half_life_s=inf, scene_change=0.12)
    found = seen(session, frames)
    assert [each.reset for each in found] == ["", "", "", "", "scene change", ""] and session.resets == 1
    assert same_as_anew(found, predictor, frames, 4, half_life_s=inf)
    without = StreamSession(predictor, half_life_s=inf)
    found = seen(without, frames)
    assert without.resets == 0 and not any(each.reset for each in found)
    assert not same_as_anew(found, predictor, frames, 4, half_life_s=inf)


def test_the_measure_of_change():
    black, white = (torch.full((1, 3, 40, 48), value, dtype=torch.uint8) for value in (0, 255))
    assert small_grey(white).shape == (32, 32) and small_grey(white[..., :8]).shape == (32, 8)
    assert frame_difference(small_grey(black), small_grey(white)) == pytest.approx(1)
    assert frame_difference(small_grey(white), small_grey(black)) == pytest.approx(1)
    green = black.clone()
    green[:, 1, :20] = 255
    assert frame_difference(small_grey(black), small_grey(green)) == pytest.approx(0.587 / 2, abs=0.01)
    for wrong in (0, 1, -0.1, float("nan")):
        with pytest.raises(ValueError, match="scene_change="):
            StreamSession(classifier(), scene_change=wrong)


def test_frames_of_another_size_begin_anew_with_a_note(predictor):
    frames = [texture(1), texture(2), texture(2, 96, 64), texture(3, 96, 64)]
    session = StreamSession(predictor, half_life_s=inf)
    found = seen(session, frames)
    assert [each.reset for each in found] == ["", "", "its picture changes from 64 x 48 to 64 x 96", ""]
    assert session.resets == 1 and same_as_anew(found, predictor, frames, 2, half_life_s=inf)


def test_a_cut_between_two_ticks_is_told_with_the_next_frame_taken(predictor):
    frames = [texture(number) for number in range(8)]
    session = StreamSession(predictor, half_life_s=inf, rate=Fraction(FPS, 4))
    found = seen(session, frames, cuts={3})
    assert [each is not None for each in found] == [True, False, True, False, False, False, True, False]
    assert found[2].reset == "" and found[6].reset == "lost" and session.resets == 1
    anew = StreamSession(predictor).see(frames[6], Fraction(0))
    torch.testing.assert_close(found[6].scores, anew.scores)
    assert session.frames == 8 and session.predictions == 3 and found[6].number == 2


def test_frames_between_two_ticks_leave_no_trace(predictor):
    frames = [texture(number) for number in range(4)]
    slow = seen(StreamSession(predictor, half_life_s=inf, rate=Fraction(FPS, 2)), frames)
    assert [each is None for each in slow] == [False, False, True, False]
    alone = StreamSession(predictor, half_life_s=inf)
    for number in (0, 1, 3):
        wanted = alone.see(frames[number], Fraction(number, FPS))
        torch.testing.assert_close(slow[number].scores, wanted.scores)


def test_two_way_networks_are_refused_with_what_to_train_instead():
    with pytest.raises(ValueError, match=r"^tsm_nano: .*--model.causal true.*experiments/causal") as refused:
        StreamSession(classifier(causal=False))
    assert str(refused.value).count("cannot run on a stream") == 1
    predictor = classifier()
    predictor.module.network = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"holds a Linear, which has no form for streams.*--model.causal true"):
        StreamSession(predictor)


def test_several_classifiers_say_every_combination(predictor):
    module = TSM("nano", None, causal=True)
    module._agree_with_tasks({"verb": ["take", "put"], "noun": ["cup", "pan", "lid"]})
    from kinema.training.restore import Predictor

    both = Predictor(module.eval(), predictor.clips)
    session = StreamSession(both, half_life_s=inf)
    last = seen(session, [texture(number) for number in range(3)])[-1]
    assert last.scores.shape == (6,) == (len(both.class_names),)
    assert float(last.scores.sum()) == pytest.approx(1)


def test_what_is_no_frame_is_refused(predictor):
    session = StreamSession(predictor)
    for wrong in (
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ):
        with pytest.raises(ValueError, match=r"\(H, W, 3\) of uint8"):
            session.see(wrong, Fraction(0))
    assert session.see(grey(3), Fraction(0)).scores.shape == (len(NAMES),)


def test_the_steps_of_the_readme_run():
    text = (REPOSITORY / "experiments" / "causal" / "README.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names = {}
    exec(program, names)
    assert len(names["steps"]) == 8 and names["logits"].shape == (1, 12)
