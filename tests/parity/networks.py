"""A network of kinema with the weights of its reference numbers: what the parity tests and the parity table look at."""

from pathlib import Path

import torch

import kinema

from fill_rule import clip_of, filled, reference

# mmaction2 has no bias in the last convolution of its non-local blocks, in front of a norm that undoes it: 2 x 512 + 3 x 1024.
MISSING_BIASES = 4096
COSTLY = 35
"""GMACs from which a network is shown fewer clips."""


def names_of(family):
    """Names of a family's reference networks."""
    return sorted(path.stem for path in (Path(__file__).parent / family).glob("*.json") if path.stem != "operators")


def distance(got, wanted):
    """Relative distance in the l2 norm."""
    wanted = torch.as_tensor(wanted, dtype=torch.float64)
    return ((got - wanted).norm() / wanted.norm()).item()


def seen(clip, wanted):
    """What the network takes: SlowOnly the slow frames of a clip for SlowFast, the others all of it."""
    if wanted["model"] != "slowonly_r50":
        return clip
    slow, fast = wanted["input_shape"]
    return clip[:, :, :: fast[2] // slow[2]]


def clip_for(wanted):
    """The rule's clip as the network takes it."""
    return seen(clip_of(wanted["input_shape"]), wanted)


def bare_network(wanted):
    """The network of some reference numbers, with weights of its own."""
    num_frames = wanted.get("num_frames", clip_for(wanted).shape[2])  # the clip may have other frames than the network
    return kinema.create_model(wanted["model"], len(wanted["logits"]), num_frames, **wanted["options"])


def loaded_network(family, name):
    """A network, loaded from a checkpoint in the layout of its origin, and its reference numbers."""
    wanted = reference(f"{family}/{name}")
    model = bare_network(wanted).double().eval()
    weights = filled(wanted["shapes"], wanted["fill_scale"])
    made = wanted.get("constructed", {})  # what the reference left as its constructor made it
    weights |= {name: torch.tensor(values, dtype=torch.float64) for name, values in made.items()}
    report = kinema.load_checkpoint(model, weights)
    assert not report.initial and not report.refused
    return model, wanted


def expected_params(family, name, wanted):
    """Parameters of the reference, and what kinema has beyond them on purpose."""
    return wanted["n_params"] + (MISSING_BIASES if name.startswith("mmaction2") and "_nl_" in name else 0)


def changed_clips(clip, *, costly=False):
    """Frames reversed, one gone, one louder than the other: what sees time the wrong way round does not pass.

    A costly network is shown the last of them alone, in which no two frames are alike and all stand in another place.
    """
    num_frames = clip.shape[2]
    first_frame_gone = clip.clone()
    first_frame_gone[:, :, 0] = 0
    ramp = clip * (torch.arange(1, num_frames + 1) / num_frames)[:, None, None]
    if costly:
        return {"ramp_reversed": ramp.flip(2)}
    return {"reversed": clip.flip(2), "perturbed": first_frame_gone, "ramp": ramp, "ramp_reversed": ramp.flip(2)}
