"""Object stores, reached through litdata: s3, gs, azure and whatever else it knows."""

import hashlib
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock

from kinema.data.home import data_home
from kinema.data.shards.layout import FACTS, INDEX, ShardError

_LOCAL = "local:"  # litdata's word for a network disk that is copied from as if it were an object store


def is_remote(where: str) -> bool:
    """Tell an address, such as s3://bucket/folder, from a folder."""
    return "://" in where or where.startswith(_LOCAL)


def need_litdata() -> None:
    """Refuse to go on without litdata.

    Raises:
        ShardError: If it is not installed.
    """
    try:
        import litdata  # noqa: F401 - optional, and slow to import
    except ImportError as error:
        raise ShardError(
            f"shards are written, and fetched from object stores, by litdata, which cannot be imported ({error}); "
            "pip install 'kinema[shards]', or in a clone: pip install -e '.[shards]'"
        ) from error


class ObjectStore:
    """A folder of an object store.

    Args:
        url: Its address, with the scheme: s3://bucket/folder.

    Raises:
        ShardError: If litdata is not installed.
    """

    def __init__(self, url: str) -> None:
        need_litdata()
        self.url = url.rstrip("/")
        self._downloader: tuple[int, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_downloader": None}

    def fetch(self, name: str, target: Path, *, num_bytes: int | None = None) -> None:
        """Bring a file here unless it is here; processes that ask at once wait for one of them.

        Args:
            name: Below the address.
            target: Where to; it appears when it is whole.
            num_bytes: Its size, if that is known.

        Raises:
            ShardError: If it cannot be fetched, or is of another size.
        """
        if target.is_file():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock")):
            if target.is_file():
                return
            with TemporaryDirectory(prefix=".fetching-", dir=target.parent) as folder:
                unfinished = Path(folder) / target.name
                try:
                    self._client().download_file(f"{self.url}/{name}", str(unfinished))
                except Exception as error:  # each store has errors of its own
                    raise ShardError(
                        f"{self.url}/{name} cannot be fetched ({type(error).__name__}: {error}); check the address and the "
                        "credentials in the environment"
                    ) from error
                size = unfinished.stat().st_size if unfinished.is_file() else None
                if size is None or size != (size if num_bytes is None else num_bytes):
                    raise ShardError(
                        f"the shard {self.url}/{name} has {size if size is not None else 'no'} bytes and should have "
                        f"{num_bytes if num_bytes is not None else 'some'}; upload it again, or write it again"
                    )
                unfinished.replace(target)

    def upload(self, file: Path, name: str) -> None:
        """Put a file into the store.

        Raises:
            ShardError: If it cannot be put there.
        """
        try:
            if self.url.startswith(_LOCAL):
                target = Path(self.url.removeprefix(_LOCAL)) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                part = target.with_name(f".{name}.part")
                shutil.copyfile(file, part)
                part.replace(target)
                return
            from litdata.streaming.fs_provider import _get_fs_provider

            _get_fs_provider(self.url).upload_file(str(file), f"{self.url}/{name}")
        except Exception as error:  # each store has errors of its own
            raise ShardError(
                f"{self.url}/{name} cannot be written ({type(error).__name__}: {error}); litdata writes to s3 and gs: write "
                "to a folder and copy it for others. What was written stays, and the same command goes on with it"
            ) from error

    def _client(self) -> Any:
        # One for each process: the connections of a store do not survive a fork.
        if self._downloader is None or self._downloader[0] != os.getpid():
            from litdata.streaming.downloader import get_downloader

            self._downloader = os.getpid(), get_downloader(self.url, "", [], {})
        return self._downloader[1]


def fetch_index(store: ObjectStore) -> Path:
    """Bring the small files of shards here: a folder whose name follows from their content, so that other shards that come to
    the same address are others here too.

    Raises:
        ShardError: If they cannot be fetched.
    """
    home = data_home() / "shards"
    home.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".index-", dir=home) as folder:
        fresh = [Path(folder) / name for name in (INDEX, FACTS)]
        for path in fresh:
            store.fetch(path.name, path)
        content = b"".join(path.read_bytes() for path in fresh)
        kept = home / hashlib.sha256(content).hexdigest()[:16]
        kept.mkdir(exist_ok=True)
        for path in fresh:
            path.replace(kept / path.name)
    return kept
