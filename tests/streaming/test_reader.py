"""Streams over HTTP on this machine: whole, slow, stalled, lost, and garbage; no frame twice, no thread left, no hang."""

import io
import threading
import time
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from kinema.streaming import container
from kinema.streaming import reader as reading
from kinema.streaming.frame_queue import Frame, FrameQueue
from kinema.streaming.lag import Lag
from kinema.streaming.reader import FrameReader
from kinema.streaming.source import Picture, StreamError
from kinema.streaming.sources import Address

from cameras import FPS, Stand, encoded, grey, number_in, refusing, served, silent, trickling, whole

NUM = 40
_FILE = io.BytesIO()
Image.fromarray(grey(9)).save(_FILE, "png")
PNG = _FILE.getvalue()


@pytest.fixture(scope="module")
def mp4():
    return encoded([grey(number) for number in range(NUM)])


@pytest.fixture(scope="module")
def ts():
    return encoded([grey(number) for number in range(NUM)], "mpegts", gop=5)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("kinema")]


def address(server, *, stall_s=3.0, **options):
    return Address(server.url, stall_s, **options)


def numbers(frames):
    return [number_in(frame.pixels) for frame in frames]


def rising(frames):
    return all(one.time_s <= other.time_s for one, other in pairwise(frames))


def test_a_file_behind_an_address_is_given_whole_and_waits(mp4):
    with served(whole(mp4)) as server, FrameReader(address(server), queue=1) as reader:
        found = []
        for frame in reader:
            found.append(frame)
            time.sleep(0.002)
    assert numbers(found) == list(range(NUM)) and [frame.number for frame in found] == list(range(NUM))
    assert [frame.time_s for frame in found] == [Fraction(number, FPS) for number in range(NUM)]
    assert not reader.live and reader.dropped == 0 and len(server.requests) == 1 and reader.fps == FPS


def test_a_stream_of_known_size_is_no_live_one(ts):
    with served(whole(ts, kind="video/mp2t")) as server, FrameReader(address(server), queue=1) as reader:
        found = list(reader)
    assert numbers(found) == list(range(NUM)) and not reader.live and reader.reconnected == 0
    assert found[0].time_s == 0, "transport streams begin at 1.4 s"


def test_a_live_stream_drops_the_oldest_and_counts_them(ts):
    with served(trickling(ts)) as server, FrameReader(address(server), queue=2, reconnects=0) as reader:
        found = []
        for frame in reader:
            found.append(frame)
            time.sleep(0.08)  # four times what the server takes for a frame
    assert reader.live and reader.dropped > 5 and reader.frames == NUM == len(found) + reader.dropped
    shown = numbers(found)
    assert shown == sorted(set(shown)) and shown[-1] == NUM - 1, "the newest is never the one that is dropped"
    assert [frame.number for frame in found] == shown, "numbers count what was dropped"
    assert [frame.dropped for frame in found] == sorted(frame.dropped for frame in found) and rising(found)
    assert all(frame.dropped <= frame.number for frame in found) and found[-1].dropped == reader.dropped


def test_a_live_source_that_is_converted_too_slowly_drops_rather_than_lags(monkeypatch):
    monkeypatch.setattr(reading, "_LATE_S", 0.15)
    with FrameReader(Stand(range(30), live=True, converting_s=0.06, stall_s=5), queue=99) as reader:
        found = list(reader)
    assert reader.frames == 30 == len(found) + reader.dropped and reader.dropped >= 5
    assert max(frame.late_s for frame in found) > 0.05
    assert found[-1].dropped <= reader.dropped, "the last frame may be late itself"
    assert [frame.number for frame in found] == numbers(found)


def test_a_live_address_that_is_converted_too_slowly(ts, monkeypatch):
    monkeypatch.setattr(reading, "_LATE_S", 0.15)
    plain = container.rgb_of
    monkeypatch.setattr(container, "rgb_of", lambda *arguments: time.sleep(0.08) or plain(*arguments))
    with served(trickling(ts, pause_s=0)) as server, FrameReader(address(server), queue=99, reconnects=0) as reader:
        found = list(reader)
    assert reader.frames == NUM and 5 <= reader.dropped == NUM - len(found) and rising(found)


def test_a_decoder_that_never_catches_up_still_shows_something(monkeypatch):
    monkeypatch.setattr(reading, "_LATE_S", 0.05)
    monkeypatch.setattr(reading, "_SELDOM_S", 0.2)
    with FrameReader(Stand(range(20), live=True, pause_s=0.06, stall_s=5), queue=99) as reader:
        found = list(reader)
    assert reader.dropped >= 5 and len(found) >= 4 and found[-1].late_s > 0.3


def test_a_lag_is_work_beyond_what_was_shown_and_no_waiting():
    def lags(steps):
        lag, shown, now, waited = Lag(), Fraction(0), 0.0, 0.0
        found = []
        for time_s, work_s, wait_s in steps:
            shown, now, waited = shown + Fraction(str(time_s)), now + work_s + wait_s, waited + wait_s
            found.append(lag.add(shown, now, waited))
        return found

    assert lags([(0, 9, 0), (0.04, 0.1, 0), (0.04, 0.1, 0), (0.04, 0, 0), (0.04, 0, 0), (0.04, 0, 0)]) == pytest.approx(
        [0, 0.06, 0.12, 0.08, 0.04, 0]
    )
    burst = [(0.04, 0.001, 6 if number % 150 == 0 else 0) for number in range(450)]
    assert max(lags(burst)) == 0, "a playlist comes segment by segment"
    assert max(lags([(0.04, 0.01, 0.031)] * 2000)) == 0, "a clock that is slow"
    lag = Lag()
    lag.add(Fraction(5), 0.0, 0.0)
    assert lag.add(Fraction(6), 9.0, 0.0) == 8 and lag.add(None, 9.0, 0.0) == 0 and lag.add(Fraction(0), 20.0, 0.0) == 0
    assert lag.add(Fraction(1), 22.0, 0.0) == 1, "a clock that falls begins anew"


def test_live_or_not_can_be_said(ts, mp4):
    with served(trickling(ts, pause_s=0)) as server:
        with FrameReader(address(server, live=False), queue=1) as reader:
            found = []
            for frame in reader:
                found.append(frame)
                time.sleep(0.005)
        assert numbers(found) == list(range(NUM)) and reader.dropped == 0
    with served(whole(mp4)) as server, FrameReader(address(server, live=True), queue=1, reconnects=0) as reader:
        given_up = time.monotonic() + 30
        while reader.dropped <= 5 and time.monotonic() < given_up:  # nobody takes the frames
            time.sleep(0.01)
        assert reader.live and reader.dropped > 5 and numbers(reader)[-1] == NUM - 1


def test_a_stream_that_stalls_is_an_error_in_time(ts):
    with served(trickling(ts, pause_s=0, then_stalls=True)) as server:
        begun, found = time.monotonic(), []
        with (
            pytest.raises(StreamError, match=r"was lost \(no new frame came for 0.5 s; --stall waits longer\)"),
            FrameReader(address(server, stall_s=0.5), queue=NUM, reconnects=0) as reader,
        ):
            found.extend(reader)
        assert time.monotonic() - begun < 5
    assert len(found) >= NUM - 2, "what had come is given first"


@pytest.mark.parametrize("content", [None, b"", b"\x00" * 100], ids=["no answer", "no byte", "a few bytes"])
def test_an_address_that_does_not_go_on_is_not_waited_for(content, ts):
    answer = silent if content is None else trickling(content or ts[:0] + b" ", then_stalls=True, parts=1)
    with served(answer) as server:
        begun = time.monotonic()
        with (
            pytest.raises(StreamError, match=r"cannot be opened \(no new frame came for 0.4 s; --stall waits longer\)"),
            FrameReader(address(server, stall_s=0.4), first_wait_s=0) as reader,
        ):
            list(reader)
        assert time.monotonic() - begun < 5 and len(server.requests) == 1


@pytest.fixture(scope="module")
def index_first():
    return encoded([grey(number) for number in range(NUM)], index_first=True)


def test_a_file_that_is_cut_off_on_the_way_goes_on_where_it_was(index_first):
    part = whole(index_first[: len(index_first) * 4 // 5], told=len(index_first))
    with (
        served(part, refusing(503), whole(index_first)) as server,
        FrameReader(address(server), first_wait_s=0.01) as reader,
    ):
        found = list(reader)
    assert numbers(found) == list(range(NUM)) and [frame.number for frame in found] == list(range(NUM))
    assert (
        reader.reconnected == 1
        and len(server.requests) == 3
        and rising(found)
        and not any(frame.cut for frame in found)
    )
    assert [frame.time_s for frame in found] == [Fraction(number, FPS) for number in range(NUM)]
    assert any("was lost" in note and "opening it anew in 0.01 s" in note for note in reader.notes)


def test_a_file_of_unannounced_size_that_ends_too_early_is_lost():
    content = encoded([grey(number) for number in range(NUM)], fps=5, index_first=True)  # 8 s
    part = content[: len(content) * 4 // 5]
    with (
        served(whole(part, announced=False), whole(content, announced=False)) as server,
        FrameReader(address(server), first_wait_s=0.01) as reader,
    ):
        found = list(reader)
    assert numbers(found) == list(range(NUM)) and reader.reconnected == 1 and not reader.live
    assert "it ended behind" in reader.notes[0] and "of 8.0 s" in reader.notes[0]


def test_a_file_that_stalls_goes_on_where_it_was(index_first):
    def stalling(handler):
        whole(index_first[: len(index_first) * 4 // 5], told=len(index_first))(handler)
        handler.server.done.wait(30)

    with (
        served(stalling, whole(index_first)) as server,
        FrameReader(address(server, stall_s=0.5), first_wait_s=0.01) as reader,
    ):
        assert numbers(reader) == list(range(NUM))
    assert "was lost" in reader.notes[0] and "came for 0.5 s" in reader.notes[0]


def test_an_interrupted_read_that_a_format_takes_for_the_end_is_a_stall(ts):
    class Interrupted:
        def demux(self, stream):
            time.sleep(0.3)
            return iter(())

    with served(trickling(ts, pause_s=0)) as server, address(server, stall_s=0.2).open() as opened:
        container, opened._container = opened._container, Interrupted()
        with pytest.raises(StreamError, match=r"no new frame came for 0.2 s"):
            list(opened.pictures())
        opened._container = container


def test_who_takes_frames_slowly_is_no_stall(mp4):
    with served(whole(mp4)) as server, FrameReader(address(server, stall_s=0.5), queue=1) as reader:
        found = []
        for frame in reader:
            found.append(number_in(frame.pixels))
            time.sleep(0.8 * (len(found) == 5))
    assert found == list(range(NUM)) and reader.reconnected == 0


def test_one_that_is_cut_off_again_and_again_is_given_up(index_first):
    content = index_first
    with served(whole(content[: len(content) * 4 // 5], told=len(content))) as server:
        found = []
        with (
            pytest.raises(
                StreamError, match=r"was lost .* it was opened anew 3 times in a row, and no frame came; --reconnect"
            ),
            FrameReader(address(server), reconnects=3, first_wait_s=0.01) as reader,
        ):
            found.extend(reader)
    assert len(server.requests) == 4 and numbers(found) == list(range(len(found))) and 5 < len(found) < NUM


def test_a_camera_that_drops_the_connection_is_opened_anew(ts):
    with (
        served(trickling(ts, pause_s=0), refusing(503), trickling(ts, pause_s=0), refusing(503)) as server,
        pytest.raises(StreamError, match=r"5XX.* opened anew 2 times in a row"),
        FrameReader(address(server), queue=3 * NUM, reconnects=2, first_wait_s=0.05) as reader,
    ):
        found = []
        for frame in reader:
            found.append(frame)
    assert numbers(found) == [*range(NUM), *range(NUM)] and reader.reconnected == 1 and len(server.requests) == 5
    assert [frame.cut for frame in found] == [*[""] * NUM, "reconnected", *[""] * (NUM - 1)]
    assert rising(found) and found[NUM].time_s > found[NUM - 1].time_s


def test_waits_grow_between_attempts(ts, monkeypatch):
    monkeypatch.setattr(reading, "_LONGEST_WAIT_S", 0.2)
    with (
        served(trickling(ts, pause_s=0), refusing(404)) as server,
        pytest.raises(StreamError, match="404"),
        FrameReader(address(server), queue=NUM, reconnects=4, first_wait_s=0.06) as reader,
    ):
        list(reader)
    assert [note.rpartition(" in ")[2] for note in reader.notes] == ["0.06 s", "0.12 s", "0.2 s", "0.2 s"]


@pytest.mark.parametrize("status", [401, 404])
def test_an_address_that_never_gave_a_frame_is_not_tried_again(status):
    with served(refusing(status)) as server:
        source = Address(server.url.replace("http://", "http://bob:hunter2@") + "?token=s3cret")
        with pytest.raises(StreamError, match=f"cannot be opened .*{status}") as told, FrameReader(source) as reader:
            list(reader)
        assert len(server.requests) <= 2, "once more with the password, if it was asked for"
        text = f"{told.value!r} {told.value.__context__!r} {told.value.__cause__!r}"
        assert "hunter2" not in text and "s3cret" not in text and "***@127.0.0.1" in text


def test_nobody_listens():
    with (
        pytest.raises(StreamError, match=r"http://\*\*\*@127.0.0.1:9/x cannot be opened \(Connection refused\)"),
        FrameReader(Address("http://bob:hunter2@127.0.0.1:9/x")) as reader,
    ):
        list(reader)


@pytest.mark.parametrize(
    "content",
    [
        np.random.default_rng(0).bytes(200_000),
        PNG,
        b"<!doctype html><html>camera</html>" * 50,
        b"",
        b"#EXTM3U\nfile:///etc/passwd\n",
    ],
    ids=["noise", "a picture", "a page", "nothing", "a playlist"],
)
def test_what_is_no_video_is_told(content):
    with (
        served(whole(content, kind="text/plain")) as server,
        pytest.raises(StreamError, match="cannot be opened"),
        FrameReader(address(server)) as reader,
    ):
        list(reader)


def test_a_playlist_cannot_make_it_read_a_file_of_this_machine(ts, tmp_path):
    (tmp_path / "secret.ts").write_bytes(ts)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.6,\nfile://{tmp_path}/secret.ts\n#EXT-X-ENDLIST\n"
    with (
        served(whole(playlist.encode(), kind="application/vnd.apple.mpegurl")) as server,
        pytest.raises(StreamError, match=r"cannot be opened|sends|lost"),
        FrameReader(address(server, stall_s=1.0), reconnects=0) as reader,
    ):
        list(reader)


def test_garbage_within_a_stream_costs_its_frames_alone(ts):
    noise = np.random.default_rng(0).bytes(188 * 20)
    middle = len(ts) // 2 // 188 * 188
    with (
        served(whole(ts[:middle] + noise + ts[middle + len(noise) :], kind="video/mp2t")) as server,
        FrameReader(address(server)) as reader,
    ):
        shown = numbers(reader)
    assert shown == sorted(set(shown)) and shown[0] == 0 and shown[-1] == NUM - 1 and 10 < len(shown) < NUM


def test_frames_of_another_size_come_as_they_are(ts):
    other = encoded([grey(number, 64, 96) for number in range(5)], "mpegts", gop=5)
    with (
        served(trickling(ts + other, pause_s=0)) as server,
        FrameReader(address(server), queue=99, reconnects=0) as reader,
    ):
        shapes = [frame.pixels.shape for frame in reader]
    assert shapes.count((48, 64, 3)) >= NUM - 1 and shapes[-1] == (64, 96, 3)


def test_closing_ends_the_thread_wherever_it_is(ts, mp4):
    with served(whole(mp4)) as server:
        with FrameReader(address(server), queue=1) as reader:  # it waits for room in the queue
            next(iter(reader))
        assert not reader._thread.is_alive()
    with served(trickling(ts, pause_s=0, then_stalls=True)) as server:
        with FrameReader(address(server, stall_s=0.5), queue=1) as reader:  # it waits for the server
            next(iter(reader))
        assert not reader._thread.is_alive()
    with served(trickling(ts, pause_s=0)) as server:
        begun = time.monotonic()
        with FrameReader(address(server), queue=99, first_wait_s=20) as reader:  # it waits to open it anew
            for frame in reader:
                if number_in(frame.pixels) == NUM - 1:
                    break
            time.sleep(0.1)
        assert not reader._thread.is_alive() and time.monotonic() - begun < 10
    with FrameReader(Stand([1, 2])) as reader:
        pass
    assert reader.source.closed == 1


def test_a_driver_that_never_comes_back_is_given_up(monkeypatch):
    monkeypatch.setattr(reading, "_GRACE_S", 0.1)
    comes_back = threading.Event()
    source = Stand([1], stall_s=0.1, hangs_until=comes_back)
    with pytest.raises(StreamError, match="does not answer"), FrameReader(source) as reader:
        list(reader)
    left_behind = reader._thread.is_alive()
    comes_back.set()
    reader._thread.join()
    assert left_behind


def test_an_error_in_the_thread_is_an_error_of_who_takes_frames():
    with pytest.raises(ZeroDivisionError), FrameReader(Stand([1, 2, ZeroDivisionError("a bug")])) as reader:
        found = []
        for frame in reader:
            found.append(number_in(frame.pixels))
    assert found == [1, 2] and reader.source.closed == 1


def test_a_live_source_that_comes_back_goes_on_from_now_whatever_its_clock_says():
    source = Stand([[0, 1], [50, 51], [3]], live=True, stall_s=5, reconnects=True)
    found = []
    with (
        pytest.raises(IndexError),  # the stand-in has no more
        FrameReader(source, queue=9, first_wait_s=0.01, reconnects=1) as reader,
    ):
        found.extend(reader)
    assert numbers(found) == [0, 1, 50, 51, 3] and [bool(each.cut) for each in found] == [
        False,
        False,
        True,
        False,
        True,
    ]
    assert rising(found) and found[-1].time_s < 1.5


def test_a_lost_packet_costs_its_frame():
    rng = np.random.default_rng(0)
    noise = [np.clip(rng.normal(128, 60, (48, 64, 3)), 0, 255).astype(np.uint8) for _ in range(20)]
    content = encoded(noise, "mpegts", gop=10)
    content = content[: 188 * 60] + content[188 * 61 :]
    with served(whole(content, kind="video/mp2t")) as server, FrameReader(address(server)) as reader:
        assert len(list(reader)) == 19 and reader.damaged == 1


def frame(number, cut=""):
    return Frame(grey(number), Fraction(number), number, 0.0, cut=cut)


@pytest.mark.parametrize(("size", "count"), [(1, 10), (3, 10), (3, 8)])
def test_a_cut_is_not_dropped_with_its_frame(size, count):
    queue = FrameQueue(size)
    queue.drops = True
    for number in range(count):
        queue.put(frame(number, "lost" if number == 4 else ""))
    queue.end()
    kept = [queue.take(0) for _ in range(size)]
    assert [each.number for each in kept] == list(range(count - size, count)) and queue.dropped == count - size
    assert [each.cut for each in kept] == ["lost"] + [""] * (size - 1) and all(
        each.dropped == count - size for each in kept
    )
    assert queue.take(0) is None and queue.finished


def test_a_full_queue_waits_and_a_closed_one_takes_nothing():
    queue = FrameQueue(2)
    put = []
    thread = threading.Thread(target=lambda: put.extend(queue.put(frame(number)) for number in range(4)))
    thread.start()
    time.sleep(0.1)
    assert put == [True, True] and queue.dropped == 0
    assert queue.take(1).number == 0
    time.sleep(0.1)
    assert put == [True] * 3
    queue.close()
    thread.join(5)
    assert put == [True] * 3 + [False] and queue.finished and not queue.put(frame(9))
    with pytest.raises(ValueError, match="a queue of 0"):
        FrameQueue(0)


def placed(clock, time_s, arrived, live=True):
    return clock.place(Picture(grey(0), None if time_s is None else Fraction(time_s)), arrived, live)


def test_times_never_fall_and_jumps_of_a_live_clock_are_told():
    clock = reading._Clock(10)
    assert placed(clock, 100, 50.0) == (0, False) and placed(clock, 101, 51.0) == (1, False)
    assert placed(clock, 103, 51.1) == (3, False), "what was buffered comes faster than its times"
    assert placed(clock, 7, 51.6) == (Fraction("3.5"), True), "a clock that falls back begins anew"
    assert placed(clock, 8, 52.6) == (Fraction("4.5"), False)
    assert placed(clock, 9000, 53.6) == (Fraction("5.5"), True)
    clock.begin_anew()
    assert placed(clock, 3, 60.6) == (Fraction("12.5"), False), "as long as it took to come back"
    assert placed(clock, None, 61.0) == (Fraction("12.9"), False), "without a time, that of arrival"
    file = reading._Clock(0)
    assert [placed(file, time_s, 0.0, live=False)[0] for time_s in (0, 50, 5000, 4999)] == [0, 50, 5000, 5000]


def test_options_out_of_range():
    for wrong in ({"reconnects": -1}, {"first_wait_s": -1}):
        with pytest.raises(ValueError, match="at least 0"):
            FrameReader(Stand([]), **wrong)
    with pytest.raises(ValueError, match="a queue of 0"):
        FrameReader(Stand([]), queue=0)
