"""Features of whole videos: those of each clip by itself, in order, with their seconds; resumed, never half."""

import json
import os
import random
import weakref
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import kinema
from kinema.cli import features as command
from kinema.cli import main
from kinema.data.decoding import DecodeError, open_video
from kinema.data.decoding.frame_clock import FrameClock
from kinema.data.decoding.frame_folder import FrameFolders
from kinema.data.motion.encoding import encode_mp4
from kinema.data.motion.scenes import LEVELS, draw_clip
from kinema.data.sampling import draw_clips, frame_scheme
from kinema.data.transforms import EvalTransform, Normalisation, Normalise
from kinema.data.untrimmed.clip_grid import ClipGrid
from kinema.data.untrimmed.feature_files import FeatureError, read
from kinema.localization import extraction
from kinema.localization.extraction import ClassifierFeatures, extract, extract_all, read_facts
from kinema.training.extractor import Extractor, _interval

GRID = ClipGrid(4, 2, 3)
TRANSFORM = EvalTransform(16, 20)


class Means(nn.Module):
    """Sees the mean of each colour in each frame, less half of the next; two or more classifiers that weigh them."""

    def __init__(self, sizes=(5,)):
        super().__init__()
        self.weights = [torch.linspace(-1, 1, 3 * size).reshape(3, size) for size in sizes]
        self.batches = []

    def forward_features(self, clip):
        self.batches.append(len(clip))
        values = 10 * clip.mean(dim=(3, 4)).transpose(1, 2)
        return values - 0.5 * values.roll(-1, 1)  # whole differences would add up to nothing

    def head(self, features):
        logits = tuple((features @ weight).mean(1) + 1 for weight in self.weights)
        return logits if len(logits) > 1 else logits[0]


def write_clip(path, num_frames=26, seed=0):
    frames = draw_clip(np.random.default_rng(seed), "move_left", LEVELS["easy"], num_frames)
    path.write_bytes(encode_mp4(frames, intra_only=False))
    return path


@pytest.fixture
def video(tmp_path):
    return write_clip(tmp_path / "video.mp4")


def embedding(sizes=(5,), **options):
    return ClassifierFeatures(Means(sizes), Normalise(Normalisation()), **options)


def one_by_one(path, transform, grid=GRID, sizes=(5,)):
    """Decode and embed each crop of each clip by itself."""
    network, normalise, rows = Means(sizes), Normalise(Normalisation()), []
    with open_video(path) as opened:
        for numbers in grid.over(opened).frames.tolist():
            crops = transform(opened.decode(numbers))
            rows.append([network.forward_features(normalise(crop.transpose(0, 1)[None])) for crop in crops])
    return network, rows


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_they_are_those_of_each_clip_by_itself(video, batch_size):
    file = extract(video, embedding(), GRID, TRANSFORM, batch_size=batch_size, model="means", commit="abc")
    network, rows = one_by_one(video, TRANSFORM)
    torch.testing.assert_close(file.features, torch.cat([row[0].mean(1) for row in rows]))
    torch.testing.assert_close(file.logits, torch.cat([network.head(row[0]) for row in rows]))
    assert (file.video, file.model, file.commit) == ("video", "means", "abc")
    assert (file.fps, file.stride, file.clip_frames, file.duration) == (25, 3, 8, 26 / 25)
    with open_video(video) as opened:
        places = GRID.over(opened)
    for name in ("starts", "centers", "ends"):
        assert getattr(file, name).tolist() == getattr(places, name).tolist()


def test_crops_stand_side_by_side_and_their_probabilities_are_averaged(video):
    transform = EvalTransform(16, 24, 3)
    file = extract(video, embedding(), GRID, transform, batch_size=4)
    network, rows = one_by_one(video, transform)
    wanted = torch.stack([torch.cat([crop.mean(1)[0] for crop in row]) for row in rows])
    assert file.features.shape == (len(rows), 9)
    torch.testing.assert_close(file.features, wanted)
    mean = torch.stack([torch.stack([network.head(crop)[0].softmax(0) for crop in row]).mean(0) for row in rows])
    torch.testing.assert_close(file.logits.softmax(1), mean)


def test_a_verb_and_a_noun(video):
    file = extract(video, embedding((5, 7), tasks=["verb", "noun"]), GRID, TRANSFORM)
    assert file.tasks == ["verb", "noun"] and file.logits["noun"].shape == (len(file), 7)
    network, rows = one_by_one(video, TRANSFORM, sizes=(5, 7))
    torch.testing.assert_close(file.logits["noun"], torch.cat([network.head(row[0])[1] for row in rows]))
    with pytest.raises(ValueError, match=r"2 classifiers and 1 names"):
        extract(video, embedding((5, 7), tasks=["verb"]), GRID, TRANSFORM)


def test_a_batch_of_nothing_is_refused(video):
    with pytest.raises(ValueError, match="batch_size=0 puts nothing through the network; give 1 or more"):
        extract(video, embedding(), GRID, TRANSFORM, batch_size=0)


def test_batches_are_full_across_clips_and_crops(video):
    embed = embedding()
    extract(video, embed, GRID, EvalTransform(16, 24, 3), batch_size=7)
    assert set(embed.network.batches[:-1]) == {7}


@pytest.mark.parametrize("name", [n for n in kinema.list_models() if n.endswith("_nano")])
def test_every_family_gives_one_vector_a_clip_and_the_scores_of_its_forward(name):
    torch.manual_seed(0)
    network = kinema.create_model(name, 3, 8).eval()
    clips = torch.randint(0, 256, (2, 3, 8, 64, 64), dtype=torch.uint8)
    features, logits = ClassifierFeatures(network, Normalise(Normalisation()))(clips)
    with torch.no_grad():
        wanted = network(Normalise(Normalisation())(clips))
    assert features.ndim == 2 and len(features) == 2
    torch.testing.assert_close(logits, wanted)


def test_a_network_without_features_is_refused():
    with pytest.raises(ValueError, match="Linear gives no features"):
        ClassifierFeatures(nn.Linear(3, 3), nn.Identity())


def test_a_network_is_put_in_evaluation():
    network = kinema.create_model("tsn_nano", 3, 8, dropout=0.9).train()
    ClassifierFeatures(network, nn.Identity())
    assert not network.training


def many(tmp_path, names=("a", "b", "c")):
    folder = tmp_path / "videos"
    folder.mkdir(exist_ok=True)
    return [write_clip(folder / f"{name}.mp4", seed=place) for place, name in enumerate(names)]


def all_of(videos, folder, embed=None, **options):
    return extract_all(videos, folder, embed or embedding(), GRID, TRANSFORM, progress=False, **options)


def test_one_file_a_video_and_how_they_were_made(tmp_path):
    done = all_of(many(tmp_path), tmp_path / "out", facts={"weights": "abc", "sizes": (1, 2)}, model="means")
    assert done.written == ["a", "b", "c"] and not done.finished and not done.failed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a.safetensors",
        "b.safetensors",
        "c.safetensors",
        "extraction.json",
    ]
    file = read(tmp_path / "out" / "b.safetensors")
    alone = extract(tmp_path / "videos" / "b.mp4", embedding(), GRID, TRANSFORM)
    assert torch.equal(file.features, alone.features) and file.model == "means" and file.video == "b"
    facts = read_facts(tmp_path / "out")
    assert ClipGrid(**facts["grid"]) == GRID and facts["weights"] == "abc"
    assert facts["transform"] == {"size": 16, "resize": 20, "num_crops": 1}


def test_what_is_finished_is_left_and_the_rest_is_done(tmp_path):
    videos, out = many(tmp_path), tmp_path / "out"
    all_of(videos[:2], out)
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.safetensors")}
    embed = embedding()
    done = all_of(videos, out, embed)
    assert done.finished == ["a", "b"] and done.written == ["c"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert sum(embed.network.batches) == len(read(out / "c.safetensors"))
    assert all_of(videos, out).written == []


def test_an_interrupt_leaves_no_half_file(tmp_path):
    videos, out = many(tmp_path), tmp_path / "out"
    embed, calls = embedding(), []

    def stops(clips):
        calls.append(len(clips))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return embed(clips)

    with pytest.raises(KeyboardInterrupt):
        all_of(videos, out, stops, batch_size=4)
    assert [path.name for path in out.glob("*.safetensors")] in ([], ["a.safetensors"])
    assert not [path for path in out.iterdir() if path.suffix != ".safetensors" and path.name != "extraction.json"]
    done = all_of(videos, out, batch_size=4)
    assert len(done.written) + len(done.finished) == 3


def test_a_file_that_cannot_be_decoded_is_told_and_the_others_are_done(tmp_path):
    videos = many(tmp_path)
    content = videos[1].read_bytes()
    videos[1].write_bytes(content[: len(content) // 2])
    done = all_of(videos, tmp_path / "out")
    assert done.written == ["a", "c"] and list(done.failed) == ["b"] and "b.mp4" in done.failed["b"]
    assert not (tmp_path / "out" / "b.safetensors").exists()
    videos[1].write_bytes(content)
    assert all_of(videos, tmp_path / "out").written == ["b"]


def test_features_that_are_no_numbers_are_told(tmp_path):
    def broken(clips):
        features, logits = embedding()(clips)
        return features * float("nan"), logits

    done = all_of(many(tmp_path, ("a",)), tmp_path / "out", broken)
    assert "not finite" in done.failed["a"] and not list((tmp_path / "out").glob("*.safetensors"))


class Grey:
    """A long video of grey pictures."""

    def __init__(self, num_frames):
        self.num_frames, self.fps, self.size = num_frames, Fraction(25), (16, 16)
        self.clock = FrameClock.constant(num_frames, self.fps)

    def decode(self, numbers):
        return torch.full((len(numbers), 3, 16, 16), 7, dtype=torch.uint8)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


@pytest.mark.parametrize("num_crops", [1, 3])
def test_no_more_is_held_of_a_long_video_than_of_a_short_one(tmp_path, num_crops):
    """Counted are the arrays of features and scores, through whatever tensors share them, that are alive at once."""
    transform = EvalTransform(16, 20, num_crops)

    def most_held(num_frames):
        alive, most = set(), []

        def counted(*shape):
            array = np.zeros(shape, dtype=np.float32)
            alive.add(key := id(array))
            weakref.finalize(array, alive.discard, key)
            return torch.from_numpy(array)

        def embed(clips):
            found = counted(len(clips), 6), counted(len(clips), 4)
            most.append(len(alive))
            return found

        folder, path = tmp_path / f"{num_frames}", tmp_path / f"{num_frames}.mp4"
        options = {"batch_size": 4, "opener": lambda path: Grey(num_frames), "progress": False}
        assert extract_all([path], folder, embed, GRID, transform, **options).written == [path.stem]
        assert len(read(folder / f"{num_frames}.safetensors")) == num_frames // 3
        return max(most)

    assert most_held(600) == most_held(60) <= 6


def test_a_file_that_is_there_and_not_whole_is_made_anew(tmp_path):
    videos, out = many(tmp_path), tmp_path / "out"
    all_of(videos, out)
    whole = {path: path.read_bytes() for path in out.glob("*.safetensors")}
    (out / "a.safetensors").write_bytes(b"")
    (out / "b.safetensors").write_bytes(whole[out / "b.safetensors"][:-1])
    done = all_of(videos, out)
    assert done.finished == ["c"] and done.written == ["a", "b"] and set(done.broken) == {"a", "b"}
    assert "a.safetensors is no safetensors file, or a damaged one" in done.broken["a"]
    assert {path: path.read_bytes() for path in whole} == whole
    (out / "a.safetensors").write_bytes(whole[out / "b.safetensors"])
    assert "is of the video 'b'" in all_of(videos, out).broken["a"] and not all_of(videos, out).broken


@pytest.mark.parametrize(
    "changes", [{"grid": ClipGrid(4, 2, 4)}, {"transform": EvalTransform(16, 18)}, {"facts": {"weights": "other"}}]
)
def test_a_folder_of_features_made_otherwise_is_refused(tmp_path, changes):
    videos = many(tmp_path, ("a",))
    options = {"grid": GRID, "transform": TRANSFORM, "facts": {"weights": "abc"}, "progress": False}
    extract_all(videos, tmp_path / "out", embedding(), **options)
    with pytest.raises(FeatureError, match="made otherwise"):
        extract_all(videos, tmp_path / "out", embedding(), **{**options, **changes})


def test_a_folder_of_features_of_unknown_origin_is_refused(tmp_path):
    videos = many(tmp_path, ("a",))
    all_of(videos, tmp_path / "out")
    (tmp_path / "out" / "extraction.json").unlink()
    with pytest.raises(FeatureError, match=r"no extraction\.json"):
        all_of(videos, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"write features with 'kinema features'.*'kinema validate'"):
        read_facts(tmp_path / "out")


def test_two_videos_of_one_name_are_refused(tmp_path):
    first = many(tmp_path, ("a",))
    (tmp_path / "other").mkdir()
    with pytest.raises(FeatureError, match="share the feature file of a"):
        all_of([*first, write_clip(tmp_path / "other" / "a.mp4")], tmp_path / "out")
    assert all_of([*first, *first], tmp_path / "out").written == ["a"]


def test_a_video_shorter_than_a_clip_repeats_its_ends_and_is_told(tmp_path):
    (tmp_path / "videos").mkdir()
    short = write_clip(tmp_path / "videos" / "short.mp4", num_frames=5)
    just = write_clip(tmp_path / "videos" / "just.mp4", num_frames=8)
    done = all_of([short, just], tmp_path / "out")
    assert done.written == ["short", "just"] and done.short == ["short"]
    file = read(tmp_path / "out" / "short.safetensors")
    assert len(file) == 2 and file.ends.max() <= file.duration == 0.2 and file.starts.min() == 0


def test_folders_of_pictures(tmp_path):
    for number in range(12):
        (tmp_path / "P01.01").mkdir(exist_ok=True)
        Image.new("RGB", (24, 20), (number * 20, 0, 0)).save(tmp_path / "P01.01" / f"{number + 1:05d}.png")
    done = all_of([tmp_path / "P01.01"], tmp_path / "out", opener=FrameFolders("{:05d}.png", 10).open)
    assert done.written == ["P01.01"], "a folder has no ending to be cut off"
    assert read(tmp_path / "out" / "P01.01.safetensors").duration == 1.2


def test_a_name_that_is_no_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"it\xff.mp4")
    write_clip(path)
    assert all_of([path], tmp_path / "out").written == ["it\\xff"]
    assert all_of([path], tmp_path / "out").finished == ["it\\xff"]
    assert read(tmp_path / "out" / "it\\xff.safetensors").video == "it\\xff"
    assert extract(path, embedding(), GRID, TRANSFORM).video == "it\\xff"


def test_pictures_that_were_read_otherwise_are_refused(tmp_path, monkeypatch, capsys):
    """Their features have other clips and other seconds."""
    for number in range(12):
        (tmp_path / "it").mkdir(exist_ok=True)
        Image.new("RGB", (24, 20), (number * 20, 0, 0)).save(tmp_path / "it" / f"{number + 1:05d}.png")
    made = SimpleNamespace(embed=embedding(), grid=GRID, transform=TRANSFORM, model="means", facts={"weights": "abc"})
    monkeypatch.setattr(Extractor, "of", lambda *arguments, **options: made)
    monkeypatch.setattr(command, "load_predictor", lambda options: SimpleNamespace(notes=[]))

    def called(*options):
        where = [tmp_path / "it", "--run", "r", "--output", tmp_path / "out", "--frames", "{:05d}.png"]
        return main(["features", *map(str, [*where, *options])])

    assert called("--frames-fps", 10) == 0
    assert read_facts(tmp_path / "out")["pictures"] == {"template": "{:05d}.png", "fps": 10.0}
    assert called("--frames-fps", 10) == 0 and "0 written, 1 finished before" in capsys.readouterr().out
    assert called("--frames-fps", 20) == 1
    assert "made otherwise (pictures: {'template': '{:05d}.png', 'fps': 10.0} there" in capsys.readouterr().err


@pytest.mark.parametrize("options", [{"num_frames": 8, "stride_frames": 8}, {"num_frames": 1, "stride_frames": 3}])
def test_frames_of_clips_on_a_grid_lie_as_far_apart_as_the_classifiers(options):
    """Of the code of TAda and TimeSformer 8 x 8 frames lie 9 apart."""
    scheme = frame_scheme("dense", **options, rounding="tada")
    (clip,) = draw_clips(scheme, range(200), fps=Fraction(30), kind="constant_clips_per_video", rng=random.Random(0))
    interval = _interval(scheme)
    with_grid = ClipGrid(scheme.num_frames, interval, 8).over(cast(Any, Grey(200))).frames[12]
    assert np.diff(with_grid).tolist() == np.diff(clip.indices).tolist()
    assert interval == (9 if scheme.num_frames == 8 else 3)
    with pytest.raises(ValueError, match=r"clips lie 5.267 apart.*give one as --frame-interval, such as 5"):
        _interval(frame_scheme("dense", 16, 5, rounding="timesformer"))
    assert _interval(frame_scheme("dense", 16, 5)) == 5


def test_progress_is_told_clip_by_clip(video):
    told = []
    extract(video, embedding(), GRID, EvalTransform(16, 24, 3), batch_size=6, on_clips=lambda *args: told.append(args))
    counts = [done for done, _ in told]
    assert counts == sorted(counts) and told[-1] == (9, 9) and len(told) == 5


def test_an_undecodable_video_alone_is_an_error(tmp_path):
    (tmp_path / "bad.mp4").write_text("no video")
    with pytest.raises(DecodeError):
        extract(tmp_path / "bad.mp4", embedding(), GRID, TRANSFORM)


def test_facts_are_json(tmp_path):
    all_of(many(tmp_path, ("a",)), tmp_path / "out")
    assert set(json.loads((tmp_path / "out" / extraction.FACTS).read_text())) == {"grid", "transform"}
