"""The page over HTTP: what it answers, what it refuses, and that it is for this machine alone."""

import http.client
import importlib.util
import json
import os
import re
import socket
import threading
from contextlib import contextmanager

import pytest
import uvicorn

from kinema.cli import main
from kinema.data.motion.encoding import encode_mp4
from kinema.deployment import demo, exported
from kinema.deployment.demo import Limits, make_app
from kinema.training.restore import Predictor

from browser import NAMES as BROWSERS
from browser import Browser, find_chromium
from untrained import NAMES, make_module, moving, small_clips, without_numbers, write_checkpoint


@contextmanager
def served(predictor, **options):
    """The application behind a real server; gives a function that asks it."""
    with socket.socket() as listener:
        listener.bind((demo.HOST, 0))
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(make_app(predictor, **options), log_level="warning", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        port = listener.getsockname()[1]

        def ask(method="GET", path="/", body=None, headers=None):
            connection = http.client.HTTPConnection(demo.HOST, port, timeout=30)
            try:
                connection.request(method, path, body, headers or {})
                answer = connection.getresponse()
                return answer.status, answer.read(), dict(answer.getheaders())
            finally:
                connection.close()

        ask.port = port
        try:
            yield ask
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def predictor():
    return Predictor(make_module(), small_clips())


@pytest.fixture(scope="module")
def ask(predictor):
    with served(predictor, limits=Limits(mib=0.5, seconds=3), top=2, num_windows=4) as ask:
        yield ask


@pytest.fixture(scope="module")
def clip():
    return encode_mp4(moving(50), intra_only=True)


def message(answer):
    status, body, _ = answer
    return status, json.loads(body)["error"]


def test_a_video_is_answered_with_the_scores_of_predict(ask, predictor, clip):
    status, body, _ = ask("POST", "/predict", clip)
    assert status == 200
    found = json.loads(body)
    scores = predictor(clip)
    assert [guess["class"] for guess in found["top"]] == [NAMES[label] for label in scores.topk(2).indices]
    assert found["top"][0]["score"] == pytest.approx(float(scores.max()))
    assert found["duration"] == 2 and found["num_frames"] == 50
    assert len(found["over_time"]["times"]) == 4 and set(found["over_time"]["scores"]) == {
        guess["class"] for guess in found["top"]
    }


def test_the_page_and_its_files_load_nothing_from_elsewhere(ask):
    for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
        status, body, headers = ask(path=path)
        assert status == 200 and headers["content-type"].startswith(kind)
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'self'") and "unsafe" not in policy and "http" not in policy
        text = body.decode().replace("http://www.w3.org/2000/svg", "")
        assert "//" not in re.sub(r"^\s*//.*$|  // .*$", "", text, flags=re.MULTILINE), "no address of another machine"
        assert "innerHTML" not in text, "class names are text"


def test_what_the_page_shows_of_the_classifier(ask):
    facts = json.loads(ask(path="/facts")[1])
    assert (
        facts["model"] == "tsm_nano"
        and facts["num_classes"] == 4
        and (facts["max_mib"], facts["max_seconds"]) == (0.5, 3)
    )


def test_what_is_no_video(ask):
    for content in (b"<html>no video</html>" * 50, b"\x00" * 1000, b"\x89PNG\r\n\x1a\n" + bytes(100)):
        status, told = message(ask("POST", "/predict", content))
        assert status == 415 and told.startswith("This cannot be read as a video")
    assert message(ask("POST", "/predict", b"")) == (400, "Nothing was sent; choose a video, or record one.")


def test_a_strip_of_pixels_that_would_fill_the_memory(ask):
    status, told = message(ask("POST", "/predict", encode_mp4(moving(8, height=2048, width=32), intra_only=True)))
    assert status == 415 and "its frames of 32 x 2048 pixels are more than 32 times as long as wide" in told


def test_what_fails_otherwise_is_told_as_json_and_on_the_terminal(ask, clip, monkeypatch, capfd):
    def fails(*arguments, **options):
        raise MemoryError("too much")

    monkeypatch.setattr(demo, "answer_video", fails)
    status, told = message(ask("POST", "/predict", clip))
    assert status == 500 and told.startswith("This failed, and not by the video alone: MemoryError: too much.")
    assert "in fails" in capfd.readouterr().err
    monkeypatch.undo()
    assert ask("POST", "/predict", clip)[0] == 200, "the next video is answered"


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--port", 99999, "port 99999 is none; give a number from 1 to 65535, or 0"),
        ("--port", -1, "port -1 is none"),
        ("--top", 0, "--top 0 shows nothing; give at least 1"),
    ],
)
def test_numbers_that_cannot_be_are_told_before_anything_is_loaded(option, value, told, tmp_path, capsys):
    assert main(["demo", "--checkpoint", str(tmp_path / "none.ckpt"), option, str(value)]) == 1
    assert told in capsys.readouterr().err


def test_a_page_without_classes_is_refused(predictor):
    with pytest.raises(ValueError, match="top=0 shows no class"):
        make_app(predictor, top=0)
    with pytest.raises(ValueError, match="port 65536 is none"):
        demo.serve(predictor, port=65536)


def test_a_damaged_video(ask, clip):
    status, told = message(ask("POST", "/predict", clip[: len(clip) // 2]))
    assert status == 415 and "cannot be read" in told


def test_a_file_that_is_too_large_with_its_size_told_before_or_not(ask):
    status, told = message(ask("POST", "/predict", bytes(2**20)))
    assert status == 413 and told.startswith("This file has 1.0 MiB, and at most 0.5 MiB are taken")
    status, told = message(ask("POST", "/predict", iter([bytes(2**18)] * 4)))
    assert status == 413 and told.startswith("This file has 1.0 MiB")


def test_an_upload_without_an_end_is_not_read_for_ever(ask):
    sent = []

    def endless():
        while len(sent) < 4000:  # 1000 MiB
            sent.append(1)
            yield bytes(2**18)

    try:
        status, told = message(ask("POST", "/predict", endless()))
        assert status == 413 and "the rest was not read" in told
    except OSError:
        pass  # the connection ended while the client was sending
    assert 16 <= len(sent) < 400, "eight times the limit, and what sockets hold"


def test_an_upload_that_stops_is_given_up_and_one_that_breaks_off_is_no_error(ask, clip, monkeypatch, capfd):
    """And who waits behind them is answered."""
    monkeypatch.setattr(demo, "_PATIENCE_S", 0.3)
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\nsome"
    with socket.create_connection((demo.HOST, ask.port), timeout=10) as stops:
        stops.sendall(head)
        assert ask("POST", "/predict", clip)[0] == 200
        assert stops.recv(4096).startswith(b"HTTP/1.1 408")
    monkeypatch.setattr(demo, "_PATIENCE_S", 20)
    with socket.create_connection((demo.HOST, ask.port), timeout=10) as gone:
        gone.sendall(head)
    assert ask("POST", "/predict", clip)[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_uploads_at_once_are_read_one_by_one(ask, clip, monkeypatch):
    reading, most = [], []
    plain = demo._read

    async def watched(*arguments):
        reading.append(1)
        most.append(len(reading))
        try:
            return await plain(*arguments)
        finally:
            reading.pop()

    monkeypatch.setattr(demo, "_read", watched)
    threads = [threading.Thread(target=lambda: ask("POST", "/predict", clip)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4


def test_scores_that_are_no_numbers_are_refused(clip):
    with served(Predictor(without_numbers(make_module()), small_clips())) as ask:
        status, told = message(ask("POST", "/predict", clip))
    assert status == 422 and "4 of 4 scores are not finite numbers" in told


def test_classes_of_one_name_have_a_curve_each(clip):
    module = make_module()
    module.class_names = ["one", "one", "two", "three"]
    with served(Predictor(module, small_clips()), top=4) as ask:
        found = json.loads(ask("POST", "/predict", clip)[1])
    keys = [guess.get("key", guess["class"]) for guess in found["top"]]
    assert sorted(keys) == sorted(found["over_time"]["scores"]) == ["one (0)", "one (1)", "three", "two"]


def test_a_video_that_is_too_long(ask):
    content = encode_mp4(moving(80), intra_only=True)
    status, told = message(ask("POST", "/predict", content))
    assert status == 413 and told.startswith("This video is 3.2 s long (80 frames), and at most 3 s are taken")


def test_too_many_frames_for_their_seconds(predictor, clip, monkeypatch):
    """A video may claim that thousands of frames are one second."""
    monkeypatch.setattr(demo, "_MOST_FPS", 10)
    with pytest.raises(demo.RefusedError, match="50 frames"):
        demo.answer_video(predictor, clip, Limits(seconds=3))


def test_other_sites_and_other_names_of_this_machine_are_refused(ask, clip):
    assert message(ask("POST", "/predict", clip, {"Origin": "https://evil.example"}))[0] == 403
    assert message(ask("POST", "/predict", clip, {"Origin": "http://127.0.0.1.evil.example"}))[0] == 403
    assert message(ask("POST", "/predict", clip, {"Origin": "null"}))[0] == 403
    assert ask("POST", "/predict", clip, {"Origin": f"http://127.0.0.1:{ask.port}"})[0] == 200
    assert ask(headers={"Host": "evil.example"})[0] == 400
    assert ask(headers={"Host": "localhost"})[0] == 200


def test_nothing_else_is_served(ask):
    assert ask(path="/../pyproject.toml")[0] == 404 and ask(path="/index.html")[0] == 404
    assert message(ask(path="/docs")) == (404, "There is no /docs here; there are /, /facts and /predict.")
    assert message(ask(path="/predict")) == (405, "GET is not answered at /predict; POST a video.")
    assert message(ask("POST", "/facts")) == (405, "POST is not answered at /facts; GET it.")
    assert ask(path="/docs")[2]["content-security-policy"]


def test_a_form_is_told_to_send_the_file_itself(ask, clip):
    form = b'--it\r\nContent-Disposition: form-data; name="file"; filename="it.mp4"\r\n\r\n' + clip + b"\r\n--it--\r\n"
    status, told = message(ask("POST", "/predict", form, {"Content-Type": "multipart/form-data; boundary=it"}))
    assert status == 415 and "not a form (curl --data-binary @FILE)" in told
    assert ask("POST", "/predict", clip, {"Content-Type": "application/x-www-form-urlencoded"})[0] == 200, (
        "curl says so"
    )


def test_videos_sent_at_once_are_answered_one_by_one(ask, clip, monkeypatch):
    running, most = [], []
    plain = demo.answer_video

    def watched(*arguments, **options):
        running.append(1)
        most.append(len(running))
        try:
            return plain(*arguments, **options)
        finally:
            running.pop()

    monkeypatch.setattr(demo, "answer_video", watched)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(ask("POST", "/predict", clip)[0])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 4 and max(most) == 1


def test_it_listens_on_this_machine_alone(monkeypatch, predictor):
    bound = []

    def run(server, sockets):
        bound.append(sockets[0].getsockname())

    monkeypatch.setattr(uvicorn.Server, "run", run)
    told = []
    demo.serve(predictor, port=0, ready=told.append)
    assert bound[0][0] == "127.0.0.1" and told == [f"http://127.0.0.1:{bound[0][1]}"]


def test_a_port_that_is_taken_and_other_refusals(tmp_path, capsys):
    checkpoint = write_checkpoint(tmp_path / "it.ckpt", make_module(), small_clips())
    with socket.socket() as taken:
        taken.bind((demo.HOST, 0))
        taken.listen()
        arguments = ["demo", "--checkpoint", str(checkpoint), "--port", str(taken.getsockname()[1])]
        assert main(arguments) == 1
    assert "cannot be used" in capsys.readouterr().err
    assert main(["demo", "--checkpoint", str(checkpoint), "--max-mib", "0"]) == 1
    assert "lets no video in" in capsys.readouterr().err
    for wrong in ("inf", "nan"):
        assert main(["demo", "--checkpoint", str(checkpoint), "--max-mib", wrong]) == 1
        assert "held in memory" in capsys.readouterr().err


def test_a_missing_extra(predictor, monkeypatch):
    monkeypatch.setattr(
        exported, "find_spec", lambda name: None if name == "uvicorn" else importlib.util.find_spec(name)
    )
    with pytest.raises(ModuleNotFoundError, match=r"needs uvicorn, .* pip install 'kinema\[demo\]'"):
        make_app(predictor)


@pytest.mark.slow
@pytest.mark.skipif(find_chromium() is None, reason=f"no Chromium is found: none of {', '.join(BROWSERS)}")
def test_in_a_browser(predictor, clip, tmp_path):
    """A person's way: choose a video, see scores and curves; choose what is none; record; nothing is asked of elsewhere."""
    (tmp_path / "it.mp4").write_bytes(clip)
    (tmp_path / "note.txt").write_text("no video" * 50)
    (tmp_path / "large.mp4").write_bytes(bytes(2**20))
    shown = "!document.querySelector('#result').hidden"
    with (
        served(predictor, limits=Limits(mib=0.5, seconds=30), top=3) as ask,
        Browser(find_chromium(), tmp_path) as page,
    ):
        page.ask("Page.navigate", url=f"http://127.0.0.1:{ask.port}/")
        assert "tsm_nano, 4 classes" in page.wait_for("document.querySelector('#facts')?.textContent")
        page.choose("#file", tmp_path / "it.mp4")
        page.wait_for(shown)
        names = page.value("[...document.querySelectorAll('#guesses .name')].map(part => part.textContent)")
        assert names == [NAMES[label] for label in predictor(clip).topk(3).indices]
        assert page.value("document.querySelectorAll('#curves .curve').length") == 3
        points = page.value("document.querySelector('#curves .curve').getAttribute('points').split(' ').length")
        assert points == 16
        place = "Number(document.querySelector('#curves .now').getAttribute('x1'))"
        before = page.value(place)
        page.value("document.querySelector('#video').currentTime = 1, 0")
        assert page.wait_for(f"{place} > {before} && {place}") == pytest.approx(36 + 554 / 2, abs=3), (
            "the middle of 2 s"
        )
        if os.environ.get("KINEMA_SCREENSHOT"):
            page.screenshot(os.environ["KINEMA_SCREENSHOT"])
        wrong = "document.querySelector('#message.wrong')?.textContent"
        page.choose("#file", tmp_path / "note.txt")
        assert page.wait_for(wrong).startswith("This cannot be read as a video")
        assert not page.value(shown), "what was seen in another video is gone"
        page.choose("#file", tmp_path / "large.mp4")
        assert "at most 0.5 MiB" in page.wait_for(f"{wrong}?.includes('MiB') && {wrong}")
        page.value("document.querySelector('#record').click(), 0")
        page.wait_for("document.querySelector('#record').textContent == 'Stop' && video.currentTime > 1")
        page.value("document.querySelector('#record').click(), 0")
        page.wait_for(shown)
        assert page.value("document.querySelectorAll('#guesses li').length") == 3
        own = (f"http://127.0.0.1:{ask.port}/", "blob:", "data:", "about:")
        assert all(url.startswith(own) for url in page.asked_for()), page.asked_for()
        # A refusal of the program counts as one of the browser's errors of loading.
        assert all("415" in each["entry"]["text"] for each in page.complaints()), page.complaints()
