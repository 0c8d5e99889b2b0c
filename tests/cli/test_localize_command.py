"""kinema localize with a localizer that says what it is told to: what is reported, and what does not stop the rest."""

import json
import os
from types import SimpleNamespace

import pytest
import torch

from kinema.cli import localize as command
from kinema.cli import main
from kinema.localization.inference import BrokenMapsError
from kinema.localization.segment_files import FoundSegment
from kinema.training.bmn import BMN
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
        cli("localize", *call.videos, *where, *options, config=None, status=status)
        return cli.output

    def load(options):
        call.asked = (options.run, options.checkpoint, options.model)
        return SimpleNamespace(notes=["its training has not ended"])

    monkeypatch.setattr(Localizer, "of_runs", of_runs)
    call.videos, call.load = videos, command.load_predictor
    monkeypatch.setattr(command, "load_predictor", load)
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


def test_names_that_are_no_utf8_are_written_with_their_bytes(localize, tmp_path):
    path = tmp_path / os.fsdecode(b"it\xff.mp4")
    path.touch()

    def says(path):
        if path.stem == "b":
            raise BrokenMapsError(os.fsdecode(b"x\xfe: not finite"))
        return [FoundSegment(1.0, 2.0, "run", 0.5)]

    localize.says = says
    localize.videos.append(path)
    output = localize(status=1)
    assert "it\\xff.mp4: 1 segments" in output.out and "x\\xfe" in output.err
    named = {os.fsencode(file.name): file for file in localize.out.iterdir() if b"it" in os.fsencode(file.name)}
    assert set(named) == {b"it\xff." + kind for kind in (b"json", b"csv", b"png", b"html")}
    assert json.loads(named[b"it\xff.json"].read_text(encoding="utf-8"))["video"] == "it\\xff.mp4"
    page = named[b"it\xff.html"].read_text(encoding="utf-8")
    assert "<h1>it\\xff.mp4</h1>" in page and 'src="./../it%FF.mp4"' in page


def test_a_classifier_is_a_run_a_checkpoint_or_weights(localize, tmp_path):
    assert "note: its training has not ended" in localize().err and localize.asked == ("c", "last", None)
    localize("--which", "best")
    assert localize.asked == ("c", "best", None)
    (tmp_path / "alone.ckpt").touch()
    localize("--classifier", tmp_path / "alone.ckpt", "--model", "tsm_nano")
    assert localize.asked == (None, str(tmp_path / "alone.ckpt"), "tsm_nano")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
@pytest.mark.parametrize(
    "options, text",
    [
        (["--batch-size", 0], "--batch-size 0 puts nothing through the network; give 1 or more"),
        (["--device", "gpu"], "--device gpu names no device; give cpu"),
        (["--device", "cuda"], "PyTorch finds no GPU here; leave it out for the CPU"),
        (["--bgr"], "--bgr was given, and a run says it itself"),
    ],
)
def test_options_that_cannot_be_are_refused(localize, monkeypatch, options, text):
    monkeypatch.setattr(command, "load_predictor", localize.load)
    assert text in localize(*options, status=1).err


def annotated(path, *names):
    entry = {"duration": 9.0, "subset": "validation", "annotations": [{"label": "run", "segment": [1, 2]}]}
    path.write_text(json.dumps({"database": dict.fromkeys(names, entry)}))
    return path


def test_annotations_of_other_videos_are_refused(localize, tmp_path):
    output = localize("--annotations", annotated(tmp_path / "x.json", "v_a", "v_b"), status=1)
    assert "has 2 videos, such as v_a, and none of those given, such as a; names must be equal" in output.err
    output = localize("--annotations", annotated(tmp_path / "x.json", "a"))
    assert "x.json does not have b, c" in output.err


def test_a_localizer_out_of_its_run_needs_its_features(tmp_path, monkeypatch):
    monkeypatch.setattr(BMN, "from_run", lambda *arguments, **options: None)
    (tmp_path / "loc.ckpt").touch()
    with pytest.raises(FileNotFoundError, match=r"taken out of its run.*say with --features in which folder"):
        Localizer.of_runs("c", tmp_path / "loc.ckpt")
    inside = tmp_path / "run" / "checkpoints" / "last.ckpt"
    inside.parent.mkdir(parents=True)
    inside.touch()
    (tmp_path / "run" / "config.yaml").write_text(f"data: {{init_args: {{root: {tmp_path / 'gone'}}}}}")
    with pytest.raises(FileNotFoundError, match=r"features in .*gone, which are not there; say where they lie"):
        Localizer.of_runs("c", inside)


def test_a_file_that_is_no_localizer_is_told(tmp_path):
    (tmp_path / "x.ckpt").write_bytes(b"weights")
    with pytest.raises(ValueError, match=r"x.ckpt is no checkpoint of kinema; give a run of BMN"):
        BMN.from_run(tmp_path / "x.ckpt")


def test_features_of_no_batch_are_refused(cli, tmp_path):
    (tmp_path / "a.mp4").touch()
    cli("features", tmp_path, "--run", "r", "--output", tmp_path, "--batch-size", 0, config=None, status=1)
    assert "--batch-size 0 puts nothing" in cli.output.err


@pytest.mark.parametrize("command", ["features", "localize", "stream"])
@pytest.mark.parametrize("option", ["--num-clips", "--num-crops"])
def test_what_slides_takes_no_number_of_views_that_it_would_not_heed(command, option, capsys):
    needed = {"localize": ["--classifier", "c", "--localizer", "l", "--output", "o"], "features": ["--output", "o"]}
    with pytest.raises(SystemExit):
        main([command, "a.mp4", *needed.get(command, []), option, "3"])
    assert f"unrecognized arguments: {option} 3" in capsys.readouterr().err
