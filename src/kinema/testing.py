"""Laws of temporal operators and video networks, as assertions for anybody's tests.

Each takes a module on clips (B, C, T, H, W) and a clip, checks one law, and raises AssertionError saying what was broken.
Modules are copied first and run in evaluation mode, so a test leaves what it was given as it was. A law checked on zeros,
on one frame or on equal frames may hold by accident: give random clips of several frames.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "assert_causal",
    "assert_close_in_bfloat16",
    "assert_deterministic",
    "assert_equal_to_literal",
    "assert_exports",
    "assert_gradients_are_exact",
    "assert_gradients_reach_every_parameter",
    "assert_identity",
    "assert_network_streams",
    "assert_order_ignored",
    "assert_order_matters",
    "assert_streams",
]


def assert_equal_to_literal(
    module: nn.Module, literal: Callable[[Tensor], Tensor], clip: Tensor, *, tolerance: float = 0.0
) -> None:
    """The module computes what a slow, literal version written from the equation computes.

    Args:
        module: What is tested.
        literal: The equation, best as loops over frames and channels.
        clip: Input of both.
        tolerance: Largest l2 distance allowed, relative to the literal result; 0 asks for equality.
    """
    got, wanted = _evaluate(module, clip), literal(clip)
    assert got.shape == wanted.shape, f"shape {tuple(got.shape)}, but the equation gives {tuple(wanted.shape)}"
    distance = _distance(got, wanted)
    assert distance <= tolerance, f"differs from the equation by {distance:.3g} relative, allowed is {tolerance:.3g}"


def assert_causal(module: nn.Module, clip: Tensor) -> None:
    """No output frame depends on a later input frame, to the last bit.

    For every t, other frames from t on must leave the output before t as it was.
    """
    output = _evaluate(module, clip)
    for t in range(1, clip.shape[2]):
        other = torch.cat([clip[:, :, :t], 3 * torch.randn_like(clip[:, :, t:])], dim=2)
        changed = _evaluate(module, other)
        assert torch.equal(changed[:, :, :t], output[:, :, :t]), (
            f"output before frame {t} changes with frames from {t} on"
        )


def assert_streams(module: nn.Module, clip: Tensor, *, tolerance: float = 1e-6) -> None:
    """`init_state` and `step`, frame by frame, give what `forward` gives on the clip.

    Args:
        module: What is tested; it offers both methods.
        clip: Input.
        tolerance: Largest l2 distance allowed, relative to the output of `forward`.
    """
    model: Any = deepcopy(module).eval()
    with torch.no_grad():
        state = model.init_state(clip[:, :, 0])
        frames = []
        for t in range(clip.shape[2]):
            frame, state = model.step(clip[:, :, t], state)
            frames.append(frame)
    wanted = _evaluate(module, clip)
    for t, frame in enumerate(frames):
        distance = _distance(frame, wanted[:, :, t])
        assert distance <= tolerance, f"step {t} differs from forward by {distance:.3g} relative"


def assert_network_streams(network: nn.Module, clip: Tensor, *, tolerance: float = 1e-10) -> None:
    """The mean of the logits of the first T steps is what the network gives for the first T frames as a clip, for every T.

    So the network cannot see frames to come, and what it is trained and evaluated on is what a stream gets. Checked in
    float64, in evaluation mode. Besides, a step leaves the state that it got as it was and gives the same when taken again,
    and the names, their order, the shapes and the types of a state never change.

    Args:
        network: Such as of `kinema.create_model`, with `init_state` and `step`.
        clip: Input; of more frames than any window of the network, so that the window slides.
        tolerance: Largest l2 distance allowed, relative to the logits of the clip.
    """
    model: Any = deepcopy(network).double().eval()
    clip = clip.double()
    with torch.no_grad():
        state = model.init_state(clip.shape[0], tuple(clip.shape[3:]))
        layout = _layout_of(state)
        total = torch.zeros(())
        for t in range(clip.shape[2]):
            kept = {name: tensor.clone() for name, tensor in state.items()}
            logits, after = model.step(clip[:, :, t], state)
            again, _ = model.step(clip[:, :, t], state)
            changed = [name for name in kept if not torch.equal(kept[name], state[name])]
            assert not changed, f"step {t} changes the state that it was given, at {changed[:3]}"
            assert torch.equal(_tensor(logits), _tensor(again)), f"step {t} gives other logits when taken again"
            assert _layout_of(after) == layout, f"step {t} gives a state of other names, shapes or types"
            total, state = total + _tensor(logits), after
            distance = _distance(total / (t + 1), _tensor(model(clip[:, :, : t + 1])))
            assert distance <= tolerance, (
                f"the mean of {t + 1} steps differs from forward on {t + 1} frames by {distance:.3g} relative"
            )


def assert_order_matters(module: nn.Module, clip: Tensor, *, threshold: float = 1e-4) -> None:
    """Reversing the frames changes more than the order of what comes out.

    An output that still has the time axis (B, C, T, H, W) is turned back before it is compared.

    Args:
        module: What is tested.
        clip: Input.
        threshold: Relative l2 distance that counts as a change.
    """
    distance = _change_by_reversal(module, clip)
    assert distance > threshold, f"reversed frames change the output by {distance:.3g} relative: frame order is lost"


def assert_order_ignored(module: nn.Module, clip: Tensor, *, tolerance: float = 1e-5) -> None:
    """Reversing the frames changes nothing, or nothing but the order of what comes out: no frame sees another."""
    distance = _change_by_reversal(module, clip)
    assert distance <= tolerance, f"reversed frames change the output by {distance:.3g} relative: frames are mixed"


def assert_gradients_reach_every_parameter(module: nn.Module, clip: Tensor) -> None:
    """Every parameter, and every frame of the clip, moves the output.

    Parameters are drawn anew first: a module that starts as the identity has zeros that hold gradients back at the start
    alone. Norms use their running statistics, which do not hide a bias in front of them.
    """
    model = deepcopy(module).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * parameter.numel() ** -0.25)
    clip = clip.clone().requires_grad_()
    outputs = model(clip)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    torch.stack([(output * torch.randn_like(output)).sum() for output in outputs]).sum().backward()
    unreached = [
        name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert not unreached, f"no gradient reaches {unreached}"
    assert clip.grad is not None, "no gradient reaches the clip"
    frames = [t for t in range(clip.shape[2]) if not clip.grad[:, :, t].any()]
    assert not frames, f"no gradient reaches frames {frames} of the clip"


def assert_gradients_are_exact(module: nn.Module, clip: Tensor) -> None:
    """The gradient by the input equals the numerical one. Keep the clip tiny: it is evaluated for every number in it."""
    model = deepcopy(module).double().eval()
    try:
        torch.autograd.gradcheck(model, (clip.double().requires_grad_(),))
    except (RuntimeError, ValueError) as error:  # gradcheck raises the first for a wrong gradient, the second for none
        raise AssertionError(f"the gradient is not the numerical one: {error}") from error


def assert_identity(module: nn.Module, clip: Tensor) -> None:
    """The module, as it is, returns the clip to the last bit."""
    assert torch.equal(_evaluate(module, clip), clip), "the output is not the input"


def assert_deterministic(module: nn.Module, clip: Tensor) -> None:
    """Two calls in evaluation mode give equal outputs, and a clip alone gives what it gives within a batch."""
    model = deepcopy(module).eval()
    with torch.no_grad():
        once, again, alone = _tensor(model(clip)), _tensor(model(clip)), _tensor(model(clip[:1]))
    assert torch.equal(once, again), "two calls in evaluation mode differ; is dropout still on?"
    distance = _distance(alone, once[:1])
    assert distance <= 1e-4, f"a clip alone differs from itself within a batch by {distance:.3g} relative"


def assert_close_in_bfloat16(module: nn.Module, clip: Tensor, *, tolerance: float = 0.03) -> None:
    """The module in bfloat16, whose numbers are good to 0.4 %, stays near itself in float32."""
    wanted = _evaluate(module, clip.float())
    got = _evaluate(deepcopy(module).bfloat16(), clip.bfloat16())
    assert got.dtype == torch.bfloat16, f"a bfloat16 module and clip give {got.dtype}"
    distance = _distance(got.float(), wanted)
    assert distance <= tolerance, (
        f"bfloat16 differs from float32 by {distance:.3g} relative, allowed is {tolerance:.3g}"
    )


def assert_exports(module: nn.Module, clip: Tensor, *, tolerance: float = 1e-6) -> None:
    """torch.export takes the module with any number of clips in a batch, and the graph gives what the module gives."""
    model = deepcopy(module).eval()
    batch = torch.cat([clip, clip.flip(2)])
    any_batch = ({0: torch.export.Dim("batch", min=1, max=64)},)
    try:
        exported = torch.export.export(model, (batch,), dynamic_shapes=any_batch)
    except Exception as error:  # what it raises is torch's own affair and changes with every release
        raise AssertionError(f"torch.export does not take the module: {error}") from error
    other = torch.cat([clip.flip(3), clip, clip.flip(2)])
    with torch.no_grad():
        distance = _distance(_tensor(exported.module()(other)), _tensor(model(other)))
    assert distance <= tolerance, f"the exported graph differs from the module by {distance:.3g} relative"


def _evaluate(module: nn.Module, clip: Tensor) -> Tensor:
    with torch.no_grad():
        return _tensor(deepcopy(module).eval()(clip))


def _tensor(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Several logits count as one row."""
    return torch.cat(output, dim=-1) if isinstance(output, tuple) else output


def _layout_of(state: dict[str, Tensor]) -> list[tuple[str, tuple[int, ...], torch.dtype]]:
    return [(name, tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()]


def _change_by_reversal(module: nn.Module, clip: Tensor) -> float:
    output, changed = _evaluate(module, clip), _evaluate(module, clip.flip(2))
    return _distance(changed.flip(2) if output.ndim == 5 else changed, output)


def _distance(got: Tensor, wanted: Tensor) -> float:
    """Relative l2 distance; of two zeros, 0."""
    return ((got - wanted).norm() / wanted.norm().clamp(min=1e-30)).item()
