"""kinema localize with a localizer that says what it is told to: what is reported, and what does not stop the rest."""

from types import SimpleNamespace

import pytest

from kinema.localization.inference import BrokenMapsError
from kinema.localization.segment_files import FoundSegment
from kinema.training.localizer import Localizer


@pytest.fixture
def localize(cli, tmp_path, monkeypatch):
    """Call the command on videos a, b, c; `says` finds what happens in each."""
    videos = [tmp_path / f"{name}.mp4" for name in "abc"]
    for path in videos:
        path.touch()

    class Told:
        def __init__(self):
            self.facts = {}

        def __call__(self, path, **options):
            return SimpleNamespace(duration=9.0), call.says(path)

        def notes(self, file, segments):
            return []

    def of_runs(*arguments, **options):
        call.given = (arguments, options)
        return Told()

    def call(*options, status=0):
        where = ["--classifier", "c", "--localizer", "l", "--output", tmp_path / "out"]
        cli("localize", *videos, *where, *options, config=None, status=status)
        return cli.output

    monkeypatch.setattr(Localizer, "of_runs", of_runs)
    call.says = lambda path: [FoundSegment(1.0, 2.0, "run", 0.5)]
    call.out = tmp_path / "out"
    return call


def test_a_video_of_which_the_network_says_nonsense_is_reported_and_the_others_are_done(localize):
    def says(path):
        if path.stem == "b":
            raise BrokenMapsError("b: what the network says of 'confidence' is not finite")
        return [FoundSegment(1.0, 2.0, "run", 0.5)]

    localize.says = says
    output = localize(status=1)
    assert "kinema: b: what the network says of 'confidence' is not finite" in output.err
    assert "1 of 3 videos have no segments" in output.err and "c.mp4: 1 segments" in output.out
    assert (localize.out / "a.json").is_file() and not (localize.out / "b.json").exists()
