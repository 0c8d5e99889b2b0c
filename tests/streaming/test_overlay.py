"""Overlay videos can be read again, show what was said, keep their times, and are whole at any moment."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from kinema.data.decoding import open_video
from kinema.deployment.prediction import Guess
from kinema.streaming.overlay import OverlayVideo, drawn

from cameras import grey


def blue(picture):
    """Pixels of the bar."""
    pixels = np.asarray(picture).astype(int)
    return int((abs(pixels - (86, 180, 233)).max(axis=2) < 40).sum())


def test_the_bar_is_as_long_as_the_score_and_words_fit():
    picture = Image.fromarray(grey(10, 288, 384))
    shares = [blue(drawn(picture, [Guess(0, "rising", score)], "1.00 s")) for score in (0.0, 0.25, 0.5, 1.0)]
    assert shares[3] > 1000 and shares[2] / shares[3] == pytest.approx(0.5, abs=0.02)
    assert shares[1] / shares[3] == pytest.approx(0.25, abs=0.02) and shares[0] < 0.01 * shares[3]
    assert np.array_equal(np.asarray(picture), grey(10, 288, 384)), "the frame itself stays as it is"
    one, other = (np.asarray(drawn(picture, [Guess(0, name, 0.5)], "")) for name in ("rising", "falling"))
    assert not np.array_equal(one, other)
    long = np.asarray(drawn(picture, [Guess(0, "pretending to put something\nonto something " * 3, 0.5)], "1.00 s"))
    plain = np.asarray(drawn(picture, [], "1.00 s"))
    assert np.array_equal(long[250:266, 330:384], plain[250:266, 330:384]), "the time is not written over"
    noted = np.asarray(drawn(picture, [], "", "scene change"))
    assert not np.array_equal(noted[:20], np.asarray(picture)[:20])


def test_frames_come_back_with_their_times_enlarged_and_labelled(tmp_path):
    times = [Fraction(0), Fraction(1, 30), Fraction(1, 2), Fraction(1, 2), Fraction(3)]
    overlay = OverlayVideo(tmp_path / "it.mp4")
    for number, time_s in enumerate(times):
        overlay.write(grey(10), time_s, [Guess(0, "rising", number / 4)])
    overlay.close()
    overlay.close()
    with open_video(tmp_path / "it.mp4") as video:
        assert (video.height, video.width, video.num_frames) == (288, 384, 5)
        assert [float(time_s) for time_s in video.timestamps] == pytest.approx(
            [0, 1 / 30, 0.5, 0.5 + 1 / 90_000, 3], abs=2e-5
        )
        shown = [blue(frame.permute(1, 2, 0).numpy()) for frame in video.decode(range(5))]
    assert shown == sorted(shown) and shown[4] > 3 * shown[1] > 0


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((1081, 1921), (720, 1280)), ((33, 47), (288, 410)), ((480, 640), (480, 640)), ((900, 20), (900, 20))],
)
def test_sizes(size, wanted, tmp_path):
    overlay = OverlayVideo(tmp_path / "it.mp4")
    overlay.write(np.zeros((*size, 3), np.uint8), Fraction(0), [Guess(0, "rising", 0.5)])
    overlay.close()
    with open_video(tmp_path / "it.mp4") as video:
        assert (video.height, video.width) == wanted


def test_another_size_is_fitted_into_the_first(tmp_path):
    overlay = OverlayVideo(tmp_path / "it.mp4")
    overlay.write(grey(10, 300, 400), Fraction(0), [])
    overlay.write(grey(50, 300, 100), Fraction(1), [])
    overlay.close()
    with open_video(tmp_path / "it.mp4") as video:
        first, second = video.decode([0, 1])[:, :, 100].float().mean(1)
    assert abs(first - 60).max() < 6
    assert second[:145].max() < 16 and second[255:].max() < 16 and abs(second[160:240] - 220).max() < 8


def test_a_file_is_whole_before_it_is_finished(tmp_path):
    path = tmp_path / "it.mp4"
    overlay = OverlayVideo(path)
    for number in range(130):
        overlay.write(grey(number % 50), Fraction(number, 25), [Guess(0, "rising", 0.5)])
    (tmp_path / "copy.mp4").write_bytes(path.read_bytes())
    overlay.close()
    with open_video(tmp_path / "copy.mp4") as early, open_video(path) as late:
        assert 50 <= early.num_frames < late.num_frames == 130


def test_without_a_frame_there_is_no_file_and_names_are_checked(tmp_path):
    OverlayVideo(tmp_path / "it.mp4").close()
    assert not list(tmp_path.iterdir())
    for wrong in (tmp_path / "it.avi", tmp_path / "none" / "it.mp4"):
        with pytest.raises(ValueError, match="cannot be written; give a file"):
            OverlayVideo(wrong)
