"""RTSP on this machine, over TCP: frames come, passwords are sent and not shown, a camera that hangs up is opened anew."""

import base64
import socket
import struct
import threading
from contextlib import contextmanager, suppress

import pytest

from kinema.streaming.reader import FrameReader
from kinema.streaming.source import StreamError
from kinema.streaming.sources import Address

from cameras import encoded, grey, number_in

NUM = 20
SDP = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=it
t=0 0
m=video 0 RTP/AVP 33
a=rtpmap:33 MP2T/90000
a=control:track
"""


class _Conversation:
    """One client of the server: requests are answered until it plays, then a transport stream is sent as RTP (RFC 2250)."""

    def __init__(self, connection, content, password):
        self.connection, self.content = connection, content
        self.key = base64.b64encode(password.encode()).decode() if password else ""

    def serve(self, asked):
        lines = self.connection.makefile("rb")
        while True:
            request = []
            while (line := lines.readline().strip()) or not request:
                if not line:
                    return
                request.append(line.decode())
            asked.append(request)
            method = request[0].split()[0]
            number = next(line for line in request if line.lower().startswith("cseq"))
            if self.key and f"Authorization: Basic {self.key}" not in request:
                self.answer("401 Unauthorized", number, 'WWW-Authenticate: Basic realm="it"')
            elif method == "OPTIONS":
                self.answer("200 OK", number, "Public: DESCRIBE, SETUP, PLAY, TEARDOWN")
            elif method == "DESCRIBE":
                self.answer("200 OK", number, "Content-Type: application/sdp", body=SDP)
            elif method == "SETUP":
                self.answer("200 OK", number, "Session: 1", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
            elif method == "PLAY":
                self.answer("200 OK", number, "Session: 1")
                self.play()
                return

    def answer(self, status, *lines, body=""):
        lines = [f"RTSP/1.0 {status}", *lines, f"Content-Length: {len(body)}", "", body]
        self.connection.sendall("\r\n".join(lines).encode())

    def play(self):
        for number, first in enumerate(range(0, len(self.content), 7 * 188)):
            payload = self.content[first : first + 7 * 188]
            packet = struct.pack(">BBHII", 0x80, 33, number, 3600 * number, 1) + payload
            self.connection.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)


@contextmanager
def camera(*contents, password=""):
    """A server that sends the n-th client the n-th content and hangs up; then it is gone."""
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)

        def serve():
            for content in contents:
                with suppress(OSError):
                    connection, _ = listener.accept()
                    with connection:
                        _Conversation(connection, content, password).serve(asked)
            listener.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}/it", asked
        thread.join()


@pytest.fixture(scope="module")
def content():
    return encoded([grey(number) for number in range(NUM)], "mpegts", gop=5)


def test_frames_come_and_the_password_is_sent_and_not_shown(content):
    with (
        camera(content, password="bob:hunter2") as (place, asked),
        FrameReader(Address(f"rtsp://bob:hunter2@{place}", 5), queue=99, reconnects=0) as reader,
    ):
        shown = [number_in(frame.pixels) for frame in reader]
    assert shown == sorted(set(shown)) and len(shown) >= NUM - 2 and reader.live
    assert reader.source.name == f"rtsp://***@{place}" and any(
        "Authorization" in line for each in asked for line in each
    )


def test_a_camera_that_hangs_up_is_opened_anew(content):
    with camera(content, content) as (place, _):
        found = []
        with (
            pytest.raises(StreamError, match=rf"rtsp://\*\*\*@{place} .* opened anew once, and no frame came"),
            FrameReader(Address(f"rtsp://bob:hunter2@{place}", 5), queue=99, reconnects=1, first_wait_s=0.05) as reader,
        ):
            found.extend(reader)
    assert reader.reconnected == 1 and [frame.cut for frame in found if frame.cut] == ["reconnected"]
    assert len(found) >= 2 * NUM - 4
