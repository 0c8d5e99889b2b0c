"""Videos whose frames carry their number as brightness, servers that send them well or badly, and an untrained classifier."""

import io
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import torch

from kinema.data.clips import EvalClips
from kinema.data.sampling import Segments
from kinema.data.transforms import EvalTransform, Normalisation
from kinema.streaming.source import Opened, Picture, StreamError
from kinema.training import TSM
from kinema.training.restore import Predictor

NAMES = ["falling", "rising", "turning", "waiting"]
FPS = 25


def grey(number, height=48, width=64):
    return np.full((height, width, 3), 20 + 4 * number, np.uint8)


def number_in(pixels):
    return round((float(pixels.mean()) - 20) / 4)


def texture(seed, height=48, width=64):
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return np.kron(blocks, np.ones((height // 6, width // 8, 1), np.uint8))


def encoded(frames, container="mp4", *, gop=1, fps=FPS, rotation=None, index_first=False):
    """Frames as H.264 in bytes; with its index in front, an MP4 can be shown while it comes."""
    if index_first:
        with tempfile.TemporaryDirectory() as folder:
            _write(f"{folder}/it.mp4", frames, container, gop, fps, rotation, {"movflags": "faststart"})
            return Path(folder, "it.mp4").read_bytes()
    file = io.BytesIO()
    _write(file, frames, container, gop, fps, rotation, {})
    return file.getvalue()


def _write(file, frames, container, gop, fps, rotation, options):
    with av.open(file, "w", format=container, options=options) as output:
        stream = output.add_stream("libx264", rate=fps, options={"threads": "1", "bf": "0", "qp": "20"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.codec_context.gop_size = "yuv420p", gop
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for frame in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(stream.encode(None))


@contextmanager
def served(*answers):
    """A server on this machine: the n-th request gets the n-th answer, later ones the last.

    An answer is a function of the request's handler. Gives an object with `url` and the number of `requests`.
    """
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.requests.append(dict(self.headers))
            server.paths.append(self.path)
            with suppress(OSError):  # the client has gone
                answers[min(len(server.requests), len(answers)) - 1](self)
            self.close_connection = True

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.requests, server.paths, server.done = True, [], [], done
    server.url = f"http://127.0.0.1:{server.server_address[1]}/stream"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        done.set()
        server.shutdown()
        thread.join()
        server.server_close()


def whole(content, *, kind="video/mp4", told=None, announced=True):
    """An answer: this content; `told` is the length that is announced, if it is another."""

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        if announced:
            handler.send_header("Content-Length", str(len(content) if told is None else told))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def trickling(content, *, parts=40, pause_s=0.02, then_stalls=False):
    """An answer: content that comes little by little, of unannounced length, and perhaps nothing behind it."""

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "video/mp2t")
        handler.end_headers()
        size = -(-len(content) // parts)
        for first in range(0, len(content), size):
            handler.wfile.write(content[first : first + size])
            time.sleep(pause_s)
        if then_stalls:
            handler.server.done.wait(30)

    return answer


def silent(handler):
    """An answer that never comes."""
    handler.server.done.wait(30)


def refusing(status):
    def answer(handler):
        handler.send_error(status)

    return answer


class Stand(Opened):
    """A source that is a list: numbers are frames, an exception is raised; a list of lists is opened one after the other.

    With `hangs_until`, no frame comes before that event, as from a driver that never gives its thread back.
    """

    reconnects, name = False, "a stand-in"

    def __init__(
        self,
        frames,
        *,
        live=False,
        pause_s=0.0,
        converting_s=0.0,
        stall_s=None,
        reconnects=False,
        fps=FPS,
        hangs_until=None,
    ):
        self.converting_s, self.hangs_until = converting_s, hangs_until
        self.frames, self.live, self.pause_s, self.stall_s = frames, live, pause_s, stall_s
        self.reconnects, self.fps = reconnects, Fraction(fps)
        self.opened = self.closed = 0

    def open(self):
        self.opened += 1
        if self.opened > 1 and not isinstance(self.frames[0], list):
            raise StreamError("it is not there any more")
        return self

    def pictures(self):
        frames = self.frames
        if frames and isinstance(frames[0], list):
            frames = frames.pop(0)
        if self.hangs_until is not None:
            self.hangs_until.wait(30)
        for number in frames:
            time.sleep(self.pause_s)
            if isinstance(number, BaseException):
                raise number
            wanted = self.wanted(Fraction(number, FPS))
            time.sleep(self.converting_s if wanted else 0)
            yield Picture(grey(number) if wanted else None, Fraction(number, FPS))

    def close(self):
        self.closed += 1


def classifier(num_frames=4, **options):
    """A nano network that nobody has trained; causal unless it is told otherwise."""
    torch.manual_seed(0)
    normalisation = Normalisation((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    module = TSM("nano", len(NAMES), normalisation=normalisation, **{"causal": True} | options)
    torch.nn.init.normal_(module.network.head.fc.weight, std=0.3)
    module.class_names = NAMES
    return Predictor(module.eval(), EvalClips(Segments(num_frames), EvalTransform(32, 40)))
