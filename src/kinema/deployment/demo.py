"""A web page on this machine: upload or record a clip, see its scores over time.

Written with starlette and served by uvicorn on 127.0.0.1 alone. Nothing is loaded from elsewhere: the page consists of three
files beside this one, and a Content-Security-Policy forbids the browser to ask any other machine. Videos are held in memory,
never written, and forgotten. Gradio 6 would spare us the page; it keeps uploads in a cache on disk, fetches its video editor
from a content delivery network, and brings 28 packages.
"""

import asyncio
import contextlib
import socket
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kinema.data.decoding import DecodeError, open_video
from kinema.deployment.exported import need_packages
from kinema.deployment.prediction import Prediction, as_facts, scores_over_time
from kinema.training.restore import NonFiniteScoresError, Predictor

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

HOST = "127.0.0.1"
_PAGE = Path(__file__).with_name("page")
_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; media-src 'self' blob:; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_MOST_FPS = 240
_MOST_READ = 8
"""Times the limit of a file, up to which one that is too large is read on; then the connection ends."""
_PATIENCE_S = 30.0
"""Without a byte of an upload, after which it is given up, for others wait behind it."""

_MOST_MIB = 4096
_MOST_PORT = 65535


@dataclass(frozen=True)
class Limits:
    """What is refused.

    Args:
        mib: Size of a file.
        seconds: Length of a video.
    """

    mib: float = 64
    seconds: float = 60

    def __post_init__(self) -> None:
        if not (0 < self.mib <= _MOST_MIB and 0 < self.seconds < inf):
            raise ValueError(
                f"a limit of {self.mib:g} MiB and {self.seconds:g} s lets no video in, or any; give numbers above 0, and at "
                f"most {_MOST_MIB} MiB, for videos are held in memory"
            )

    @property
    def bytes(self) -> int:
        return int(self.mib * 2**20)


class RefusedError(Exception):
    """A request that is answered by a message.

    Args:
        status: Of HTTP.
        message: For the person in front of the page.
        ends: Whether the connection ends with it, the rest of the request unread.
    """

    def __init__(self, status: int, message: str, *, ends: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"Connection": "close"} if ends else {}


def make_app(predictor: Predictor, *, limits: Limits | None = None, top: int = 5, num_windows: int = 16) -> "Starlette":
    """The page as an ASGI application: `/` the page, `/facts` what it shows of the classifier, `/predict` for videos.

    Args:
        predictor: The classifier.
        limits: What is refused.
        top: Classes that are shown.
        num_windows: Windows whose scores make the curves.

    Raises:
        ValueError: If no class would be shown.
        ModuleNotFoundError: If the extra `demo` is not installed.
    """
    if top < 1:
        raise ValueError(f"top={top} shows no class; give at least 1")
    need_packages("starlette", "uvicorn", extra="demo")
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import ClientDisconnect
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    limits = limits or Limits()
    # The network takes all threads by itself, and videos that wait for it would be held in memory.
    one_at_a_time = asyncio.Lock()

    def answer(content: bytes) -> dict[str, Any]:
        return answer_video(predictor, content, limits, top=top, num_windows=num_windows)

    async def predict(request: "Request") -> "Response":
        try:
            _need_own_page(request.headers.get("origin"))
            async with one_at_a_time:
                content = await _read(request, limits)
                return JSONResponse(await run_in_threadpool(answer, content), headers=_HEADERS)
        except RefusedError as refusal:
            return JSONResponse({"error": str(refusal)}, refusal.status, headers={**_HEADERS, **refusal.headers})
        except ClientDisconnect:
            return Response(status_code=400, headers=_HEADERS)  # nobody reads it
        except Exception as error:
            # The page shows what comes as JSON alone, and who started the demo needs to know where it was.
            traceback.print_exc()
            told = f"This failed, and not by the video alone: {type(error).__name__}: {error}. The terminal says where."
            return JSONResponse({"error": told}, 500, headers=_HEADERS)

    async def refuse(request: "Request", error: Exception) -> "Response":
        assert isinstance(error, HTTPException)
        told = f"There is no {request.url.path} here; there are /, /facts and /predict."
        if error.status_code == 405:
            wanted = "POST a video" if request.url.path == "/predict" else "GET it"
            told = f"{request.method} is not answered at {request.url.path}; {wanted}."
        return JSONResponse({"error": told}, error.status_code, headers={**(error.headers or {}), **_HEADERS})

    async def facts(request: "Request") -> "Response":
        return JSONResponse(
            {
                "model": predictor.module.model_name,
                "checkpoint": predictor.checkpoint.name if predictor.checkpoint else "",
                "num_classes": len(predictor.class_names),
                "notes": list(predictor.notes),
                "max_mib": limits.mib,
                "max_seconds": limits.seconds,
            },
            headers=_HEADERS,
        )

    def page(file: str, kind: str) -> Callable:
        content = (_PAGE / file).read_bytes()

        async def serve_file(request: "Request") -> "Response":
            return Response(content, media_type=kind, headers=_HEADERS)

        return serve_file

    routes = [Route(path, page(*file)) for path, file in _FILES.items()]
    routes += [Route("/facts", facts), Route("/predict", predict, methods=["POST"])]
    # A name of another site that leads to this machine must not: its page could then read the answers.
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"], www_redirect=False)
    return Starlette(routes=routes, middleware=[hosts], exception_handlers={404: refuse, 405: refuse})


def answer_video(
    predictor: Predictor, content: bytes, limits: Limits, *, top: int = 5, num_windows: int = 16
) -> dict[str, Any]:
    """What the page shows of one video.

    Raises:
        RefusedError: If it is no video, is damaged, or is too long; or the network gives no numbers for it.
    """
    try:
        with open_video(content) as video:
            duration, num_frames = float(video.duration), video.num_frames
        if duration > limits.seconds or num_frames > limits.seconds * _MOST_FPS:
            raise RefusedError(
                413,
                f"This video is {duration:.1f} s long ({num_frames} frames), and at most {limits.seconds:g} s are taken; cut "
                "it, or start kinema demo with a larger --max-seconds.",
            )
        scores = predictor(content)
        timeline = scores_over_time(predictor, content, num_windows=num_windows)
    except DecodeError as error:
        raise RefusedError(415, f"This cannot be read as a video: {error}") from error
    except NonFiniteScoresError as error:
        raise RefusedError(422, f"The network says nothing of this: {error}.") from error
    found = as_facts(Prediction("", scores, timeline=timeline), predictor.class_names, top)
    return {**found, "duration": duration, "num_frames": num_frames}


def need_port(port: int) -> None:
    """Refuse a number that no port has.

    Raises:
        ValueError: If it is none of 0 to 65535.
    """
    if not 0 <= port <= _MOST_PORT:
        raise ValueError(f"port {port} is none; give a number from 1 to {_MOST_PORT}, or 0 for any port that is free")


def serve(
    predictor: Predictor,
    *,
    port: int = 7860,
    limits: Limits | None = None,
    top: int = 5,
    ready: Callable[[str], None] = print,
) -> None:
    """Serve the page on this machine until it is interrupted.

    Args:
        predictor, limits, top: As for `make_app`.
        port: 0 for any that is free.
        ready: Called with the address.

    Raises:
        ValueError: If there is no port of that number, or no class would be shown.
        OSError: If the port is taken.
        ModuleNotFoundError: If the extra `demo` is not installed.
    """
    need_port(port)
    app = make_app(predictor, limits=limits, top=top)
    import uvicorn

    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            raise OSError(
                f"port {port} of {HOST} cannot be used ({error.strerror}); give another port as --port, 0 for any"
            ) from error
        listener.listen()  # from here on a browser waits for an answer
        ready(f"http://{HOST}:{listener.getsockname()[1]}")
        with contextlib.suppress(KeyboardInterrupt):  # the way to end it
            uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])


def _need_own_page(origin: str | None) -> None:
    """Refuse what another site's page makes a browser send."""
    if origin is not None and urlsplit(origin).hostname not in (HOST, "localhost"):
        raise RefusedError(403, f"A page of {origin} asked, and only the page of kinema demo is answered.")


async def _read(request: "Request", limits: Limits) -> bytes:
    """The video that was sent. Of one that is too large the rest is read and dropped, for a browser reads no answer before.

    Raises:
        RefusedError: If it is too large, no more of it comes, or it is none.
        ClientDisconnect: If who sent it has gone.
    """
    parts: list[bytes] = []
    size = 0
    chunks = aiter(request.stream())
    while True:
        try:
            chunk = await asyncio.wait_for(anext(chunks, None), _PATIENCE_S)
        except TimeoutError:
            raise RefusedError(
                408, f"No more of this video came for {_PATIENCE_S:g} s; send it again.", ends=True
            ) from None
        if chunk is None:
            break
        size += len(chunk)
        if size > _MOST_READ * limits.bytes:
            raise RefusedError(
                413,
                f"More than {size / 2**20:.1f} MiB came, and at most {limits.mib:g} MiB are taken; the rest was not read. "
                "Choose a shorter or smaller video.",
                ends=True,
            )
        if size <= limits.bytes:
            parts.append(chunk)
        else:
            parts.clear()
    if size > limits.bytes:
        raise RefusedError(
            413,
            f"This file has {size / 2**20:.1f} MiB, and at most {limits.mib:g} MiB are taken; choose a shorter or smaller "
            "video, or start kinema demo with a larger --max-mib.",
        )
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise RefusedError(
            415, "This is a form; send the file itself as the body, not a form (curl --data-binary @FILE)."
        )
    if not size:
        raise RefusedError(400, "Nothing was sent; choose a video, or record one.")
    return b"".join(parts)
