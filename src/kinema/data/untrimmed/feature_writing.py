"""Feature files written clip by clip: their sizes are known before the first clip is seen, so nothing need be kept.

A safetensors file is the length of its header, the header in JSON, and the tensors one after another.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float
from torch import Tensor

from kinema.data.journal import durable_file
from kinema.data.untrimmed.feature_files import (
    LOGITS,
    NUMBERS,
    TIMES,
    FeatureError,
    FeatureFacts,
    FeatureFile,
    check_finite,
    feature_path,
)


def write(folder: str | Path, file: FeatureFile) -> Path:
    """Write `<video>.safetensors` into the folder, whole or not at all; returns its path."""
    logits = {name.removeprefix(LOGITS).removeprefix("."): part for name, part in file.tensors_of_logits().items()}
    facts = FeatureFacts(
        file.video,
        file.dim,
        file.starts,
        file.centers,
        file.ends,
        {task: part.shape[1] for task, part in logits.items()},
        **{name: getattr(file, name) for name in NUMBERS},
    )
    with feature_rows(folder, facts, model=file.model, commit=file.commit) as rows:
        rows.add(file.features, logits)
    return feature_path(folder, file.video)


@contextmanager
def feature_rows(
    folder: str | Path, facts: FeatureFacts, *, model: str = "", commit: str = ""
) -> Iterator["FeatureRows"]:
    """A feature file that is written clip by clip, in the memory of those added last, however many there are.

    It appears in the folder once it is whole and on the disk, and not at all after an error.

    Args:
        folder: Where it goes.
        facts: What it will hold.
        model, commit: As of `FeatureFile`.

    Raises:
        FeatureError: If fewer clips were added than were told.
    """
    path = feature_path(folder, facts.video)
    path.parent.mkdir(parents=True, exist_ok=True)
    with durable_file(path) as file:
        rows = FeatureRows(file, facts, {"model": model, "commit": commit})
        yield rows
        rows.need_all()


class FeatureRows:
    """What `feature_rows` gives: header and seconds are written at once, rows as they come.

    Args:
        file: Where to write; it can be sought in.
        facts: What it will hold.
        texts: More of its metadata.
    """

    def __init__(self, file: BinaryIO, facts: FeatureFacts, texts: Mapping[str, str]) -> None:
        self.facts, self.added, self._file = facts, 0, file
        count = len(facts.centers)
        # The shortest text that reads back as the same number.
        metadata = {"video": facts.video, **texts} | {name: repr(float(getattr(facts, name))) for name in NUMBERS}
        metadata["clip_frames"] = str(int(facts.clip_frames))
        shapes = {name: ("F64", [count]) for name in TIMES} | {"features": ("F32", [count, facts.dim])}
        shapes |= {_named(task): ("F32", [count, width]) for task, width in facts.num_classes.items()}
        header: dict[str, Any] = {"__metadata__": metadata}
        begin, begins = 0, {}
        for name, (dtype, shape) in shapes.items():
            end = begin + math.prod(shape) * (8 if dtype == "F64" else 4)
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
            begins[name], begin = begin, end
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)  # tensors begin at a multiple of their size
        file.write(len(text).to_bytes(8, "little") + text)
        self._begins = {name: 8 + len(text) + place for name, place in begins.items()}
        for name in TIMES:
            file.seek(self._begins[name])
            file.write(_bytes(getattr(facts, name), "<f8"))

    def add(self, features: Float[Tensor, "M D"], logits: Mapping[str, Float[Tensor, "M K"]]) -> None:
        """Write the features and class scores of the next clips.

        Raises:
            FeatureError: If they are not finite, or of other sizes than were told.
        """
        facts = self.facts
        wanted = {"features": facts.dim} | {_named(task): width for task, width in facts.num_classes.items()}
        parts = {"features": features} | {_named(task): part for task, part in logits.items()}
        widths = {name: part.shape[1] for name, part in parts.items()}
        counts = {len(part) for part in parts.values()}
        if widths != wanted or len(counts) > 1 or self.added + len(features) > len(facts.centers):
            raise FeatureError(
                f"{facts.video}: {widths} columns of {sorted(counts)} clips were added to {self.added}; {wanted} columns of "
                f"{len(facts.centers)} clips were told"
            )
        for name, part in parts.items():
            check_finite(facts.video, name, part, first=self.added)
            self._file.seek(self._begins[name] + 4 * part.shape[1] * self.added)
            self._file.write(_bytes(part, "<f4"))
        self.added += len(features)

    def need_all(self) -> None:
        """Refuse to end before all clips were added.

        Raises:
            FeatureError: If some are missing.
        """
        if self.added < len(self.facts.centers):
            raise FeatureError(
                f"{self.facts.video}: {self.added} of {len(self.facts.centers)} clips were added; add all"
            )


def _named(task: str) -> str:
    """The name of the class scores of a task in a file."""
    return f"{LOGITS}.{task}" if task else LOGITS


def _bytes(values: Tensor, dtype: str) -> memoryview:
    return np.ascontiguousarray(values.detach().cpu().numpy(), dtype=dtype).reshape(-1).view(np.uint8).data
