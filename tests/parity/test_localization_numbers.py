"""Localization against numbers of the authors' code of TAdaConv, mmaction2 and ActivityNet's evaluators."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.random import RandomState

import kinema
from kinema.evaluation.detection import (
    ACTIVITYNET_TIOU,
    EPIC_TIOU,
    Spans,
    average_precision,
    average_recall,
    tadaconv_action_precision,
)
from kinema.localization.fusion import rank_classes
from kinema.localization.losses import boundary_loss, classification_loss, regression_loss
from kinema.localization.network import BoundaryMatchingNetwork
from kinema.localization.proposals import VideoMaps, find_proposals
from kinema.localization.sampling import valid_cells
from kinema.localization.soft_nms import soft_nms

from fill_rule import filled

HERE = Path(__file__).parent / "localization"
NETWORK, POST, OTHER, METRICS = (
    json.loads((HERE / f"{name}.json").read_text())
    for name in ("network", "post_processing", "mmaction2", "detection_metrics")
)
T, D = 20, 12
MATRIX = "head.sample_mask"


@pytest.fixture(scope="module")
def loaded():
    model = BoundaryMatchingNetwork(96, T, D).double()
    shapes = dict(NETWORK["state_dict"])
    matrix = model.matching(torch.eye(T)[None]).reshape(T, -1)  # channel t is bin t alone
    del shapes[MATRIX]
    weights = filled(shapes, NETWORK["fill_scale"]) | {MATRIX: matrix}
    report = kinema.load_checkpoint(model, weights)
    return model, report, matrix


def outputs(model, clip):
    maps = model(clip)
    return {"start": maps.start, "end": maps.end, "confidence_map": maps.confidence}


def stored(name):
    entry = NETWORK["outputs"][name]
    return torch.tensor(entry["values"], dtype=torch.float64).reshape(entry["shape"])


def test_the_network_says_what_the_authors_says(loaded):
    model, report, _ = loaded
    assert not report.initial and not report.refused and MATRIX in report.notes[0]
    clip = torch.from_numpy(RandomState(0).standard_normal(NETWORK["input_shape"])).requires_grad_()
    model.zero_grad()
    found = outputs(model, clip)
    for name, got in found.items():
        torch.testing.assert_close(got, stored(name), rtol=1e-6, atol=1e-7)
    sum((got * torch.from_numpy(RandomState(1).standard_normal(got.shape))).sum() for got in found.values()).backward()
    assert clip.grad.norm().item() == pytest.approx(NETWORK["functional_grad"]["input_l2"], rel=1e-6)
    for name, parameter in model.named_parameters():
        wanted = NETWORK["functional_grad"]["params_l2"][report.renamed[name]]
        assert parameter.grad.norm().item() == pytest.approx(wanted, rel=1e-6), name
    assert sum(p.numel() for p in model.parameters()) == NETWORK["n_params"]["trainable"]


def test_the_sampling_matrix_is_theirs(loaded):
    matrix, facts = loaded[2], NETWORK["sample_mask"]
    assert list(matrix.shape) == facts["shape"]
    assert matrix.sum().item() == pytest.approx(facts["sum"], rel=1e-6)
    assert matrix.norm().item() == pytest.approx(facts["l2"], rel=1e-6)
    assert int((matrix != 0).sum()) == facts["nonzero"]
    torch.testing.assert_close(matrix[0, :40].float(), torch.tensor(facts["row0_first40"]))
    torch.testing.assert_close(matrix[:, :40].sum(0).float(), torch.tensor(facts["col_sums_first40"]))


def targets(case):
    entry = NETWORK["losses"][case]["targets"]
    iou = torch.tensor(entry["iou_map"], dtype=torch.float64).reshape(2, D, T)
    start, end = (torch.tensor(entry[f"{kind}_map"], dtype=torch.float64).reshape(2, T) for kind in ("start", "end"))
    return iou, start, end, valid_cells(T, D).expand(2, D, T)


@pytest.mark.parametrize("case", NETWORK["losses"])
def test_losses(case):
    iou, start, end, valid = targets(case)
    wanted = NETWORK["losses"][case]
    regressed, classified = stored("confidence_map").unbind(1)
    regressed.requires_grad_(), classified.requires_grad_()
    boundary = boundary_loss(stored("start"), start) + boundary_loss(stored("end"), end)
    assert boundary.item() == pytest.approx(wanted["tem"]["value"], rel=1e-6)
    classification = classification_loss(classified, iou, valid)
    assert classification.item() == pytest.approx(wanted["pem_cls"]["value"], rel=1e-6)
    classification.backward()
    assert classified.grad.norm().item() == pytest.approx(wanted["pem_cls"]["grad_l2"]["confidence_map"], rel=1e-6)
    draws = RandomState(123)
    first, second = (torch.from_numpy(draws.rand(*iou.shape)) for _ in range(2))
    regression = regression_loss(regressed, iou, valid, draws=(first, second))
    if case == "fewer_mid_than_high":  # theirs counts every cell of the map then, three times where it is high
        assert regression.item() != pytest.approx(wanted["pem_reg"]["value"], rel=0.1)
        high = (iou > 0.7) & valid
        everywhere = high.double() + 2
        error = (regressed.detach() - iou) * everywhere
        assert (0.5 * (error**2).sum() / everywhere.sum()).item() == pytest.approx(wanted["pem_reg"]["value"], rel=1e-6)
        few = (iou > 0) & valid
        literal = 0.5 * ((regressed.detach() - iou)[few] ** 2).mean()
        assert regression.item() == pytest.approx(literal.item(), rel=1e-9)
        return
    assert regression.item() == pytest.approx(wanted["pem_reg"]["value"], rel=1e-6)
    regression.backward()
    assert regressed.grad.norm().item() == pytest.approx(wanted["pem_reg"]["grad_l2"]["confidence_map"], rel=1e-6)


def video_maps():
    bins, longest = POST["config"]["T"], POST["config"]["D"]
    confidence = torch.tensor(POST["confidence_map"], dtype=torch.float64).reshape(2, longest, bins)
    # Their channel 0 is the regressed overlap and 1 the classified one.
    start, end = (torch.tensor(POST[kind], dtype=torch.float64) for kind in ("start", "end"))
    duration = POST["config"]["duration"]
    return VideoMaps(start, end, confidence, valid_cells(bins, longest), duration / bins, duration)


def test_proposals():
    maps = video_maps()
    found = find_proposals(maps, reach_end=False)
    wanted = np.array(POST["proposals"])
    columns = [found.start / maps.duration, found.end / maps.duration, found.start_score, found.end_score]
    columns += [found.classified, found.regressed]
    np.testing.assert_allclose(np.stack(columns, 1), wanted[:, :6], rtol=1e-6, atol=1e-8)
    everything = found.start_score * found.end_score * found.classified * found.regressed
    np.testing.assert_allclose(everything, wanted[:, 6], rtol=1e-6, atol=1e-8)
    assert (find_proposals(maps).end == maps.duration).sum() > 0  # theirs reaches the end never


def test_soft_nms_and_detections():
    maps, wanted = video_maps(), POST["soft_nms"]
    found = find_proposals(maps, reach_end=False)
    keep = int(maps.duration) + 1
    kept = soft_nms(found.start[None] / 37, found.end[None] / 37, found.score()[None], keep=keep)
    assert kept.index[0].tolist() == wanted["rindex"]
    np.testing.assert_allclose(kept.score[0], wanted["score"], rtol=1e-6)
    draws = RandomState(11)
    draws.rand(2 * 24), draws.rand(2, 14, 24)
    verb, noun = (np.round(draws.rand(count, 14, 24), 6) for count in (12, 33))
    d, s = found.length[kept.index[0]] - 1, found.first[kept.index[0]]
    ranked = rank_classes([verb[:, d, s].T, noun[:, d, s].T], 5)
    scores = (kept.score[0][:, None] * ranked.score).ravel()
    rows = [(row["score"], row["verb"], row["noun"], *row["segment"]) for row in POST["detections"]]
    order = np.argsort(-scores, kind="stable")
    segments = np.stack([found.start, found.end], 1)[kept.index[0]].repeat(5, 0)
    got = np.column_stack([scores, ranked.label.reshape(-1, 2), segments])[order]
    want = np.array(rows)[np.argsort(-np.array(rows)[:, 0], kind="stable")]
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_soft_nms_of_mmaction2():
    found = find_proposals(video_maps(), reach_end=False)
    options = OTHER["soft_nms_args"]
    kept = soft_nms(
        found.start[None] / 37,
        found.end[None] / 37,
        found.score()[None],
        keep=options["top_k"] + 1,
        **{name: options[name] for name in ("alpha", "low", "high")},
    )
    got = np.stack([found.start / 37, found.end / 37], 1)[kept.index[0]]
    wanted = np.array(OTHER["soft_nms"])
    np.testing.assert_allclose(np.column_stack([got, kept.score[0]]), wanted, rtol=1e-6, atol=1e-9)


@pytest.fixture(scope="module")
def spans():
    videos = list(METRICS["ground_truth"]["database"])
    truth = [
        (number, *row["segment"], 0, *map(int, row["label"].split(",")))
        for number, name in enumerate(videos)
        for row in METRICS["ground_truth"]["database"][name]["annotations"]
    ]
    found = [
        (number, *row["segment"], row["score"], row["verb"], row["noun"])
        for number, name in enumerate(videos)
        for row in METRICS["predictions"]["results"][name]
    ]
    return [columns(rows) for rows in (truth, found)]


def columns(rows):
    table = np.array(rows, dtype=np.float64)
    return Spans(table[:, 0].astype(int), table[:, 1], table[:, 2], table[:, 4:].astype(int), table[:, 3])


@pytest.mark.parametrize(
    "name, tiou", [("tadaconv_epic_0.1_0.5", EPIC_TIOU), ("tadaconv_anet_0.5_0.95", ACTIVITYNET_TIOU)]
)
def test_average_precision_of_actions(spans, name, tiou):
    truth, found = spans
    wanted = METRICS["results"][name]
    results = tadaconv_action_precision(truth, found, tiou=tiou)
    known = np.unique(truth.label, axis=0)
    for task, got in results.items():
        np.testing.assert_allclose(got.mean, wanted[task]["mAP"], rtol=1e-6)
        assert got.average == pytest.approx(wanted[task]["average_mAP"], rel=1e-6)
        labels = [",".join(map(str, known[c])) if task == "action" else str(c) for c in got.classes]
        assert sorted(labels) == sorted(wanted[task]["per_class_labels"])
        order = [labels.index(label) for label in wanted[task]["per_class_labels"]]
        np.testing.assert_allclose(got.values[:, order], np.array(wanted[task]["ap"]), rtol=1e-6, atol=1e-9)


def test_average_precision_of_mmaction2(spans):
    truth, found = (Spans(s.video, s.start, s.end, s.label @ [1000, 1], s.score) for s in spans)
    wanted = METRICS["results"]["mmaction2_anet_0.5_0.95"]
    got = average_precision(truth, found)
    np.testing.assert_allclose(got.mean, wanted["mAP"], rtol=1e-6)
    assert got.average == pytest.approx(wanted["average_mAP"], rel=1e-6)


@pytest.mark.parametrize("most", [None, 10, 100])
def test_average_recall(spans, most):
    truth, found = spans
    wanted = METRICS["results"][f"mmaction2_average_recall_max{most}"]
    got = average_recall(truth, found, max_proposals=most)
    np.testing.assert_allclose(got.proposals, wanted["proposals_per_video"], rtol=1e-6)
    np.testing.assert_allclose(got.recall, wanted["average_recall"], rtol=1e-6, atol=1e-9)
    assert 100 * got.auc == pytest.approx(wanted["auc"], rel=1e-6)
    if most == 100:
        assert [got.at(n) for n in (1, 5, 10, 100)] == pytest.approx([wanted[f"AR@{n}"] for n in (1, 5, 10, 100)])
