"""Training and evaluating verbs and nouns at a time, from the lists of the archive to the numbers of the run."""

import json

import pytest
import torch
import yaml
from lightning import Trainer, seed_everything
from torch.nn import functional as F

from kinema.data.augmentation.mixing import Mixing
from kinema.training import TSM
from kinema.training.restore import Predictor
from kinema.training.tasks import AllRight

from archives import make_archive
from conftest import REPOSITORY, metrics_of

CLIPS = {"num_frames": 4, "size": 32, "resize": 32, "num_workers": 0, "train_crop": "center"}


@pytest.fixture(scope="module")
def epic(tmp_path_factory):
    return make_archive("epic100", tmp_path_factory.mktemp("epic"), **CLIPS, batch_size=3)


def trained(data, *, steps=2, seed=0, **options):
    seed_everything(seed, verbose=False)
    module = TSM("nano", dropout=0.0, **options)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = Trainer(
        max_steps=steps, accelerator="cpu", num_sanity_val_steps=0, use_distributed_sampler=False, **quiet
    )
    trainer.fit(module, data)
    return module, trainer


def test_the_classifiers_follow_the_data_and_all_learn(epic):
    module, trainer = trained(epic)
    assert module.num_classes == (4, 5) and module.tasks["noun"][1] == "spoon"
    start = trained(epic, steps=0)[0]
    for task in range(2):
        before, after = (m.network.head.fc[task].weight for m in (start, module))
        assert not torch.equal(before, after), f"classifier {task} has not moved"
    metrics = {name.removeprefix("val/"): value for name, value in trainer.callback_metrics.items() if "val" in name}
    assert {"top1", "top5", "verb_top1", "verb_top5", "noun_top1", "noun_top5", "action_top1"} <= set(metrics)
    videos = module.evaluated["val"]
    torch.testing.assert_close(videos.tasks["noun"].scores.sum(1), torch.ones(6, dtype=torch.float64))
    assert videos.labels.tolist() == [list(record.labels) for record in epic.manifests["val"].records]


def test_the_loss_is_the_mean_of_those_of_verb_and_noun(epic):
    module, _ = trained(epic, steps=0, label_smoothing=0.1)
    batch = next(iter(epic.train_dataloader()))
    assert batch["label"].shape == (3, 2)
    logits, loss = module.logits_and_loss(module.normalise(batch["clip"]), batch["label"])
    verb, noun = (F.cross_entropy(part, batch["label"][:, i], label_smoothing=0.1) for i, part in enumerate(logits))
    torch.testing.assert_close(loss, (verb + noun) / 2)
    with pytest.raises(ValueError, match=r"has 2 classifiers and labels of shape \(3,\) came"):
        module.cross_entropy(logits, batch["label"][:, 0])


def test_mixed_batches_weigh_verbs_and_nouns_alike(epic):
    data = make_archive(
        "epic100", epic.root.parent / "mixed", **CLIPS, batch_size=3, mixing=Mixing(mixup=0.8, cutmix=0.0)
    )
    data.setup()
    plain = next(iter(data.train_dataloader()))
    batch = data.on_after_batch_transfer(dict(plain), 0)
    share = data.mixing.draw(32, 32, seed=int(plain["seed"][0])).weight
    assert 0 < share < 1 and batch["target"].shape == (3, 4 + 5)
    verbs, nouns = batch["target"].split([4, 5], dim=1)
    for weights, label, size in ((verbs, plain["label"][:, 0], 4), (nouns, plain["label"][:, 1], 5)):
        own = F.one_hot(label, size).float()
        torch.testing.assert_close(weights, share * own + (1 - share) * own.flip(0))
    module, _ = trained(epic, steps=0, label_smoothing=0.1)
    logits, loss = module.logits_and_loss(module.normalise(batch["clip"]), batch["target"])
    parts = [
        F.cross_entropy(logits[0], verbs, label_smoothing=0.1),
        F.cross_entropy(logits[1], nouns, label_smoothing=0.1),
    ]
    torch.testing.assert_close(loss, sum(parts) / 2)
    with pytest.raises(ValueError, match=r"classifiers of \[4, 5\] classes and weights of shape \(3, 8\) came"):
        module.cross_entropy(logits, batch["target"][:, 1:])


def test_several_labels_are_mixed_and_averaged_in_training(epic, tmp_path, cli):
    options = ["--data", "EpicKitchens100", "--data.root", epic.root, "--data.subset", "true"]
    options += ["--data.num_frames", 4, "--data.size", 32, "--data.resize", 32, "--data.num_workers", 0]
    options += ["--data.batch_size", 3, "--data.mixing.mixup", 0.8, "--model", "TSM", "--model.backbone", "nano"]
    options += ["--model.num_classes", "[4, 5]", "--ema.decay", 0.9, "--run.root", tmp_path, "--run.wandb", "off"]
    options += ["--trainer.max_epochs", 1, "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    run = cli("fit", *options, config=None)
    assert metrics_of(run)["videos"] == 6
    # The configuration of the run holds both numbers and builds the network again.
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["init_args"]["num_classes"] == [4, 5]
    again = cli("validate", "--config", run / "config.yaml", "--ckpt_path", run, config=None)
    assert metrics_of(again)["action_top1"] == metrics_of(run)["action_top1"]
    cli("fit", *options, "--model.num_classes", "[4, 6]", config=None, status=1)
    assert "the model has (4, 6) classes and the data has (4, 5)" in cli.output.err


def test_training_accuracy_needs_both_right():
    metric = AllRight()
    verbs, nouns = torch.eye(4), torch.eye(5)[:4]
    metric.update((verbs, nouns), torch.tensor([[0, 0], [1, 2], [3, 2], [2, 3]]))
    metric.update((verbs[:1], nouns[:1]), torch.tensor([[0, 0]]))
    assert float(metric.compute()) == pytest.approx(2 / 5)


def test_logits_are_averaged_if_that_is_asked_for(epic):
    module, _ = trained(epic, average="logits")
    assert (module.evaluated["val"].tasks["noun"].scores.sum(1) < 0.9).all()


def test_other_numbers_of_classes_are_refused(epic):
    with pytest.raises(ValueError, match=r"the model has \(4, 6\) classes and the data has \(4, 5\) \(verb, noun\)"):
        trained(epic, num_classes=(4, 6))
    with pytest.raises(ValueError, match=r"the model has 4 classes and the data has \(4, 5\)"):
        trained(epic, num_classes=4)


def test_mirrored_and_substituted_samples_keep_their_pair_of_labels(epic):
    data = make_archive("epic100", epic.root.parent / "damaged", **CLIPS, batch_size=3, flip=1.0)
    data.setup()
    records = data.manifests["train"].records
    (data.root / records[0].path).write_bytes(b"no video")
    dataset = data.train_dataloader().dataset
    seen = 0
    for index, record in enumerate(records):
        if record.path == records[0].path and any(r.label == record.label and r.path != record.path for r in records):
            sample = dataset[0, index]
            (given,) = (
                r for r in records if r.path == sample["names"][0] and list(r.labels) == sample["label"][0].tolist()
            )
            assert given.path != record.path and given.label == record.label
            seen += 1
    assert seen


def test_a_run_records_verb_noun_and_action_and_predicts(epic, tmp_path, cli):
    options = ["--data", "EpicKitchens100", "--data.root", epic.root, "--data.subset", "true"]
    options += ["--data.num_frames", 4, "--data.size", 32, "--data.resize", 32, "--data.num_workers", 0]
    options += ["--data.batch_size", 3, "--data.num_clips", 2, "--model", "TSM", "--model.backbone", "nano"]
    options += ["--run.root", tmp_path, "--run.wandb", "off", "--trainer.max_epochs", 1, "--trainer.accelerator", "cpu"]
    options += ["--run.frame_orders", "[reversed]", "--trainer.enable_progress_bar", "false"]
    run = cli("fit", *options, config=None)
    metrics = metrics_of(run)
    assert metrics["videos"] == 6 and metrics["action_top1"] == metrics["top1"] == metrics["best_top1"]
    assert {"verb_top1", "noun_top5", "fused_top1", "top1_reversed"} <= set(metrics)
    assert (run / "val_verb_confusion.png").is_file() and (run / "val_noun_confusion.png").is_file()
    header, *rows = (run / "val_scores.csv").read_text().splitlines()
    assert header.startswith("video,label.verb,guess.verb,label.noun,guess.noun,right") and len(rows) == 6

    again = cli("validate", "--config", run / "config.yaml", "--ckpt_path", run, "--run.id", "again", config=None)
    assert metrics_of(again)["verb_top1"] == metrics["verb_top1"]
    assert (again / "val_scores.csv").read_text() == (run / "val_scores.csv").read_text()

    predictor = Predictor.from_run(run)
    assert len(predictor.class_names) == 20 and predictor.class_names[6] == "put spoon"
    video = epic.root / epic.read_archive().manifest.records[0].path
    scores = predictor(video)
    assert scores.shape == (20,) and float(scores.sum()) == pytest.approx(1)
    assert json.loads((run / "metrics.json").read_text())["part"] == "val"


def test_one_label_is_as_it_was():
    assert (REPOSITORY / "experiments/quickstart/tsm.yaml").is_file()
    module = TSM("nano", 12)
    assert module.tasks == {} and module.num_classes == 12 and type(module.train_top1).__name__ == "MulticlassAccuracy"
