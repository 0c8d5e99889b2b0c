"""A journal is whole whatever ends the writing of it, and of no use for other work."""

import errno
import os

import pytest

from kinema.data.journal import Journal, write_durably

HEADER = {"format": 1}


@pytest.fixture
def path(tmp_path):
    with Journal(tmp_path / "j", HEADER) as journal:
        journal.add([("a", {"n": 1}), ("b", {"n": 2})])
        journal.add([("a", {"n": 3, "a longer line": "than the next one"})])
    return tmp_path / "j"


def test_entries_come_back_and_later_ones_win(path):
    with Journal(path, HEADER) as journal:
        assert journal.entries["a"]["n"] == 3 and journal.entries["b"] == {"n": 2}


@pytest.mark.parametrize("cut", [1, 5, 14])
def test_what_was_being_written_is_cut_off_and_writing_goes_on_behind(path, cut):
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(path, HEADER) as journal:
        assert journal.entries == {"a": {"n": 1}, "b": {"n": 2}}
        journal.add([("c", {"n": 4})])
    assert path.read_bytes().endswith(b"\n"), "nothing of the cut line is left behind"
    with Journal(path, HEADER) as journal:
        assert journal.entries == {"a": {"n": 1}, "b": {"n": 2}, "c": {"n": 4}}


@pytest.mark.parametrize("content", [b"", b"{}\n", b"\x00\xff", b'{"format": 2}\n["a", 1]\n'])
def test_another_header_begins_anew(path, content):
    path.write_bytes(content)
    with Journal(path, HEADER) as journal:
        assert journal.entries == {}
        journal.add([("d", 1)])
    with Journal(path, HEADER) as journal:
        assert journal.entries == {"d": 1}


def test_entries_are_on_the_disk_when_add_returns(path, monkeypatch):
    synced = []
    with Journal(path, HEADER) as journal:
        monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
        journal.add([("e", 1)])
        assert synced == [path.stat().st_size] and path.read_bytes().endswith(b'["e", 1]\n')


def test_a_full_disk_leaves_what_was_there(path, monkeypatch):
    whole = path.read_bytes()
    with pytest.raises(OSError, match="No space"), Journal(path, HEADER) as journal:
        monkeypatch.setattr(os, "fsync", _full)
        journal.add([("e", 1)])
    assert "e" not in journal.entries and path.read_bytes().startswith(whole)


def test_a_file_is_the_old_one_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "list.csv"
    write_durably(path, "old\n")
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(OSError, match="No space"):
        write_durably(path, "new\n")
    assert path.read_text() == "old\n" and [entry.name for entry in tmp_path.iterdir()] == ["list.csv"]


def _full(file):
    raise OSError(errno.ENOSPC, "No space left on device")
