"""Networks as files: the same logits for any number of clips, the facts inside, and refusals in words."""

import importlib.util
import math
import random
import re
from fractions import Fraction

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

import kinema
from kinema.benchmarks.exports import moved
from kinema.cli import main
from kinema.data.clips import EvalClips
from kinema.data.sampling import Dense, Segments, draw_clips
from kinema.data.transforms import EvalTransform
from kinema.deployment import exported, writing
from kinema.deployment.export import export_classifier, export_network
from kinema.deployment.exported import facts_as_text, facts_from_text, open_exported
from kinema.deployment.instructions import frames_in_words, pixels_in_words
from kinema.deployment.writing import ExportError
from kinema.models import MODELS
from kinema.training import TSM
from kinema.training.restore import Predictor

from conftest import REPOSITORY
from untrained import make_module, small_clips, write_checkpoint, write_video

SHAPE = (1, 3, 4, 32, 32)


@pytest.fixture(scope="module")
def clips():
    return small_clips()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, clips):
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "it.ckpt", make_module(), clips)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("videos") / "it.mp4")


class Small(nn.Module):
    """A network that exports in no time."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.head = nn.Conv3d(3, 4, 3, padding=1), nn.BatchNorm3d(4), nn.Linear(4, 3)
        nn.init.uniform_(self.norm.running_var, 0.5, 1.5)

    def forward(self, clip):
        return self.head(self.norm(self.conv(clip)).relu().mean(dim=(2, 3, 4)))


class Other(Small):
    """What is exported is not what runs: a graph may differ in places that no exporter notices."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, clip):
        logits = super().forward(clip)
        return self.change(logits) if torch.compiler.is_exporting() else logits


@pytest.mark.slow
@pytest.mark.parametrize(("name", "format"), [("slowonly_nano", "onnx"), ("tada2d_nano", "torch")])
def test_the_file_gives_what_the_network_gives(name, format, tmp_path):
    network = moved(kinema.create_model(name, 5, 4)).eval()
    path = tmp_path / f"it{exported.SUFFIXES[format]}"
    written = export_network(network, path, format, clip_shape=SHAPE, facts={"model": name, "size": 32})
    assert written.max_difference < 1e-4 and written.num_bytes == path.stat().st_size
    assert written.folded > 0 and (written.opset == 18) == (format == "onnx")
    run = open_exported(path)
    for count in (1, 5):
        clip = torch.randn(count, *SHAPE[1:], generator=torch.Generator().manual_seed(count))
        with torch.no_grad():
            torch.testing.assert_close(run(clip), network(clip), rtol=1e-4, atol=1e-4)
    assert run.facts == {"model": name, "size": 32}
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if name.endswith("_nano") and name != "slowonly_nano"])
def test_every_family_in_onnx(name, tmp_path):
    shallow = {"depth": 1} if "depth" in kinema.list_options(name) else {}
    network = moved(kinema.create_model(name, 5, 8, **shallow)).eval()
    written = export_network(network, tmp_path / "it.onnx", "onnx", clip_shape=(1, 3, 8, 32, 32))
    assert written.max_difference < 1e-4


class Sorts(nn.Module):
    """The places of rounded numbers, many of which are equal, in their order, falling and rising."""

    def forward(self, clip):
        values = clip.flatten(1)[:, :64].round()
        orders = [values.argsort(dim=1, descending=descending, stable=True) for descending in (True, False)]
        return torch.cat(orders, dim=1).float()


def test_equal_values_keep_their_order_in_onnx(tmp_path):
    """As tokens do that light UniFormers prune."""
    assert export_network(Sorts(), tmp_path / "it.onnx", "onnx", clip_shape=SHAPE).max_difference == 0


@pytest.mark.slow
def test_a_network_that_prunes_tokens(tmp_path):
    network = moved(kinema.create_model("uniformer_nano", 5, 4, light=True, depths=(1, 1, 2, 1))).eval()
    written = export_network(network, tmp_path / "it.onnx", "onnx", clip_shape=SHAPE)
    assert written.max_difference < 1e-4


def test_frames_and_channels_are_fixed_and_clips_are_not(tmp_path):
    export_network(Small(), tmp_path / "it.onnx", "onnx", clip_shape=SHAPE)
    (clip,) = onnx.load(tmp_path / "it.onnx").graph.input
    sizes = [axis.dim_param or axis.dim_value for axis in clip.type.tensor_type.shape.dim]
    assert clip.name == "clip" and sizes == ["batch", 3, 4, 32, 32]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda logits: logits + 2e-4, r"differs from the network by 0.0002, allowed is 0.0001"),
        (lambda logits: logits * math.nan, "differs from the network by nan"),
        (lambda logits: logits[:, :2], r"gives \[\(2, 2\)\] where the network gives \[\(2, 3\)\]"),
        (lambda logits: logits.sum(dim=0, keepdim=True).expand_as(logits), "differs from the network"),
    ],
)
@pytest.mark.parametrize("format", ["torch", pytest.param("onnx", marks=pytest.mark.slow)])
def test_a_file_that_gives_something_else_is_refused_and_the_old_one_stays(change, told, format, tmp_path):
    path = tmp_path / f"it{exported.SUFFIXES[format]}"
    path.write_text("what was there")
    with pytest.raises(ExportError, match=told):
        export_network(Other(change), path, format, clip_shape=SHAPE)
    assert path.read_text() == "what was there" and len(list(tmp_path.iterdir())) == 1


def test_a_wrong_fold_is_found(tmp_path, monkeypatch):
    from kinema.deployment import folding

    def halved(norm, convolution):
        convolution.weight.data /= 2

    monkeypatch.setattr(folding, "_fold_into_previous", halved)
    with pytest.raises(ExportError, match="differs from the network"):
        export_network(Small(), tmp_path / "it.pt2", "torch", clip_shape=SHAPE)


@pytest.mark.parametrize("opset", [pytest.param(20, marks=pytest.mark.slow), 23])
def test_opsets(opset, tmp_path):
    written = export_network(Small(), tmp_path / "it.onnx", "onnx", clip_shape=SHAPE, opset=opset)
    (imported,) = [each for each in onnx.load(written.path).opset_import if not each.domain]
    assert written.opset == imported.version == opset


@pytest.mark.parametrize(
    ("name", "format", "opset", "told"),
    [
        ("it.onnx", "onnx", 17, "opset=17 is not supported"),
        ("it.onnx", "onnx", 99, "opset=99 is not supported.* tested up to 23"),
        ("it.pt2", "torch", 18, "the format torch has none"),
        ("it.pth", "torch", None, r"end its name in \.pt2"),
        ("it.pt2", "onnx", None, r"end its name in \.onnx"),
        ("it.onnx", "tflite", None, "'tflite' is unknown"),
        ("none/it.onnx", "onnx", None, "there is no folder"),
    ],
)
def test_what_cannot_be_written_is_refused_first(name, format, opset, told, tmp_path):
    with pytest.raises(ExportError, match=told):
        export_network(nn.Identity(), tmp_path / name, format, clip_shape=SHAPE, opset=opset)


def test_an_opset_that_the_converter_does_not_reach(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.onnx, "export", _with_version(torch.onnx.export, 18))
    with pytest.raises(ExportError, match=r"could not be converted from version 18; give opset=18"):
        export_network(Small(), tmp_path / "it.onnx", "onnx", clip_shape=SHAPE, opset=19)


def _with_version(export, version):
    return lambda *args, **options: export(*args, **options | {"opset_version": version})


def test_a_package_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(
        exported, "find_spec", lambda name: None if name == "onnxscript" else importlib.util.find_spec(name)
    )
    with pytest.raises(ModuleNotFoundError, match=r"needs onnxscript, which is not .* pip install 'kinema\[export\]'"):
        export_network(Small(), tmp_path / "it.onnx", "onnx", clip_shape=SHAPE)
    export_network(Small(), tmp_path / "it.pt2", "torch", clip_shape=SHAPE)


def test_what_torch_does_not_export_is_told(tmp_path):
    class Looks(nn.Module):
        def forward(self, clip):
            return clip if clip.sum() > 0 else -clip

    with pytest.raises(ExportError, match=r"torch\.export does not take this Looks"):
        export_network(Looks(), tmp_path / "it.onnx", "onnx", clip_shape=SHAPE)


def test_weights_that_fill_no_file_lie_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_ONE_FILE", 10)
    written = export_network(
        nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 32 * 32, 64)), tmp_path / "it.onnx", "onnx", clip_shape=SHAPE
    )
    assert sorted(file.name for file in tmp_path.iterdir()) == ["it.onnx", "it.onnx.data"]
    assert written.num_bytes > 3 * 4 * 32 * 32 * 64 * 4
    moved_away = tmp_path / "elsewhere"
    moved_away.mkdir()
    for name in ("it.onnx", "it.onnx.data"):
        (tmp_path / name).rename(moved_away / name)
    assert open_exported(moved_away / "it.onnx")(torch.zeros(2, *SHAPE[1:])).shape == (2, 64)


def test_facts_survive_being_text():
    facts = {
        "model": "123",
        "commit": "1e5",
        "class_names": ["1", "b\n"],
        "bgr": False,
        "mean": [0.1, 1],
        "average": "logits",
    }
    assert facts_from_text(facts_as_text(facts)) == facts
    assert all(isinstance(text, str) for text in facts_as_text(facts).values())


@pytest.mark.parametrize("format", ["onnx", pytest.param("torch", marks=pytest.mark.slow)])
def test_a_checkpoint_is_exported_with_all_that_its_user_must_know(format, checkpoint, video, tmp_path, capsys):
    """Pixels of a video, prepared by the facts in the file alone, give the classifier's scores."""
    path = tmp_path / f"it{exported.SUFFIXES[format]}"
    assert main(["export", "--checkpoint", str(checkpoint), "--format", format, "--output", str(path)]) == 0
    told = capsys.readouterr().out
    assert "16 folded into convolutions, 0 left" in told and "largest difference of a logit from the network" in told
    assert "input clip: float32 B x 3 x 4 x 32 x 32\noutput logits: float32 B x 4\n" in told and "averaging" in told
    run = open_exported(path)
    facts = run.facts
    assert facts["model"] == "tsm_nano" and facts["class_names"] == ["falling", "rising", "turning", "waiting"]
    assert (facts["num_frames"], facts["size"], facts["resize"], facts["bgr"]) == (4, 32, 40, False)
    assert facts["checkpoint"] == checkpoint.name and facts["options"]["shift_fraction"] == 0.25
    assert facts["frames"].startswith("the middle frame of each of 4 equal parts of the video")
    assert "short side has 40 pixels" in facts["pixels"] and "softmax" in facts["averaging"]
    assert facts["producer"] == f"kinema {kinema.__version__}" and len(facts["commit"]) in (0, 40)
    predictor = Predictor.from_checkpoint(checkpoint)
    views = torch.stack([view.pixels for view in predictor.clips(video)])
    mean, std = (torch.tensor(facts[name]).view(1, 3, 1, 1, 1) for name in ("mean", "std"))
    scores = run((views / 255 - mean) / std).softmax(dim=1).mean(dim=0)
    torch.testing.assert_close(scores.double(), predictor(video), rtol=1e-4, atol=1e-5)


def test_the_program_of_the_readme_gives_the_scores_of_predict(checkpoint, video, tmp_path, monkeypatch):
    text = (REPOSITORY / "experiments" / "deployment" / "README.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    path = tmp_path / "it.onnx"
    assert main(["export", "--checkpoint", str(checkpoint), "--format", "onnx", "--output", str(path)]) == 0
    predictor = Predictor.from_checkpoint(checkpoint)
    np.save(tmp_path / "frames.npy", predictor.clips(video)[0].pixels.permute(1, 2, 3, 0).numpy())
    monkeypatch.chdir(tmp_path)
    names = {"print": lambda text: None}
    exec(program, names)
    np.testing.assert_allclose(names["scores"], predictor(video).numpy(), rtol=1e-4, atol=1e-5)
    assert names["names"] == predictor.class_names


def cut_by_words(frame, words):
    """A square of a frame (H, W, 3), as `pixels_in_words` says, computed by Pillow."""
    short, size = (int(number) for number in re.search(r"side has (\d+) pixels.* of (\d+) x", words).groups())
    height, width = frame.shape[:2]
    scale = short / min(height, width)
    wanted = (int(width * scale) if width > height else short, int(height * scale) if height > width else short)
    picture = Image.fromarray(frame).resize(wanted, Image.Resampling.BILINEAR)
    left, top = (round((side - size) / 2) for side in picture.size)
    return np.asarray(picture.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize("num_clips", [1, 2])
@pytest.mark.parametrize("scheme", [Segments(4), Dense(4, 3), Dense(4, 20), Dense(4, 20, "repeat_last")])
def test_the_words_say_which_frames(scheme, num_clips):
    clips = EvalClips(scheme, EvalTransform(32, 40), num_clips=num_clips)
    words, n = frames_in_words(clips), 50
    if isinstance(scheme, Segments):
        wanted = [[int((i + (0.5 + k / num_clips) % 1) * n / 4) for i in range(4)] for k in range(num_clips)]
        assert "floor((i + 1/2) n / 4) for i = 0 to 3" in words and ("2 clips" in words) == (num_clips == 2)
    else:
        span = 4 * scheme.stride_frames
        free = max(n - span, 0)
        firsts = [free // 2] if num_clips == 1 else [0, free]
        wanted = [[first + i * scheme.stride_frames for i in range(4)] for first in firsts]
        loop = scheme.short_video == "loop"
        wanted = [[index % n if loop else min(index, n - 1) for index in clip] for clip in wanted]
        assert words.startswith(f"4 frames, {scheme.stride_frames} apart, ") and ("2 clips" in words) == (
            num_clips == 2
        )
        assert f"floor((n - {span}) / 2)" in words or num_clips == 2
        assert words.endswith("goes on at the start" if loop else "repeats the last frame")
    drawn = draw_clips(scheme, range(n), fps=Fraction(25), kind=clips.kind, num_clips=num_clips, rng=random.Random(0))
    assert [clip.indices for clip in drawn] == wanted


@pytest.mark.parametrize("shape", [(48, 65), (71, 48), (41, 43)])
def test_the_words_say_how_a_frame_is_cut(shape):
    clips = EvalClips(Segments(1), EvalTransform(32, 40))
    frame = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    (ours,) = clips.transform(torch.from_numpy(frame).permute(2, 0, 1)[None])
    theirs = cut_by_words(frame, pixels_in_words(clips))
    assert np.abs(ours[0].permute(1, 2, 0).numpy().astype(int) - theirs).max() <= 1, "rounding to whole values"


def test_several_classifiers_have_an_output_each(clips, tmp_path):
    class Two(Small):
        def forward(self, clip):
            logits = super().forward(clip)
            return logits[:, :2], 2 * logits

    module = TSM("nano", None)
    module._agree_with_tasks({"verb": ["take", "put"], "noun": ["cup", "pan", "lid"]})
    module.network = Two()
    path = tmp_path / "it.onnx"
    export_classifier(Predictor(module.eval(), clips), path, "onnx")
    run = open_exported(path)
    assert run.output_names == ["logits_verb", "logits_noun"]
    assert (
        run.facts["tasks"] == {"verb": ["take", "put"], "noun": ["cup", "pan", "lid"]} and not run.facts["class_names"]
    )
    verb, noun = run(torch.randn(2, 3, 4, 32, 32))
    torch.testing.assert_close(2 * verb, noun[:, :2])


def test_what_the_command_refuses(checkpoint, tmp_path, capsys):
    common = ["export", "--format", "onnx", "--output", str(tmp_path / "it.onnx")]
    for arguments, told in [
        (["--checkpoint", str(checkpoint), "--opset", "9"], "opset=9 is not supported"),
        (["--checkpoint", str(tmp_path / "none.ckpt")], "there is no checkpoint file"),
        ([], "give --run RUN, or --checkpoint FILE"),
        (["--run", str(tmp_path)], "is no run"),
    ]:
        assert main([*common, *arguments]) == 1
        assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_files_that_were_not_exported(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        open_exported(tmp_path / "it.onnx")
    (tmp_path / "it.txt").touch()
    with pytest.raises(ValueError, match=r"ends in none of \.onnx, \.pt2"):
        open_exported(tmp_path / "it.txt")
