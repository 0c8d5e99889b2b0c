"""Predictions on one's own videos: files and folders, over time, in pictures, and from a checkpoint alone."""

import csv
import json
import os
import shutil
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from matplotlib.image import imread

import kinema
from kinema.benchmarks.exports import moved
from kinema.cli import main
from kinema.data.clips import EvalClips
from kinema.data.decoding import open_video
from kinema.data.decoding.frame_folder import FrameFolders
from kinema.data.motion.encoding import encode_mp4
from kinema.data.sampling import Dense, Segments, frame_scheme
from kinema.data.transforms import EvalTransform, Normalisation
from kinema.deployment.picture import draw_video
from kinema.deployment.prediction import (
    Guess,
    Prediction,
    as_facts,
    as_rows,
    best_guesses,
    curve_keys,
    find_videos,
    scores_over_time,
)
from kinema.explain.calibration import calibration_factors, variation
from kinema.explain.pictures import short_name
from kinema.training import TSM, TAda2D, TimeSformer, VideoClassifier
from kinema.training.restore import Predictor

from untrained import NAMES, make_module, moving, small_clips, without_numbers, write_checkpoint, write_video


@pytest.fixture(scope="module")
def clips():
    return small_clips()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, clips):
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "it.ckpt", make_module(), clips)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("videos") / "it.mp4")


@pytest.fixture
def predictor(checkpoint):
    return Predictor.from_checkpoint(checkpoint)


def called(*arguments, status=0):
    assert main(["predict", *map(str, arguments)]) == status


def test_names_of_classes_are_shown_as_they_are(clips, video, tmp_path, capsys):
    """Neither marks of rich nor of mathtext; names that two classes share lose no curve."""
    module = make_module()
    names = ["Putting [something] on [something]", "[/x] y", r"$\foo{$", r"$\foo{$"]
    module.class_names = names
    weights, file = write_checkpoint(tmp_path / "it.ckpt", module, clips), tmp_path / "it.json"
    called(video, "--checkpoint", weights, "--pictures", tmp_path / "pictures", "--json", file)
    told = capsys.readouterr().out
    assert all(name in told for name in names)
    found = json.loads(file.read_text())["videos"][0]
    assert imread(found["picture"]).std() > 0
    keys = {guess["id"]: guess.get("key", guess["class"]) for guess in found["top"]}
    assert keys == {0: names[0], 1: names[1], 2: rf"{names[2]} (2)", 3: rf"{names[2]} (3)"}
    curves = found["over_time"]["scores"]
    sums = np.sum(list(curves.values()), axis=0)
    assert set(curves) == set(keys.values()) and sums == pytest.approx(np.ones_like(sums))


def test_keys_of_curves_are_never_one():
    def keys(*names):
        return curve_keys([Guess(number, name, 0.5) for number, name in enumerate(names)])

    assert keys("a", "b") == ["a", "b"] and keys("a", "b", "a") == ["a (0)", "b", "a (2)"]
    assert len(set(keys("a", "a", "a (0)", "a (1)", "a (1)"))) == 5


def test_scores_that_are_no_numbers_are_an_error_of_the_video(clips, video, tmp_path, capsys, monkeypatch):
    weights = write_checkpoint(tmp_path / "it.ckpt", without_numbers(make_module()), clips)
    called(video, "--checkpoint", weights, "--json", tmp_path / "it.json", status=1)
    told = f"{video}: 4 of 4 scores are not finite numbers, so no class is named"
    assert told in capsys.readouterr().err
    (found,) = json.loads((tmp_path / "it.json").read_text())["videos"]
    assert found["error"].startswith(told) and "top" not in found
    other = shutil.copy(video, tmp_path / "other.mp4")  # of a batch the others are done
    weights = write_checkpoint(tmp_path / "good.ckpt", make_module(), clips)
    plain, seen = Predictor._scores, []

    def first_is_none(predictor, views):
        seen.append(1)
        return plain(predictor, views) * (float("inf") if len(seen) == 1 else 1)

    monkeypatch.setattr(Predictor, "_scores", first_is_none)
    called(video, other, "--checkpoint", weights, "--json", tmp_path / "it.json", status=1)
    first, second = json.loads((tmp_path / "it.json").read_text())["videos"]
    assert "error" in first and len(second["top"]) == 4 and "1 of 2 videos" in capsys.readouterr().err


def test_what_is_written_is_checked_before_anything_is_predicted(checkpoint, video, tmp_path, capsys):
    content = video.read_bytes()
    for arguments, told in (
        (["--json", tmp_path], f"--json {tmp_path} is a folder, and a file was needed"),
        (["--csv", tmp_path], "is a folder"),
        (["--json", tmp_path / "x", "--csv", tmp_path / "x"], "are one file; give each its own"),
        (["--json", video], "would be written over"),
    ):
        called(video, "--checkpoint", checkpoint, *arguments, status=1)
        assert told in capsys.readouterr().err
    assert video.read_bytes() == content


def test_a_file_and_a_folder_and_what_is_wrong_among_them(checkpoint, video, tmp_path, capsys, predictor):
    folder = tmp_path / "many" / "inner"
    folder.mkdir(parents=True)
    for name in ("b.mp4", "a.MP4"):
        shutil.copy(video, folder / name)
    (folder / "notes.txt").write_text("no video")
    (folder / "cut.mp4").write_bytes(video.read_bytes()[:300])
    json_file, csv_file = tmp_path / "all.json", tmp_path / "all.csv"
    sources = [video, tmp_path / "many", tmp_path / "gone.mp4", video]
    called(*sources, "--checkpoint", checkpoint, "--top", 2, "--json", json_file, "--csv", csv_file, status=1)
    told = capsys.readouterr()
    assert "2 of 5 videos could not be decoded" in told.err and "cut.mp4" in told.err and "gone.mp4" in told.err
    assert told.out.count("%") == 6 and "predicting" not in told.out
    found = json.loads(json_file.read_text())
    wanted = best_guesses(predictor(video), NAMES, 2)
    names = [each["video"].rpartition("/")[2] for each in found["videos"]]
    assert names == ["it.mp4", "a.MP4", "b.mp4", "cut.mp4", "gone.mp4"]
    for each in found["videos"][:3]:
        assert [guess["class"] for guess in each["top"]] == [guess.name for guess in wanted]
        assert [guess["score"] for guess in each["top"]] == pytest.approx([guess.score for guess in wanted])
    assert all("error" in each and "top" not in each for each in found["videos"][3:])
    assert found["model"] == "tsm_nano" and found["checkpoint"] == str(checkpoint)
    rows = list(csv.DictReader(csv_file.read_text().splitlines()))
    assert [(row["rank"], row["class"]) for row in rows[:2]] == [("1", wanted[0].name), ("2", wanted[1].name)]
    assert len(rows) == 3 * 2 + 2 and rows[-1]["error"] and not rows[-1]["class"]


def test_names_that_are_no_utf8_are_written_with_their_bytes(checkpoint, video, tmp_path, capfd):
    good = shutil.copy(video, tmp_path / os.fsdecode(b"it\xff.mp4"))
    bad = tmp_path / os.fsdecode(b"\xe9t\xe9.mp4")
    bad.write_text("no video")
    files = ["--json", tmp_path / "it.json", "--csv", tmp_path / "it.csv", "--pictures", tmp_path / "pictures"]
    assert main(["predict", *map(str, [good, bad, "--checkpoint", checkpoint, *files])]) == 1
    told = capfd.readouterr()
    assert f"{tmp_path}/it\\xff.mp4" in told.out and "\\xe9t\\xe9.mp4" in told.err
    first, second = json.loads((tmp_path / "it.json").read_text(encoding="utf-8"))["videos"]
    assert first["video"] == f"{tmp_path}/it\\xff.mp4" and first["picture"].endswith("it\\xff.png")
    assert second["video"] == f"{tmp_path}/\\xe9t\\xe9.mp4" and "\\xe9t\\xe9.mp4" in second["error"]
    rows = list(csv.DictReader((tmp_path / "it.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[0]["video"] == first["video"] and rows[-1]["error"] == second["error"]
    (picture,) = (tmp_path / "pictures").iterdir()
    assert os.fsencode(picture.name) == b"it\xff.png"


def test_frames_too_narrow_are_told_with_the_name_of_the_video(checkpoint, tmp_path, capsys):
    path = tmp_path / "strip.mp4"
    path.write_bytes(encode_mp4(moving(8, height=2048, width=32), intra_only=True))
    called(path, "--checkpoint", checkpoint, status=1)
    assert f"kinema: {path}: its frames of 32 x 2048 pixels are more than 32 times" in capsys.readouterr().err


def test_json_and_csv_on_the_output_and_nothing_else(checkpoint, video, capsys):
    called(video, "--checkpoint", checkpoint, "--json", "-")
    assert len(json.loads(capsys.readouterr().out)["videos"]) == 1
    called(video, "--checkpoint", checkpoint, "--csv", "-", "--top", 99)
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(NAMES)


def test_scores_over_time_are_those_of_the_windows(predictor, video):
    timeline = scores_over_time(predictor, video, num_windows=5)
    assert timeline.times == pytest.approx((0.5, 0.75, 1.0, 1.25, 1.5)) and timeline.window_s == 1
    torch.testing.assert_close(timeline.scores.sum(dim=1), torch.ones(5, dtype=torch.float64))
    assert timeline.note == "windows of 1 s; the network learnt clips of whole videos, here of 2 s"
    whole = scores_over_time(predictor, video, seconds=60)
    assert whole.note == ""
    torch.testing.assert_close(whole.scores[0], predictor(video))
    assert not torch.allclose(timeline.scores[0], timeline.scores[-1], atol=1e-3), "the video changes, and so do scores"
    facts = as_facts(Prediction("it", predictor(video), timeline=timeline), NAMES, 2)["over_time"]
    best = best_guesses(predictor(video), NAMES, 1)[0]
    assert facts["scores"][best.name] == timeline.scores[:, best.id].tolist() and len(facts["scores"]) == 2


def test_what_is_damaged_between_is_told_beside_the_scores(predictor, checkpoint, video, tmp_path, monkeypatch, capsys):
    from kinema.data.decoding import DecodeError
    from kinema.deployment import prediction

    def damaged(*arguments, **options):
        raise DecodeError("frame 7 cannot be decoded")

    monkeypatch.setattr(prediction, "scores_over_time", damaged)
    called(video, "--checkpoint", checkpoint, "--over-time", "--json", tmp_path / "it.json", status=1)
    (found,) = json.loads((tmp_path / "it.json").read_text())["videos"]
    assert found["error"] == "frame 7 cannot be decoded" and len(found["top"]) == 4
    assert capsys.readouterr().out.count("%") == 4


def test_guesses_of_equal_scores_and_more_than_there_are():
    guesses = best_guesses(torch.tensor([0.25, 0.5, 0.25, 0.0]), NAMES, 9)
    assert [guess.id for guess in guesses] == [1, 0, 2, 3] and guesses[0].name == "rising"
    assert as_rows(Prediction("x", error="why"), NAMES, 2) == [("x", "", "", "", "", "why")]


def test_pictures_of_many_videos_with_the_same_name(checkpoint, video, tmp_path):
    for folder in ("a", "b", "c/b"):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(video, tmp_path / folder / "it.mp4")
    pictures = tmp_path / "new" / "pictures"
    called(tmp_path, "--checkpoint", checkpoint, "--pictures", pictures, "--windows", 2)
    assert sorted(file.name for file in pictures.iterdir()) == ["b-it.png", "it-2.png", "it.png"]
    pixels = imread(pictures / "it.png")
    assert pixels.shape[0] > 200 and pixels.shape[1] > 600 and pixels[..., :3].std() > 0.05


@pytest.mark.parametrize(
    ("module", "labels"),
    [
        (TSM("nano", 4), ["frames", "speaks for"]),
        (TAda2D("nano", 4, num_frames=4), ["frames", "speaks for", "factors"]),
        (TimeSformer("nano", 4, num_frames=4, image_size=32), ["frames", "speaks for", "attention"]),
    ],
)
def test_what_the_operator_looked_at(module, labels, video, clips):
    torch.manual_seed(0)
    torch.nn.init.normal_(module.network.head.fc.weight)
    predictor = Predictor(module.eval(), clips)
    figure = draw_video(predictor, video, predictor(video), scores_over_time(predictor, video, num_windows=3), top=2)
    told = [axis.get_ylabel() for axis in figure.axes]
    assert [label for label in told if label != "score"] == [label for label in told if label.startswith(tuple(labels))]
    assert len(told) == len(labels) + 1
    (curves,) = [axis for axis in figure.axes if axis.get_ylabel() == "score"]
    assert len([line for line in curves.lines if len(line.get_xdata()) == 3]) == 2
    marked = sorted(float(np.ravel(line.get_xdata())[0]) for line in curves.lines if line.get_color() == "0.85")
    assert marked == pytest.approx([0.24, 0.72, 1.24, 1.72])  # frames 6, 18, 31 and 43 of 25 a second


def test_seconds_are_those_of_the_file_where_its_rate_varies(tmp_path):
    """Dark for 5 s at 10 frames a second, then bright for 4 s at one."""
    path = tmp_path / "slowing.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=10, options={"bf": "0", "g": "1"})
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.time_base = 64, 48, "yuv420p", Fraction(1, 10)
        for tick in [*range(50), *range(50, 91, 10)]:
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 if tick < 50 else 230, np.uint8))
            frame.pts, frame.time_base = tick, Fraction(1, 10)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    module = make_module()
    module.forward = lambda clip: torch.stack([-9 * (b := clip.mean((1, 2, 3, 4))), 9 * b, b * 0, b * 0], 1)
    for scheme in (Segments(4), Dense(2, 1)):
        predictor = Predictor(module, EvalClips(scheme, EvalTransform(32, 40)))
        timeline = scores_over_time(predictor, path, num_windows=40)
        bright = [second for second, row in zip(timeline.times, timeline.scores, strict=True) if row[1] > 0.5]
        assert bright[0] == pytest.approx(5.5, abs=0.6) and bright[-1] == timeline.times[-1] > 8
        assert timeline.note == "" or isinstance(scheme, Segments)
    figure = draw_video(predictor, path, predictor(path), timeline)
    (curves,) = [axis for axis in figure.axes if axis.get_ylabel() == "score"]
    marked = sorted(float(np.ravel(line.get_xdata())[0]) for line in curves.lines if line.get_color() == "0.85")
    with open_video(path) as video:
        assert marked == pytest.approx(
            [float(video.timestamps[index]) for index in predictor.clips(path)[0].clip.indices]
        )


def test_the_layer_whose_factors_vary_most_is_drawn(video, clips):
    module = TAda2D("nano", 4, num_frames=4).eval()
    module.network = moved(module.network)  # routers start where nothing varies
    predictor = Predictor(module, clips)
    factors = calibration_factors(module.network, module.normalise(clips(video)[0].pixels[None]))
    most = max(factors, key=lambda each: variation([each])[0].over_time)
    figure = draw_video(predictor, video, predictor(video), scores_over_time(predictor, video, num_windows=1))
    assert figure.axes[-1].get_ylabel().endswith(short_name(most.layer))


def test_a_checkpoint_taken_out_of_its_run_says_how_clips_are_cut(checkpoint, clips, predictor, video):
    assert predictor.clips.facts() == clips.facts() and predictor.notes == ()
    assert predictor.class_names == NAMES
    direct = Predictor(make_module(), clips)
    torch.testing.assert_close(predictor(video), direct(video))


@pytest.mark.parametrize(
    "scheme",
    [
        Segments(8),
        Dense(8, 4, "repeat_last", 12.5),
        frame_scheme("segment", 8, rounding="uniformer"),
        frame_scheme("dense", 8, 4, rounding="tada", target_fps=30),
    ],
)
def test_every_way_to_cut_clips_survives_a_checkpoint(scheme, tmp_path):
    clips = EvalClips(scheme, EvalTransform(32, 40, 3), kind="constant_clips_per_video", num_clips=4)
    torch.save(clips.facts(), tmp_path / "facts")
    again = EvalClips.from_facts(torch.load(tmp_path / "facts", weights_only=True))
    assert (again.scheme, again.transform, again.kind, again.num_clips) == (scheme, clips.transform, clips.kind, 4)


def test_an_older_checkpoint_shows_numbers_and_says_why(tmp_path, video, capsys, clips):
    old = write_checkpoint(tmp_path / "old.ckpt", make_module(), clips, class_names=None)
    called(video, "--checkpoint", old)
    told = capsys.readouterr()
    assert "old.ckpt was written without the names of its classes" in told.err
    assert not any(name in told.out for name in NAMES)
    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n\n")
    called(video, "--checkpoint", old, "--classes", tmp_path / "names.txt")
    told = capsys.readouterr()
    assert all(name in told.out for name in NAMES) and not told.err
    (tmp_path / "names.txt").write_text("one")
    called(video, "--checkpoint", old, "--classes", tmp_path / "names.txt", status=1)
    assert "names 1 classes and the classifier has 4" in capsys.readouterr().err


def test_a_checkpoint_that_knows_nothing_of_clips_must_be_told(tmp_path, video, capsys, predictor):
    old = write_checkpoint(tmp_path / "old.ckpt", make_module())
    called(video, "--checkpoint", old, status=1)
    assert "older than checkpoints that say how clips are cut" in capsys.readouterr().err
    told = ["--num-frames", "4", "--size", "32", "--resize", "40", "--json", tmp_path / "it.json"]
    called(video, "--checkpoint", old, *told)
    (found,) = json.loads((tmp_path / "it.json").read_text())["videos"]
    assert found["top"][0]["score"] == pytest.approx(float(predictor(video).max()))


def test_weights_of_other_code_by_the_name_of_their_network(tmp_path, video, capsys):
    """The layout of TSM's authors: their names, behind a DataParallel; their normalisation; classes by a list."""
    module = make_module()
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in module.network.state_dict().items()}},
        tmp_path / "w.pth",
    )
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    arguments = [video, "--checkpoint", tmp_path / "w.pth", "--model", "tsm_nano", "--num-frames", "4", "--size", "32"]
    arguments += [
        "--resize",
        "40",
        "--mean",
        "0.4",
        "0.5",
        "0.6",
        "--std",
        "0.2",
        "0.25",
        "0.3",
        "--json",
        tmp_path / "it.json",
    ]
    called(*arguments, "--classes", tmp_path / "names.txt")
    clips = EvalClips(Segments(4), EvalTransform(32, 40))
    wanted = best_guesses(Predictor(module, clips)(video), NAMES, 4)
    (found,) = json.loads((tmp_path / "it.json").read_text())["videos"]
    assert [guess["class"] for guess in found["top"]] == [guess.name for guess in wanted]
    assert [guess["score"] for guess in found["top"]] == pytest.approx([guess.score for guess in wanted], rel=1e-4)
    capsys.readouterr()
    called(*arguments, "--num-classes", "4")
    assert "weights hold no class names" in capsys.readouterr().err
    called(*arguments, status=1)  # 400 classes, which these weights have not
    assert "400" in capsys.readouterr().err


def test_blue_first_and_names_for_every_class(tmp_path):
    clips, weights = EvalClips(Segments(4), EvalTransform(32)), tmp_path / "weights.pth"
    torch.save(kinema.create_model("tsm_nano", 4, 4).state_dict(), weights)
    first = Predictor.from_weights(weights, "tsm_nano", 4, clips, normalisation=Normalisation(bgr=True))
    assert first.module.normalise.bgr and isinstance(first.module, VideoClassifier)
    with pytest.raises(ValueError, match="3 class names were given for num_classes=4"):
        Predictor.from_weights(weights, "tsm_nano", 4, clips, class_names=NAMES[:3])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give --run RUN, or --checkpoint FILE"),
        (["--run", "x", "--checkpoint", "y.ckpt"], "takes 'last' or 'best'"),
        (["--run", "x", "--model", "tsm_nano"], "--model was given, and a run says it itself"),
        (["--run", "x", "--size", "32"], "--size was given"),
        (
            ["--checkpoint", "CKPT", "--mean", "0", "0", "0"],
            "--mean was given, and a checkpoint of kinema says it itself",
        ),
        (["--checkpoint", "CKPT", "--top", "0"], "at least 1"),
        (["--checkpoint", "CKPT", "--windows", "0"], "at least 1"),
        (["--checkpoint", "CKPT", "--device", "toaster"], "names no device"),
        (["--checkpoint", "CKPT", "--sampling", "dense", "--window-seconds", "1"], "stride says how long they are"),
        (["--checkpoint", "CKPT", "--window-seconds", "0"], "is no length"),
        (["--checkpoint", "CKPT", "--json", "-", "--csv", "-"], "would mix"),
        (["--checkpoint", "CKPT", "--json", "none/x.json"], "there is no folder"),
    ],
)
def test_options_that_contradict_one_another(arguments, told, checkpoint, video, capsys):
    called(video, *[checkpoint if each == "CKPT" else each for each in arguments], status=1)
    assert told in capsys.readouterr().err


def test_which_videos_are_meant(tmp_path):
    with pytest.raises(ValueError, match="holds no video"):
        find_videos([tmp_path])
    (tmp_path / "b.webm").touch()
    (tmp_path / "a.mp4").touch()
    (tmp_path / "c.mp4").mkdir()
    names = [path.name for path in find_videos([tmp_path, tmp_path / "a.mp4", tmp_path / "none.txt"])]
    assert names == ["a.mp4", "b.webm", "none.txt"]


def test_folders_of_pictures_are_videos_where_the_run_had_such(tmp_path, video):
    from PIL import Image

    for name in ("one", "two"):
        (tmp_path / "all" / name).mkdir(parents=True)
        for number, frame in enumerate(moving(6), 1):
            Image.fromarray(frame).save(tmp_path / "all" / name / f"{number:05d}.jpg")
    found = find_videos([tmp_path / "all"], pictures=True)
    assert [path.name for path in found] == ["one", "two"]
    assert find_videos([tmp_path / "all" / "one"], pictures=True) == [tmp_path / "all" / "one"]
    clips = EvalClips(Segments(4), EvalTransform(32), cache=FrameFolders("{:05d}.jpg", 12))
    predictor = Predictor(make_module(), clips)
    assert predictor(found[0]).shape == (4,), "a folder of pictures"
    assert predictor(video).shape == (4,), "and a file too"
    assert scores_over_time(predictor, found[0], num_windows=2).scores.shape == (2, 4)


def test_several_classifiers_name_every_combination(clips, video):
    module = TSM("nano", None)
    module._agree_with_tasks({"verb": ["take", "put"], "noun": ["cup", "pan", "lid"]})
    predictor = Predictor(module.eval(), clips)
    assert predictor.class_names[4] == "put pan" and predictor(video).shape == (6,)
    figure = draw_video(predictor, video, predictor(video), scores_over_time(predictor, video, num_windows=2))
    assert [axis.get_ylabel() for axis in figure.axes] == ["frames", "score"]


def test_a_video_of_one_frame(predictor, tmp_path):
    path = tmp_path / "one.mp4"
    path.write_bytes(encode_mp4(moving(1), intra_only=True))
    timeline = scores_over_time(predictor, path)
    assert len(timeline.times) == 1 and predictor(path).shape == (4,)


def test_weights_of_a_run_that_has_not_ended_say_so(tmp_path, clips, video, capsys):
    def written(name, epoch, processed):
        path = write_checkpoint(tmp_path / "checkpoints" / name, make_module(), clips)
        progress = {"fit_loop": {"epoch_progress": {"current": {"processed": processed}}}}
        torch.save(torch.load(path, weights_only=True) | {"epoch": epoch, "loops": progress}, path)
        return path

    (tmp_path / "checkpoints").mkdir()
    data = "{class_path: kinema.data.datasets.MotionData, init_args: {num_frames: 4, size: 32}}"
    (tmp_path / "config.yaml").write_text(f"trainer: {{max_epochs: 6}}\ndata: {data}\n")
    last = written("last.ckpt", 4, 4)  # in the middle of the fifth epoch
    called(video, "--run", tmp_path, "--json", tmp_path / "it.json")
    told = "training has not ended, it has done 4 of 6 epochs; last.ckpt holds the weights behind epoch 4"
    assert told in capsys.readouterr().err and json.loads((tmp_path / "it.json").read_text())["notes"] == [told]
    best = written("best.ckpt", 1, 2)
    assert "4 of 6 epochs; best.ckpt holds the weights behind epoch 2" in Predictor.from_checkpoint(best).notes[0]
    written("last.ckpt", 5, 6)
    assert Predictor.from_checkpoint(last).notes == Predictor.from_checkpoint(best).notes == ()


def test_windows_shorter_than_in_training_are_told(checkpoint, video, tmp_path, capsys):
    pictures = ["--pictures", tmp_path]
    called(video, "--checkpoint", checkpoint, "--over-time", "--windows", 2, "--json", tmp_path / "it.json", *pictures)
    told = "windows of 1 s; the network learnt clips of whole videos, here of 2 s"
    found = json.loads((tmp_path / "it.json").read_text())
    assert found["notes"] == [f"{video}: {told}"] and found["videos"][0]["over_time"]["note"] == told
    assert told in capsys.readouterr().err
    for stride, note in ((10, ""), (20, "windows of 2 s; the network learnt clips of 3.2 s")):
        dense = Predictor(make_module(), EvalClips(Dense(4, stride), EvalTransform(32, 40)))
        timeline = scores_over_time(dense, video, num_windows=2)
        assert timeline.note == note
        figure = draw_video(dense, video, dense(video), timeline)
        assert any(axis.get_xlabel() == (f"seconds ({note})" if note else "seconds") for axis in figure.axes)


def test_videos_that_are_not_there_are_told_before_anything_is_loaded(tmp_path, capsys):
    called("nosuch.mp4", "--checkpoint", tmp_path / "none.ckpt", status=1)
    told = capsys.readouterr().err
    assert "there is no file or folder nosuch.mp4" in told and "none.ckpt" not in told
