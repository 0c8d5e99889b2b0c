"""The README's commands and code run as written."""

import re
from pathlib import Path

import pytest

from kinema.cli import main

from conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_snippets_run():
    printed: list[str] = []
    for snippet in blocks("python"):
        names = {"print": lambda text: printed.append(text)}
        exec(snippet, names)
    assert printed == ["24.3 M parameters, 32.7 GMACs"]
    assert names["video"].places


def commands():
    return [line.partition("#")[0].strip() for block in blocks("bash") for line in block.splitlines()]


def test_the_two_commands_stand_there_as_promised():
    assert "python -m pip install -e . && kinema fit --config experiments/quickstart/tsm.yaml" in commands()
    assert 'python -m pip install -e ".[dev]" && pytest -n 2 --dist worksteal' in commands()


def test_the_kinema_commands_run(motion_root, tmp_path, monkeypatch, cli):
    """Each `kinema` line, with a tiny set in place of FOLDER and epochs cut."""
    from kinema.data.motion import prepare_motion

    source = prepare_motion(motion_root, num_train=36, num_val=24, progress=False)
    (tmp_path / "experiments").symlink_to(REPOSITORY / "experiments")
    monkeypatch.chdir(tmp_path)
    short = ["--run.wandb", "off", "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]
    short += ["--trainer.accelerator", "cpu", "--data.num_workers", "0", "--data.batch_size", "4"]
    tiny = {
        "quickstart": ["--data.root", str(motion_root), "--data.num_train", "36", "--data.num_val", "24"],
        "own_videos": ["--model.backbone", "nano", "--data.size", "32", "--data.resize", "32"],
    }
    video = sorted(source.glob("videos/**/*.mp4"))[0]
    ran = []
    for command in commands():
        command = command.rpartition("&& ")[2]
        if not command.startswith("kinema "):
            continue
        runs = sorted((tmp_path / "runs" / "own-videos").glob("*"))
        command = command.replace("runs/own-videos/ID", str(runs[0]) if runs else "none")
        arguments = command.replace("FOLDER", str(source)).replace("clip.mp4", str(video)).split()[1:]
        if arguments[0] == "fit":
            arguments += short + next(more for name, more in tiny.items() if name in command)
        assert main(arguments) == 0, command
        ran.append(arguments[0])
    assert ran == ["fit", "data", "fit", "validate", "predict"]


PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("experiments/**/*.md"), *REPOSITORY.glob("notebooks/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    broken = [link for link in links if not link.startswith("http") and not (page.parent / link).exists()]
    assert not broken, f"{page.name} links to {broken}"


def test_all_pages_are_looked_at():
    assert len(PAGES) >= 30


def test_it_fits_one_screen():
    assert len(README.splitlines()) <= 80


def test_importing_kinema_alone_stays_light():
    import subprocess
    import sys

    heavy = "{'torch', 'lightning', 'wandb', 'timm', 'torchvision', 'matplotlib'}"
    code = f"import sys, kinema, kinema.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert Path(REPOSITORY / "LICENSE").is_file()
