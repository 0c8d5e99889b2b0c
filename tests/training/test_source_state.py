"""What counts as a change of the source: the source alone, new files of it too."""

import subprocess

import pytest

from kinema.training import record


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    source = tmp_path / "src" / "kinema"
    (source / "training").mkdir(parents=True)
    (source / "training" / "record.py").write_text("one\n")
    (tmp_path / "results.csv").write_text("old\n")

    def git(*arguments):
        named = ("-c", "user.name=one", "-c", "user.email=one@example.com")
        subprocess.run(["git", "-C", str(tmp_path), *named, *arguments], check=True, capture_output=True)

    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message=first")
    monkeypatch.setattr(record, "__file__", str(source / "training" / "record.py"))
    return tmp_path


def test_results_that_a_sweep_writes_beside_it_are_no_change(checkout):
    (checkout / "results.csv").write_text("new\n")
    (checkout / "figure.png").write_bytes(b"new")
    commit, changes = record.source_state()
    assert len(commit) == 40 and changes == ""


def test_changed_and_new_files_of_the_source_are(checkout):
    (checkout / "src" / "kinema" / "training" / "record.py").write_text("two\n")
    assert "+two" in record.source_state()[1]
    (checkout / "src" / "kinema" / "fresh.py").write_text("")
    assert "new file, not shown: fresh.py" in record.source_state()[1]


def test_outside_a_checkout_nothing_is_known(tmp_path, monkeypatch):
    (tmp_path / "kinema" / "training").mkdir(parents=True)
    monkeypatch.setattr(record, "__file__", str(tmp_path / "kinema" / "training" / "record.py"))
    assert record.source_state() == ("", "") and record.source_tree() == ""
