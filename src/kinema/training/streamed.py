"""A trained causal network run as a stream over its validation videos, beside what it says of them as clips."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kinema.data.clips import ClipBatch
from kinema.evaluation.metrics import video_metrics
from kinema.evaluation.views import VideoScores, ViewScores
from kinema.models.streaming import Streaming
from kinema.training.classifier import VideoClassifier
from kinema.training.record import checkpoint_of, processor_name, source_state
from kinema.training.restore import data_of_run, load_classifier

STREAMED_BEGIN, STREAMED_END = "<!-- streamed: written by a command, not by hand -->", "<!-- end of streamed -->"


@dataclass(frozen=True)
class StreamedValidation:
    """The same videos twice.

    Args:
        clips: Scores of the network on clips, as in the validation of its run.
        frames: Scores of the running mean of its steps, frame by frame: behind each frame those of a view so far. The last
            is that of the whole view.
        largest_difference: Largest difference between a logit of a clip and the mean of that logit over its steps.
    """

    clips: VideoScores
    frames: tuple[VideoScores, ...]
    largest_difference: float

    @property
    def streamed(self) -> VideoScores:
        """Scores of the streams at their end."""
        return self.frames[-1]

    @property
    def disagreeing(self) -> list[int]:
        """Videos of the manifest whose best guess as a stream is not that as clips."""
        decoded = self.clips.decoded
        guesses = [videos.scores[decoded].argmax(dim=1) for videos in (self.clips, self.streamed)]
        return self.clips.videos[decoded][guesses[0] != guesses[1]].tolist()

    @property
    def accuracy_by_frame(self) -> list[float]:
        """Top-1 behind every frame of the views."""
        return [video_metrics(videos)["top1"] for videos in self.frames]


@torch.inference_mode()
def stream_validation(
    path: str | Path, *, which: str = "last", device: str | torch.device = "cpu"
) -> StreamedValidation:
    """Run a causal network over its validation videos, as clips and frame by frame.

    Args:
        path: A run folder, or a folder of runs, of which the newest is taken.
        which: Its "last" checkpoint or the "best".
        device: Where to run.

    Raises:
        ValueError: If the network sees frames to come, or has several labels for a video.
    """
    module = load_classifier(checkpoint_of(path, which)).to(device)
    if not isinstance(module.network, Streaming) or module.tasks:
        raise ValueError(
            f"{path} holds a {type(module).__name__} that does not stream, or several labels for a video; give the run of a "
            "causal network with one label"
        )
    loader = data_of_run(path).val_dataloader()
    count = len(loader.dataset)  # pyrefly: ignore[bad-argument-type]
    of_clips = ViewScores(count, average=module.average)
    of_frames: list[ViewScores] = []
    largest = 0.0
    for batch in loader:
        pixels = module.normalise(batch["clip"].to(module.device))
        logits, means = module(pixels), _running_means(module, pixels)
        of_frames = of_frames or [ViewScores(count, average=module.average) for _ in means]
        largest = max(largest, float((means[-1] - logits).abs().max()))
        _add(of_clips, logits, batch)
        for scores, mean in zip(of_frames, means, strict=True):
            _add(scores, mean, batch)
    return StreamedValidation(of_clips.compute(), tuple(scores.compute() for scores in of_frames), largest)


def _running_means(module: VideoClassifier, clip: Tensor) -> list[Tensor]:
    """Mean of the logits of all steps so far, behind each frame."""
    network = module.network
    assert isinstance(network, Streaming)
    height, width = clip.shape[3:]
    state = network.init_state(clip.shape[0], (height, width))
    means: list[Tensor] = []
    total = torch.zeros((), device=clip.device)
    for t in range(clip.shape[2]):
        logits, state = network.step(clip[:, :, t], state)
        assert isinstance(logits, Tensor)
        total = total + logits
        means.append(total / (t + 1))
    return means


def _add(scores: ViewScores, logits: Tensor, batch: ClipBatch) -> None:
    scores.add(
        logits,
        label=batch["label"],
        video=batch["video"],
        view=batch["view"],
        num_views=batch["num_views"],
        decoded=batch["decoded"],
    )


def streamed_origin(device: str | torch.device = "cpu") -> str:
    """Where a table of streamed runs comes from: commit and machine, in a sentence to stand below it.

    Args:
        device: Where they ran.
    """
    commit, changes = source_state()
    where = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else processor_name()
    threads = torch.get_num_threads()
    told = (
        f"commit `{commit[:10]}`{' with changes' if changes else ''}"
        if commit
        else "commit unknown, outside a checkout"
    )
    return f"Streamed at {told}; {where}, {threads} thread{'s' if threads != 1 else ''}; torch {torch.__version__}."


def streamed_table(validations: Mapping[str, StreamedValidation]) -> str:
    """Runs by name as Markdown: accuracy as clips and as streams, where they disagree, and accuracy on the way."""
    frames = max(len(validation.frames) for validation in validations.values())
    behind = [number for number in (1, 2, 4, 6, 8, 12, 16, 24, 32) if number <= frames]
    heads = ["run", "videos", "as clips %", "as streams %", "videos that differ", "largest difference of a logit"]
    heads += [f"behind frame {number} %" for number in behind]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, validation in validations.items():
        top1 = validation.accuracy_by_frame
        cells = [name, str(len(validation.clips.labels)), f"{100 * video_metrics(validation.clips)['top1']:.2f}"]
        cells += [f"{100 * top1[-1]:.2f}", str(len(validation.disagreeing)), f"{validation.largest_difference:.1e}"]
        cells += [f"{100 * top1[number - 1]:.1f}" if number <= len(top1) else "" for number in behind]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
