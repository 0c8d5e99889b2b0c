"""`kinema stream`: lines, summary, overlay and refusals."""

import io
import json
import os
import re
import sys
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from PIL import Image
from rich.console import Console

from kinema.cli import main
from kinema.cli.stream import _pace
from kinema.data.decoding import open_video
from kinema.data.sampling import Dense, Segments
from kinema.streaming.reader import FrameReader
from kinema.streaming.report import StreamReport, live_table
from kinema.streaming.session import StreamSession
from kinema.streaming.stored import VideoFile

from cameras import FPS, NAMES, Stand, classifier, encoded, grey, refusing, served, texture, trickling, whole

NUM = 12


def written(path, predictor):
    module = predictor.module
    checkpoint = {"hyper_parameters": dict(module.hparams), "state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    checkpoint["kinema"] |= {"clips": predictor.clips.facts()}
    torch.save(checkpoint, path)
    return path


@pytest.fixture(scope="module")
def predictor():
    return classifier()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, predictor):
    return written(tmp_path_factory.mktemp("weights") / "it.ckpt", predictor)


@pytest.fixture(scope="module")
def content():
    return encoded([texture(number // 6) for number in range(NUM)])


@pytest.fixture
def video(tmp_path, content):
    path = tmp_path / "it.mp4"
    path.write_bytes(content)
    return path


@pytest.fixture
def stream(checkpoint, capfd):
    def call(source, *arguments, status=0, weights=checkpoint):
        code = main(["stream", str(source), "--checkpoint", str(weights), *map(str, arguments)])
        told = capfd.readouterr()
        assert code == status, told.err
        call.err = told.err
        return [json.loads(line) for line in told.out.splitlines()]

    return call


def test_a_line_a_frame_and_a_summary(stream, video, predictor):
    *lines, last = stream(video, "--top", 2, "--half-life", "0.1")
    session = StreamSession(predictor, half_life_s=0.1)
    with FrameReader(VideoFile(video)) as reader:
        for line, frame in zip(lines, reader, strict=True):
            prediction = session.see(frame.pixels, frame.time_s)
            best = prediction.scores.topk(2)
            assert [each["class"] for each in line["top"]] == [NAMES[label] for label in best.indices]
            assert [each["score"] for each in line["top"]] == pytest.approx(best.values.tolist(), abs=1e-6)
            assert line["frame_score"] == pytest.approx(float(prediction.frame_scores[best.indices[0]]), abs=1e-6)
            assert (line["time"], line["frame"]) == (pytest.approx(frame.number / FPS), frame.number)
            assert line["dropped"] == line["resets"] == 0 and "reset" not in line
    summary = last["summary"]
    assert summary["frames"] == summary["predictions"] == NUM and summary["dropped"] == summary["damaged"] == 0
    assert summary["source"] == str(video) and summary["fps"] > 0 and summary["behind_p50_ms"] is None
    assert 0 < summary["step_p50_ms"] <= summary["step_p99_ms"]
    assert f"{NUM} frames in 0.4 s, {NUM} predictions, 0 dropped" in stream.err
    assert "does not say at which rate" in stream.err


def test_resets_rates_and_an_end_can_be_asked_for(stream, video):
    *lines, last = stream(video, "--scene-change", 0.12, "--rate", "all")
    assert [line["frame"] for line in lines if "reset" in line] == [6] and lines[6]["reset"] == "scene change"
    assert [line["resets"] for line in lines] == [0] * 6 + [1] * 6 and last["summary"]["resets"] == 1
    assert "does not say at which rate" not in stream.err
    *lines, last = stream(video, "--rate", "25/3")
    assert [line["frame"] for line in lines] == [0, 3, 6, 9] and last["summary"]["predictions"] == 4
    *lines, last = stream(video, "--frames", 2, "--rate", "25/3")
    assert len(lines) == last["summary"]["predictions"] == 2


def test_the_rate_of_the_run_is_taken_by_itself(stream, video, predictor, tmp_path):
    dense = classifier()
    dense.clips.scheme = Dense(4, 2)
    weights = written(tmp_path / "dense.ckpt", dense)
    *lines, _ = stream(video, weights=weights)
    assert [line["frame"] for line in lines] == list(range(0, NUM, 2))


@pytest.mark.parametrize(
    ("scheme", "told"),
    [
        (Dense(4, 5), "the source announces no rate, and in the run's clips frames lie 5 apart"),
        (Segments(4), "its clips are spread over whole videos"),
    ],
)
def test_why_every_frame_is_taken_is_told(scheme, told, predictor, capsys):
    seeing = SimpleNamespace(predictor=SimpleNamespace(clips=SimpleNamespace(scheme=scheme)), pacing=None)
    _pace(cast(Any, seeing), "auto", None)
    assert seeing.pacing.rate is None and told in capsys.readouterr().err
    _pace(cast(Any, seeing), "auto", Fraction(25))
    assert seeing.pacing.rate == (5 if isinstance(scheme, Dense) else None)


def test_a_name_that_is_no_utf8(stream, content, tmp_path):
    path = tmp_path / os.fsdecode(b"it\xff.mp4")
    path.write_bytes(content)
    *lines, last = stream(path)
    assert len(lines) == NUM and last["summary"]["source"] == f"{tmp_path}/it\\xff.mp4"
    path.write_text("no video")
    (line,) = stream(path, status=1)
    assert "it\\xff.mp4" in line["error"] and "it\\xff.mp4" in stream.err


def test_a_folder_and_an_overlay_and_lines_in_a_file(stream, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(1, 4):
        Image.fromarray(grey(number)).save(folder / f"{number}.png")
    out, lines = tmp_path / "over.mp4", tmp_path / "lines.jsonl"
    arguments = ["--overlay", out, "--jsonl", lines, "--picture-fps", 5, "--rate", 2.5]
    assert stream(folder, *arguments) == []
    told = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [line["time"] for line in told[:-1]] == [0, 0.4] and told[-1]["summary"]["frames"] == 3
    assert "were waiting" not in stream.err and "stopped" not in stream.err
    with open_video(out) as video:
        assert video.num_frames == 3 and video.timestamps[2] == Fraction(2, 5), "all frames, not those taken alone"


def test_another_size_of_picture_is_told(stream, tmp_path):
    for number in range(6):
        Image.fromarray(grey(number, height=48 if number < 3 else 96)).save(tmp_path / f"{number}.png")
    *lines, last = stream(tmp_path, "--rate", "all")
    told = "its picture changes from 64 x 48 to 64 x 96"
    assert [line.get("reset") for line in lines] == [None] * 3 + [told] + [None] * 2 and last["summary"]["resets"] == 1
    assert f"{tmp_path}: {told} at 0.1 s, so the network begins anew" in stream.err


def test_help_explains_the_lines_and_says_the_defaults(capsys):
    with pytest.raises(SystemExit):
        main(["stream", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    for word in ("time:", "frame:", "top:", "frame_score:", "dropped:", "resets:", "reset:", "summary:", "error:"):
        assert word in told
    assert "guesses for each frame (default 3)" in told and "that are waited (default 10)" in told


def test_secrets_are_shown_nowhere(stream, content, tmp_path):
    with served(whole(content)) as server:
        url = server.url.replace("http://", "http://bob:hunter2@") + "?token=s3cret"
        found = stream(url, "--jsonl", tmp_path / "lines.jsonl")
        text = stream.err + (tmp_path / "lines.jsonl").read_text() + str(found)
        assert "hunter2" not in text and "s3cret" not in text and "bob" not in text
        assert text.count("http://***@127.0.0.1") >= 2 and "token=***" in text and f"{NUM} predictions" in text
        assert any("token=s3cret" in path for path in server.paths), "but the server got them"
    with served(refusing(404)) as server:
        url = server.url.replace("http://", "http://bob:hunter2@") + "?token=s3cret"
        assert stream(url, status=1)[0]["error"].startswith("http://***@127.0.0.1")
        assert "hunter2" not in stream.err and "s3cret" not in stream.err and "404" in stream.err


def test_what_is_no_argument_shows_no_secret(capsys):
    words = ["rtsp://bob:hun ter2@cam/a", "bob:hunter2@cam/live", "rtsp://cam/user=bob&password=hunter2"]
    for arguments in (
        words,
        ["it.mp4", *words],
        ["it.mp4", "--live", words[1]],
        ["it.mp4", f"--picture-fps={words[0]}"],
    ):
        with pytest.raises(SystemExit) as end:
            main(["stream", *arguments])
        told = capsys.readouterr().err
        assert end.value.code == 2 and "***" in told and not any(secret in told for secret in ("hun", "ter2", "bob"))


def test_scores_that_are_no_numbers_end_the_stream(stream, video, tmp_path):
    broken = classifier()
    torch.nn.init.constant_(broken.module.network.head.fc.bias, float("nan"))
    (line,) = stream(video, weights=written(tmp_path / "nan.ckpt", broken), status=1)
    told = "the frame at 0.00 s: 4 of 4 scores are not finite numbers"
    assert line["error"].startswith(told) and told in stream.err and line["summary"]["predictions"] == 0


def test_what_is_read_is_never_written_over(stream, video, tmp_path):
    """Also under another name of it; and two outputs are two files."""
    content, link = video.read_bytes(), tmp_path / "link.mp4"
    link.symlink_to(video)
    for arguments, told in (
        (["--jsonl", video], f"--jsonl {video} would be written over {video}, which is read; give another file"),
        (["--overlay", link], f"--overlay {link} would be written over {video}"),
        (["--overlay", tmp_path / "x.mp4", "--jsonl", tmp_path / "." / "x.mp4"], "are one file; give each its own"),
        (["--jsonl", tmp_path], "is a folder, and a file was needed"),
    ):
        assert stream(video, *arguments, status=1) == [] and told in stream.err
    assert video.read_bytes() == content and link.read_bytes() == content and not (tmp_path / "x.mp4").exists()
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(grey(1)).save(folder / "1.png")
    stream(folder, "--jsonl", folder / "1.png", status=1)
    assert "would be written over" in stream.err and (folder / "1.png").stat().st_size
    stream(folder, "--jsonl", folder / "lines.jsonl")
    stream(folder, "--jsonl", folder / "lines.jsonl")  # again, over what this program wrote


def test_a_picture_that_cannot_be_read_is_left_out_and_told(stream, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        Image.fromarray(grey(number)).save(folder / f"{number}.png")
    (folder / "1.png").write_bytes(b"\x89PNG no")
    *lines, last = stream(folder, "--rate", "all")
    assert [line["time"] for line in lines] == [0, 0.08, 0.12] and last["summary"]["damaged"] == 1
    assert "1 of 4 pictures were left out, the first because" in stream.err and "1.png" in stream.err


def test_a_folder_that_is_called_as_a_camera_is_taken(stream, tmp_path, monkeypatch):
    (tmp_path / "7").mkdir()
    Image.fromarray(grey(1)).save(tmp_path / "7" / "1.png")
    monkeypatch.chdir(tmp_path)
    line, _ = stream("7")
    assert line["frame"] == 0 and "7 is taken for the file or folder of this name; give /dev/video7" in stream.err


def test_an_outage_is_told_while_it_lasts(stream):
    """And what happened last, though no frame came behind it."""
    ts = encoded([grey(number) for number in range(NUM)], "mpegts")
    with served(trickling(ts, pause_s=0), refusing(503)) as server:
        *_, last = stream(server.url, "--reconnect", 1, "--queue", 50, status=1)
    assert "error" in last and stream.err.count("opening it anew in 1 s") == 1


def test_a_stream_that_is_lost_says_so_behind_what_it_gave(stream):
    ts = encoded([grey(number) for number in range(NUM)], "mpegts")
    with served(trickling(ts, pause_s=0, then_stalls=True)) as server:
        *lines, last = stream(server.url, "--stall", 0.5, "--reconnect", 0, "--queue", 50, status=1)
    assert len(lines) >= NUM - 2 and "no new frame came for 0.5 s" in last["error"]
    assert last["summary"]["behind_p50_ms"] > 0 and "behind the frame" in stream.err
    with served(trickling(ts, pause_s=0)) as server:
        *lines, last = stream(server.url, "--reconnect", 0, "--queue", 50)
    assert len(lines) == NUM and "error" not in last


def test_two_way_weights_are_refused_before_anything_is_opened(stream, tmp_path, content):
    weights = written(tmp_path / "two-way.ckpt", classifier(causal=False))
    with served(whole(content)) as server:
        assert stream(server.url, weights=weights, status=1) == [] and server.requests == []
    assert (
        "two-way.ckpt: " in stream.err
        and stream.err.count("cannot run on a stream") == 1
        and "--model.causal true" in stream.err
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--top", "0"], "give at least 1"),
        (["--frames", "0"], "give at least 1"),
        (["--rate", "fast"], "--rate fast is no rate"),
        (["--rate", "0"], "--rate 0 is no rate"),
        (["--half-life", "-1"], "a half-life of -1"),
        (["--scene-change", "2"], "scene_change=2"),
        (["--queue", "0"], "a queue of 0"),
        (["--rate", "1/0"], "--rate 1/0 is no rate"),
        (["--stall", "inf"], "stall_s=inf is no time to wait"),
        (["--stall", "nan"], "stall_s=nan is no time to wait"),
        (["--reconnect", "-1"], "reconnects=-1"),
        (["--overlay", "x.avi"], "ends in .mp4"),
        (["--jsonl", "none/x.jsonl"], "No such file"),
        (["--live", "yes"], "where every frame waits until it is read, so live=True cannot be; leave it out"),
    ],
)
def test_wrong_options_are_told(arguments, told, stream, video):
    stream(video, *arguments, status=1)
    assert told in stream.err


@pytest.mark.parametrize("value", ["1/0", "0", "-5", "nan", "fast"])
def test_a_rate_of_pictures_is_a_number_above_0(value, capsys):
    with pytest.raises(SystemExit):
        main(["stream", "x", f"--picture-fps={value}"])
    assert f"'{value}' is no number above 0" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["inf", "1e300", "nan", "0"])
def test_an_address_is_waited_for_finitely(stream, value):
    assert stream("http://127.0.0.1:9/x", f"--stall={value}", status=1) == []
    assert "is no time to wait for a frame; give seconds above 0" in stream.err


def test_garbage_and_nothing(stream, tmp_path):
    (tmp_path / "it.mp4").write_text("no video")
    (line,) = stream(tmp_path / "it.mp4", status=1)
    assert "text was given" in line["error"] and "frames in" not in stream.err
    assert stream("none.mp4", status=1) == [] and "there is no file or folder none.mp4" in stream.err


def test_who_reads_the_lines_may_have_enough(stream, video, monkeypatch):
    class Full:
        def isatty(self):
            return False

        def write(self, text):
            raise BrokenPipeError

        def flush(self):
            raise BrokenPipeError

        def fileno(self):
            return 1

    monkeypatch.setattr(sys, "stdout", Full())
    monkeypatch.setattr("os.dup2", lambda *arguments: None)
    stream(video)


def test_an_interrupted_stream_ends_well(stream, video, monkeypatch):
    see = StreamSession.see

    def interrupted(session, *arguments, **options):
        if session.frames == 3:
            raise KeyboardInterrupt
        return see(session, *arguments, **options)

    monkeypatch.setattr(StreamSession, "see", interrupted)
    *lines, last = stream(video, "--queue", 2, "--overlay", video.with_name("over.mp4"), status=130)
    assert len(lines) == last["summary"]["predictions"] == 3 and "3 predictions" in stream.err
    assert last["summary"]["stopped"] and last["summary"]["waiting"] >= 1
    assert re.search(r": stopped; \d+ frames in .* \d+ were waiting, 0 dropped", stream.err)
    with open_video(video.with_name("over.mp4")) as over:
        assert over.num_frames == 3


def test_the_live_view_names_the_best_guesses_and_what_is_lost(predictor):
    reader = FrameReader(Stand([1, 2]))
    session = StreamSession(predictor)
    report = StreamReport(reader, session, NAMES, 2)
    with reader:
        for frame in reader:
            report.add(frame, session.see(frame.pixels, frame.time_s, cut="reconnected" if frame.number else ""))
    console = Console(width=100, file=io.StringIO())
    console.print(live_table(report))
    text = console.file.getvalue()
    assert "a stand-in" in text and report.guesses[0].name in text and report.guesses[1].name in text
    assert "0 dropped" in text and "1 resets  reconnected" in text and "█" in text and len(report.guesses) == 2
    assert report.recent_reset(Fraction(1)) == "reconnected" and report.recent_reset(Fraction(2)) == ""


@pytest.mark.slow
def test_memory_stays_flat_over_10_000_frames(predictor):
    import os
    from pathlib import Path

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    session = StreamSession(predictor, half_life_s=1, scene_change=0.5)
    report = StreamReport(FrameReader(Stand([])), session, NAMES, 2)
    before = 0
    with FrameReader(Stand([number % 50 for number in range(10_000)])) as reader:
        for frame in reader:
            if frame.number % 8 == 0:
                report.add(frame, session.see(frame.pixels, frame.time_s))
            before = resident() if frame.number == 2_000 else before
    assert reader.frames == 10_000 and before and resident() - before < 8 * 2**20
