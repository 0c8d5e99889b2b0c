"""Classes of proposals against loops."""

from itertools import product

import numpy as np
import pytest
import torch

from kinema.localization.fusion import class_probabilities, rank_classes, video_probabilities


def test_probabilities_are_means_over_samples_of_softmaxes():
    logits = 3 * torch.randn(4, 9, dtype=torch.float64)
    first, length = np.array([0, 2, 8, 5]), np.array([1, 5, 1, 4])
    got = class_probabilities(logits, first, length, num_samples=3, num_points=2)
    for row, (s, n) in enumerate(zip(first, length, strict=True)):
        points = np.linspace(s, s + n - 1, 6)
        at = [torch.tensor([np.interp(p, range(9), line) for line in logits.tolist()]) for p in points]
        samples = [torch.stack(at[k : k + 2]).mean(0).softmax(0) for k in (0, 2, 4)]
        torch.testing.assert_close(got[row], torch.stack(samples).mean(0), rtol=1e-9, atol=1e-12)
    assert got.sum(1).tolist() == pytest.approx([1] * 4)


def test_a_video_has_the_mean_of_its_clips():
    logits = torch.randn(5, 3)
    torch.testing.assert_close(video_probabilities(logits), logits.double().softmax(1).mean(0))


def test_one_task_is_ranked():
    ranked = rank_classes([np.array([[0.1, 0.6, 0.3], [0.4, 0.4, 0.2]])], 2)
    assert ranked.label[..., 0].tolist() == [[1, 2], [0, 1]] and ranked.score.tolist() == [[0.6, 0.3], [0.4, 0.4]]
    assert rank_classes([np.array([[0.1, 0.6, 0.3]])], 9).score.shape == (1, 3)


@pytest.mark.parametrize("top", [(10, 30), (2, 3)])
def test_tasks_are_ranked_by_products_of_their_best_classes(top):
    draws = np.random.default_rng(0)
    verbs, nouns = draws.random((4, 5)), draws.random((4, 7))
    ranked = rank_classes([verbs, nouns], 6, top=top)
    for row in range(4):
        best = [np.argsort(-task[row])[:count] for task, count in zip((verbs, nouns), top, strict=True)]
        every = sorted(((verbs[row, v] * nouns[row, n], v, n) for v, n in product(*best)), reverse=True)
        wanted = every[:6]
        np.testing.assert_allclose(ranked.score[row], [score for score, *_ in wanted])
        assert ranked.label[row].tolist() == [[v, n] for _, v, n in wanted]


def test_three_tasks_are_ranked_too():
    draws = np.random.default_rng(1)
    tasks = [draws.random((2, count)) for count in (3, 4, 2)]
    ranked = rank_classes(tasks, 1, top=(5,))
    for row in range(2):
        assert ranked.label[row, 0].tolist() == [task[row].argmax() for task in tasks]
