"""experiments/localization: the snippet of its README evaluates detections, and its script writes where it is told."""

import os
import re
import subprocess

import pytest

from conftest import REPOSITORY

README = (REPOSITORY / "experiments" / "localization" / "README.md").read_text()


def block(language):
    (found,) = re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
    return found


def test_detections_of_ones_own_are_evaluated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    snippet = block("python")
    (tmp_path / "annotations.json").write_text(block("json"))
    (example,) = re.findall(r"^# (\{.*)$", snippet, flags=re.MULTILINE)
    (tmp_path / "detections.json").write_text(example)
    told: list[str] = []
    exec(snippet, {"print": told.append})
    # One of two classes is found, with a tIoU of 2.4 / 2.7 = 0.89: right at 8 of 10 thresholds.
    assert told == ["average mAP 40.0%, AR@100 40.0%"]


@pytest.mark.parametrize("folder", [None, "mine"])
def test_the_script_writes_where_it_is_told(folder, tmp_path):
    for name in ("kinema", "python"):
        fake = tmp_path / name
        fake.write_text(f'#!/bin/bash\necho "$@" >> "{tmp_path}/told"\n')
        fake.chmod(0o755)
    script = REPOSITORY / "experiments" / "localization" / "run.sh"
    given = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["bash", script, *([folder] if folder else [])], cwd=tmp_path, env=given, check=True)
    last = (tmp_path / "told").read_text().splitlines()[-1]
    assert last.startswith(
        f"scripts/report_localization.py {folder or 'experiments/localization'} runs/localization-tsn "
    )
