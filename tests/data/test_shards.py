"""Videos out of shards: the samples of the files to the bit, in any process, and clear words where shards are not whole."""

import json
import pickle
import shutil
import struct
import sys
from fractions import Fraction

import pytest
import torch
from lightning import Callback

from kinema.data.decoding import index_cache, open_video
from kinema.data.decoding.file_part import FilePart, PartReader
from kinema.data.decoding.frame_folder import FrameFolders
from kinema.data.prepare import prepare_archive
from kinema.data.shards.layout import ShardError
from kinema.data.shards.source import ShardedVideos
from kinema.data.shards.storage import ObjectStore
from kinema.data.shards.write import shard_videos

from archives import make_archive
from conftest import metrics_of
from motion_module import module
from painted import numbers_in, write_video


def write(sources, root, output, **options):
    return shard_videos(sources, root, str(output), **{"chunk_mib": 0.05, "progress": False} | options)


@pytest.fixture(scope="module")
def shards(motion, tmp_path_factory):
    """The tiny motion set in several chunks; not to be changed."""
    folder = tmp_path_factory.mktemp("shards")
    done = write([motion / "train.csv", motion / "val.csv"], motion, folder)
    assert done.videos == 60 and done.chunks > 3 and done.unreadable == {} and done.kept == 0
    return folder


@pytest.fixture
def copied(shards, tmp_path):
    return shutil.copytree(shards, tmp_path / "copied")


def same(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(value, other[key]) if isinstance(value, torch.Tensor) else value == other[key], key


@pytest.mark.parametrize(
    "options", [{}, {"num_workers": 2}, {"decoder": "pyav", "sampling": "dense", "stride_frames": 3}]
)
def test_samples_are_those_of_the_files(motion, shards, options):
    files, sharded = module(motion, **options | {"num_workers": 0}), module("nowhere", shards=str(shards), **options)
    assert sharded.class_names == files.class_names
    for loader in ("train_dataloader", "val_dataloader"):
        batches = list(zip(getattr(files, loader)(), getattr(sharded, loader)(), strict=True))
        assert len(batches) == (9 if loader == "train_dataloader" else 6)
        for one, other in batches:
            same(one, other)


def test_every_rank_gets_its_batches(motion, shards, monkeypatch):
    for rank in range(2):
        monkeypatch.setattr("kinema.data.datamodule.VideoDataModule._rank", lambda self, rank=rank: (rank, 2))
        for data in (files := module(motion), sharded := module("nowhere", shards=str(shards))):
            data.train_dataloader().batches.set_epoch(3)
        batches = list(zip(files.train_dataloader(), sharded.train_dataloader(), strict=True))
        assert batches
        for one, other in batches:
            same(one, other)


class StopAt(Callback):
    """End a run in the middle of its epoch, with a checkpoint."""

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        trainer.should_stop = trainer.global_step == 5
        if trainer.should_stop:
            trainer.save_checkpoint(trainer.default_root_dir + "/half.ckpt")


def test_a_run_goes_on_from_files_to_shards_in_the_middle_of_an_epoch(motion, shards, cli):
    options = ["fit", "--trainer.log_every_n_steps", 1, "--model.dropout", 0.5, "--trainer.max_epochs", 1]

    def losses(run):
        lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
        return {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}

    whole = cli(*options)
    half = cli(*options, "--trainer.callbacks+", "test_shards.StopAt")
    resumed = cli(*options, "--ckpt_path", half / "half.ckpt", "--data.shards", shards, "--data.num_workers", 2)
    assert losses(resumed) == {step: loss for step, loss in losses(whole).items() if step >= 5}
    assert metrics_of(resumed)["top1"] == metrics_of(whole)["top1"]


def test_litdata_reads_them_too(motion, shards):
    litdata = pytest.importorskip("litdata")
    dataset = litdata.StreamingDataset(str(shards))
    names = [bytes(dataset[place]["name"]).decode() for place in range(len(dataset))]
    assert len(names) == 60 and len(set(names)) == 60
    for place in (0, 17, 59, 3):
        assert bytes(dataset[place]["content"]) == (motion / names[place]).read_bytes()


def test_a_source_travels_to_other_processes_and_opens_any_video(motion, shards):
    source = pickle.loads(pickle.dumps(ShardedVideos(str(shards))))
    paths = [path for path in source.index.places if "val" in path]
    for path in reversed(paths):
        with source.open(source.folder / path) as video, open_video(motion / path) as file:
            assert video.num_frames == file.num_frames and video.fps == file.fps
            assert torch.equal(video.decode([3, 0]), file.decode([3, 0]))
    assert source.folder / paths[0] in source and source.folder / "videos" / "none.mp4" not in source


@pytest.mark.parametrize(
    ("harm", "match"),
    [
        (lambda folder, chunk: chunk.unlink(), r"chunk-0-1.bin is missing; copy it again"),
        (
            lambda folder, chunk: chunk.write_bytes(chunk.read_bytes()[:-7]),
            r"chunk-0-1.bin has \d+ bytes and should have \d+",
        ),
        (lambda folder, chunk: (folder / "index.json").unlink(), r"holds no index.json; give a folder that"),
        (lambda folder, chunk: (folder / "shards.json").write_text("{"), r"shards.json cannot be read"),
        (
            lambda folder, chunk: edit(folder / "shards.json", format=7),
            r"is of format 7, and this version of kinema reads 1",
        ),
        (
            lambda folder, chunk: edit(folder / "shards.json", videos=["a.mp4"]),
            r"names 1 videos and index.json counts 60",
        ),
        (lambda folder, chunk: edit_config(folder, data_format=["jpeg", "int"]), r"so another program wrote these"),
        (lambda folder, chunk: edit_config(folder, compression="zstd"), r"so another program wrote these"),
    ],
)
def test_shards_that_are_not_whole_are_refused_by_name(copied, harm, match):
    harm(copied, copied / "chunk-0-1.bin")
    with pytest.raises(ShardError, match=match):
        module("nowhere", shards=str(copied))


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def edit_config(folder, **values):
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index | {"config": index["config"] | values}))


@pytest.mark.parametrize("what", ["count", "offsets", "leaves", "end", "name"])
def test_a_damaged_shard_stops_the_run_and_is_named(copied, what):
    data = module("nowhere", shards=str(copied))
    index = json.loads((copied / "index.json").read_text())["chunks"][0]
    content = bytearray((copied / "chunk-0-0.bin").read_bytes())
    first = 4 * (index["chunk_size"] + 2)
    if what == "count":
        content[:4] = struct.pack("<I", 3)
    elif what == "offsets":
        content[8:12] = struct.pack("<I", 5)
    elif what == "leaves":
        content[first : first + 4] = struct.pack("<I", 5)
    elif what == "end":
        content[first + 8 : first + 12] = struct.pack("<I", 8)
    else:
        name = content.index(b"videos/")
        content[name : name + 6] = b"elsewh"
    (copied / "chunk-0-0.bin").write_bytes(content)
    with pytest.raises(ShardError, match=r"the shard .*chunk-0-0.bin is damaged"):
        list(data.train_dataloader())
    data.num_workers = 1
    with pytest.raises(ShardError, match=r"chunk-0-0.bin is damaged"):
        list(data.train_dataloader())


def test_videos_that_cannot_be_decoded_are_told_as_they_are_of_files(motion, tmp_path):
    root = shutil.copytree(motion, tmp_path / "set")
    files = sorted((root / "videos").glob("train_*.mp4"))
    files[0].write_bytes(files[0].read_bytes()[:900])
    files[1].unlink()
    done = write([root / "train.csv", root / "val.csv"], root, tmp_path / "out")
    assert list(done.unreadable) == [f"videos/{files[1].name}"] and done.videos == 59
    assert (tmp_path / "out" / "unreadable.csv").read_text().splitlines()[1].startswith(f"videos/{files[1].name},")
    options = {"max_error_rate": 0.1, "batch_size": 36}
    one, other = module(root, **options), module("nowhere", shards=str(tmp_path / "out"), **options)
    (first,), (second,) = list(one.train_dataloader()), list(other.train_dataloader())
    assert torch.equal(first["clip"], second["clip"]) and first["names"] == second["names"]
    assert {path for path, _ in first["failures"]} == {path for path, _ in second["failures"]}
    told = dict(second["failures"])
    damaged, absent = (told[f"videos/{file.name}"] for file in files[:2])
    assert f"videos/{files[0].name} in {tmp_path}" in damaged and ".bin" in damaged and "does not hold" in absent
    with pytest.raises(ValueError, match=r"1 of 36 'train' videos are missing"):
        module("nowhere", shards=str(tmp_path / "out"))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_a_stopped_run_goes_on_where_it_was(motion, shards, tmp_path, monkeypatch):
    from kinema.data.shards import write as module_under_test

    lists, out = [motion / "train.csv", motion / "val.csv"], tmp_path / "out"
    write_chunk = module_under_test._write_chunk

    def stopping(work, number, paths):
        if number == 2:
            raise KeyboardInterrupt
        return write_chunk(work, number, paths)

    monkeypatch.setattr(module_under_test, "_write_chunk", stopping)
    with pytest.raises(KeyboardInterrupt):
        write(lists, motion, out, num_workers=1)
    assert not (out / "index.json").exists() and not list(out.glob(".chunk-*"))
    with pytest.raises(ShardError, match=r"holds no index.json; .* \(the same command goes on"):
        ShardedVideos(str(out))
    before = (out / "chunk-0-0.bin").stat().st_mtime_ns
    # A chunk that was noted and then lost is written again.
    (out / "chunk-0-1.bin").unlink()
    written = []
    monkeypatch.setattr(module_under_test, "_write_chunk", lambda *a: (written.append(a[1]), write_chunk(*a))[1])
    done = write(lists, motion, out, num_workers=2)
    assert done.kept == 1 and 0 not in written and {1, 2} < set(written)
    assert (out / "chunk-0-0.bin").stat().st_mtime_ns == before
    assert contents(out) == contents(shards), "as if it had not been stopped, and with two threads"
    written.clear()
    assert write(lists, motion, out).kept == done.chunks and not written


def test_other_shards_are_not_mixed_in(motion, copied):
    with pytest.raises(ShardError, match=r"holds shards that differ in lists, videos; give another folder"):
        write([motion / "train.csv"], motion, copied)
    with pytest.raises(ShardError, match=r"differ in chunk_mib"):
        write([motion / "train.csv", motion / "val.csv"], motion, copied, chunk_mib=1)


def test_a_full_disk_leaves_what_was_written(motion, tmp_path, monkeypatch):
    from kinema.data.shards import write as module_under_test

    def full(source, target):
        if "chunk-0-2" in str(target):
            raise OSError(28, "No space left on device")
        return shutil.move(source, target)

    monkeypatch.setattr(module_under_test.os, "replace", full)
    with pytest.raises(ShardError, match=r"the disk is full; what was written is whole, and the same command goes on"):
        write([motion / "train.csv"], motion, tmp_path / "out", num_workers=1)
    assert not (tmp_path / "out" / "index.json").exists()
    monkeypatch.undo()
    assert write([motion / "train.csv"], motion, tmp_path / "out").kept == 2


def test_nothing_to_write_is_refused(motion, tmp_path):
    with pytest.raises(ShardError, match=r"none of the 36 videos is below"):
        write([motion / "train.csv"], tmp_path, tmp_path / "out")
    with pytest.raises(ShardError, match=r"chunk_mib=0 holds no video"):
        write([motion / "train.csv"], motion, tmp_path / "out", chunk_mib=0)
    with pytest.raises(ShardError, match=r"two lists would have one name"):
        write([motion / "train.csv", motion / "train.csv"], motion, tmp_path / "out")
    (tmp_path / "far.csv").write_text(f"path,label\n{motion / 'videos' / 'a.mp4'},x\n")
    with pytest.raises(ValueError, match=r"leaves the data root|a place on this machine alone"):
        write([tmp_path / "far.csv"], motion, tmp_path / "out")


def test_folders_of_classes_keep_their_classes_and_their_split(motion, tmp_path):
    root = tmp_path / "own"
    for index, path in enumerate(sorted((motion / "videos").rglob("*.mp4"))[:20]):
        target = root / ("10" if index % 2 else "9, with a comma") / path.name
        target.parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(path, target)
    (root / "7").mkdir()  # a class without a video
    write([root], root, tmp_path / "out")
    one, other = module(root), module("nowhere", shards=str(tmp_path / "out"))
    assert other.class_names == one.class_names == ["10", "7", "9, with a comma"]
    assert other.manifests == one.manifests
    same(next(iter(one.train_dataloader())), next(iter(other.train_dataloader())))
    # The same as folders of train and val.
    parts = tmp_path / "parts"
    for part in ("train", "val"):
        shutil.copytree(root, parts / part)
    write([parts], parts, tmp_path / "parts-out")
    one, other = module(parts), module("nowhere", shards=str(tmp_path / "parts-out"))
    assert other.class_names == one.class_names and other.manifests["val"].records == one.manifests["val"].records
    shutil.rmtree(parts / "val" / "7")
    with pytest.raises(ShardError, match="hold different classes"):
        write([parts], parts, tmp_path / "no")


CLIPS = {"num_frames": 4, "size": 32, "resize": 32, "num_workers": 0, "train_crop": "center", "batch_size": 3}


@pytest.mark.parametrize("name", ["ssv1", "ssv2", "epic100", "ucf101"])
def test_prepared_archives_are_read_out_of_shards(name, tmp_path):
    data = make_archive(name, tmp_path / "root", **CLIPS)
    prepared = prepare_archive(data, num_workers=1, progress=False, sha256=False)
    folders = FrameFolders("{:05d}.jpg") if name == "ssv1" else None
    write([prepared.manifest], data.root, tmp_path / "out", folders=folders, chunk_mib=0.02)
    files, sharded = (
        type(data)(str(root), subset=True, **CLIPS, **options)
        for root, options in ((data.root, {}), ("nowhere", {"shards": str(tmp_path / "out")}))
    )
    for each in (files, sharded):
        each.setup()
    assert sharded.manifests == files.manifests and sharded.tasks == files.tasks
    for loader in ("train_dataloader", "val_dataloader"):
        for one, other in zip(getattr(files, loader)(), getattr(sharded, loader)(), strict=True):
            same(one, other)
    if name == "ssv1":
        with pytest.raises(ShardError, match=r"holds folders of pictures, and the data module reads video files; give"):
            ShardedVideos(str(tmp_path / "out"))
    (tmp_path / "out" / prepared.manifest.name).unlink()
    again = type(data)("nowhere", subset=True, shards=str(tmp_path / "out"), **CLIPS)
    with pytest.raises(ValueError, match=r"hold no list .*; write it with 'kinema data prepare', and then the shards"):
        again.setup()


def test_damaged_pictures_are_named(tmp_path):
    data = make_archive("ssv1", tmp_path / "root", **CLIPS)
    prepared = prepare_archive(data, num_workers=1, progress=False, sha256=False)
    record = data.read_archive().manifest.records[0]
    (data.root / record.path / "00002.jpg").write_bytes(b"no picture")
    (data.root / data.read_archive().manifest.records[1].path / "00002.jpg").unlink()
    done = write([prepared.manifest], data.root, tmp_path / "out", folders=FrameFolders("{:05d}.jpg"))
    assert list(done.unreadable) == [data.read_archive().manifest.records[1].path]
    source = ShardedVideos(str(tmp_path / "out"), folders=FrameFolders("{:05d}.jpg", 12))
    video = source.open(source.folder / record.path)
    assert video.fps == 12 and video.decode([0]).shape[0] == 1
    with pytest.raises(ValueError, match=r"00002.jpg in .*chunk-0-0.bin cannot be decoded"):
        video.decode([1])


def test_videos_may_be_encoded_again_on_the_way(tmp_path):
    from kinema.data.reencoding import Encoding, reencode_video

    root = tmp_path / "root"
    root.mkdir()
    write_video(root / "a.mp4", 30)
    (root / "b.mp4").write_bytes(b"no video")
    (root / "list.csv").write_text("path,label\na.mp4,x\nb.mp4,x\n")
    encoding = Encoding(short_side=32, keyframe_interval=7)
    done = write([root / "list.csv"], root, tmp_path / "out", encoding=encoding)
    assert list(done.unreadable) == ["b.mp4"] and done.videos == 1
    reencode_video(root / "a.mp4", tmp_path / "alone.mp4", encoding)
    source = ShardedVideos(str(tmp_path / "out"))
    with source.open(source.folder / "a.mp4") as video, open_video(tmp_path / "alone.mp4") as alone:
        assert min(video.height, video.width) == 32 and video.index.packets.keyframes == [0, 7, 14, 21, 28]
        assert torch.equal(video.decode(range(30)), alone.decode(range(30)))


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KINEMA_DATA", str(tmp_path / "home"))
    return tmp_path / "home" / "shards"


def test_chunks_of_a_store_are_fetched_when_they_are_wanted(motion, shards, tmp_path, home):
    store = tmp_path / "store"
    done = write([motion / "train.csv", motion / "val.csv"], motion, f"local:{store}")
    assert contents(store) == contents(shards)
    assert not list(home.glob("to-upload-*/chunk-*")), "chunks on the way are removed"
    assert write([motion / "train.csv", motion / "val.csv"], motion, f"local:{store}").kept == done.chunks
    files, sharded = module(motion), module("nowhere", shards=f"local:{store}")
    assert not list(sharded.root.glob("chunk-*")), "nothing is fetched before"
    dataset = sharded.val_dataloader().dataset
    same(dataset[0], files.val_dataloader().dataset[0])
    (fetched,) = sharded.root.glob("chunk-*")
    sharded.num_workers = 2
    for one, other in zip(files.train_dataloader(), sharded.train_dataloader(), strict=True):
        same(one, other)
    before = fetched.stat().st_mtime_ns
    again = module("nowhere", shards=f"local:{store}")
    assert again.root == sharded.root
    same(again.val_dataloader().dataset[0], dataset[0])
    assert fetched.stat().st_mtime_ns == before, "what is here is not fetched again"


def test_a_store_that_fails_is_told(shards, tmp_path, home, monkeypatch):
    store = shutil.copytree(shards, tmp_path / "store")
    (store / "chunk-0-0.bin").write_bytes((store / "chunk-0-0.bin").read_bytes()[:100])
    data = module("nowhere", shards=f"local:{store}")
    with pytest.raises(ShardError, match=r"the shard local:.*chunk-0-0.bin has 100 bytes and should have \d+"):
        list(data.train_dataloader())
    (store / "chunk-0-0.bin").unlink()
    with pytest.raises(ShardError, match=r"chunk-0-0.bin cannot be fetched \(FileNotFoundError"):
        list(data.train_dataloader())
    # Other shards at the same address are others here too.
    edit(store / "shards.json", unreadable=1)
    assert module("nowhere", shards=f"local:{store}").root != data.root
    shutil.rmtree(store)
    with pytest.raises(ShardError, match=r"index.json cannot be fetched"):
        module("nowhere", shards=f"local:{store}")


def test_every_process_has_its_own_connection(tmp_path, monkeypatch):
    store = ObjectStore(f"local:{tmp_path}")
    client = store._client()
    assert store._client() is client
    with monkeypatch.context() as child:
        child.setattr("os.getpid", lambda: -1)  # what a worker inherits is of its parent
        assert store._client() is not client


def test_an_upload_ends_with_the_index(motion, shards, tmp_path, home, monkeypatch):
    fs_provider = pytest.importorskip("litdata.streaming.fs_provider")
    stored = {}

    class Provider:
        def upload_file(self, local, remote):
            if len(stored) == 2 and not getattr(Provider, "mended", False):
                raise ConnectionError("no route")
            with open(local, "rb") as file:  # noqa: PTH123
                stored[remote] = file.read()

    monkeypatch.setattr(fs_provider, "_get_fs_provider", lambda url: Provider())
    lists = [motion / "train.csv", motion / "val.csv"]
    with pytest.raises(
        ShardError, match=r"s3://bucket/set/chunk-0-2.bin cannot be written \(ConnectionError: no route\)"
    ):
        write(lists, motion, "s3://bucket/set/", num_workers=1)
    assert list(stored) == ["s3://bucket/set/chunk-0-0.bin", "s3://bucket/set/chunk-0-1.bin"]
    Provider.mended = True
    assert write(lists, motion, "s3://bucket/set", num_workers=1).kept == 2
    assert {name.rpartition("/")[2]: content for name, content in stored.items()} == contents(shards)
    assert list(stored)[-1] == "s3://bucket/set/index.json"


def test_without_litdata_folders_are_read_and_the_rest_says_what_to_install(motion, shards, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "litdata", None)
    same(module("nowhere", shards=str(shards)).val_dataloader().dataset[0], module(motion).val_dataloader().dataset[0])
    for call in (
        lambda: module("nowhere", shards="s3://bucket/folder"),
        lambda: write([motion / "train.csv"], motion, tmp_path / "out"),
    ):
        with pytest.raises(ShardError, match=r"pip install 'kinema\[shards\]'"):
            call()


def test_what_does_not_go_together_is_refused(motion, shards):
    with pytest.raises(ValueError, match=r"frame_cache=True keeps frames of video files, and shards="):
        module(motion, frame_cache=True, train_crop="center", shards=str(shards))
    with pytest.raises(
        ShardError, match=r"holds video files, and the data module reads pictures; leave --data.frames out"
    ):
        module(motion, frames="{:05d}.jpg", shards=str(shards))


def test_the_command(motion, tmp_path, cli):
    arguments = [
        "data",
        "shard",
        motion / "train.csv",
        motion / "val.csv",
        "--output",
        tmp_path / "out",
        "--workers",
        2,
    ]
    cli(*arguments, "--chunk-mib", 0.05, config=None)
    assert "60 videos in" in cli.output.out and cli.output.out.splitlines()[-1] == str(tmp_path / "out")
    cli(*arguments, "--chunk-mib", 0.05, config=None)
    assert "were there" in cli.output.out
    cli(*arguments, config=None, status=1)
    assert "holds shards that differ in chunk_mib" in cli.output.err
    arguments[5] = tmp_path / "small"
    cli(*arguments, "--short-side", 32, "--gop", 2, config=None)
    source = ShardedVideos(str(tmp_path / "small"))
    with source.open(next(iter(source.index.places))) as video:
        assert (video.height, video.index.packets.keyframes[1]) == (32, 2)


def test_a_part_of_a_file_is_a_video(tmp_path):
    path = write_video(tmp_path / "a.mp4", 30, options={"g": "10"})
    content = path.read_bytes()
    other = write_video(tmp_path / "b.mp4", 12).read_bytes()
    (tmp_path / "large").write_bytes(b"before" * 100 + content + other + b"behind" * 1000)
    part = FilePart(tmp_path / "large", 600, len(content), "a in large")
    index_cache.forget_all()
    with open_video(part) as video:
        assert numbers_in(video.decode([29, 0, 17])) == [29, 0, 17] and video.fps == Fraction(video.fps)
        assert video.name == "a in large" and not video.report.errors
    assert len(index_cache._indices) == 1
    with open_video(part):
        assert len(index_cache._indices) == 1, "known by now"
    with pytest.raises(ValueError, match="a in large"):
        open_video(FilePart(tmp_path / "large", 0, 600, "a in large"))
    with open_video(FilePart(tmp_path / "large", 600 + len(content), len(other), "b in large")) as video:
        assert numbers_in(video.decode([11, 2])) == [11, 2] and video.num_frames == 12, "another part is another video"
    with PartReader(part) as file:
        assert file.read(4) == content[:4] and file.tell() == 4 and file.readable() and file.seekable()
        assert file.seek(-3, 2) == len(content) - 3 and file.read() == content[-3:] and file.read(5) == b""
        assert file.seek(-2, 1) == len(content) - 2 and file.seek(10**9) and file.read() == b""
        with pytest.raises(OSError, match="before its first byte"):
            file.seek(-1)
    assert part.read() == content
    with pytest.raises(ValueError, match="is empty"):
        open_video(FilePart(tmp_path / "large", 5, 0, "nothing"))
    with pytest.raises(ValueError, match="cannot be read"):
        open_video(FilePart(tmp_path / "absent", 5, 3, "nothing"))
