"""Whether a teacher helps: ResNet-20 taught by ResNet-56 against ResNet-20 trained equally long on the labels alone.

Both start from the same weights, published or random, and see the same pictures in the same order with the same crops; they differ in the
loss alone. Training pictures are CIFAR-10 after JPEG, on which the published weights lose ten points; the teacher is fine-tuned on them
first, as the recipe ``resnet56_dense`` says, or was before. Judged on 5,000 test pictures. With ``--pictures`` both students see a part of
the training pictures only, as users do who no longer have the data that their network learned from.
``python -m benchmarks.taught_resnet20`` writes ``results/taught_resnet20.json``; with ``--scratch`` or ``--pictures``, a file named so.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from edgekit.core.artifacts import Checkpoint
    from edgekit.core.datasets import DataSet
    from edgekit.core.plugin import Task

HERE = Path(__file__).parent
DATA = "${EDGEKIT_DATA}/cifar10"
NETWORKS = HERE / "models" / "resnet_cifar.py"
SAME: dict[str, Any] = {"batch": 128, "optimizer": "sgd", "weight_decay": 5e-4, "held_out": 0.02, "augment": {"flip": True, "crop": 4}}


def main() -> None:
    """Train, judge and write."""
    from edgekit.algorithms import statistics
    from edgekit.cli import _progress
    from edgekit.core.machine import this_machine
    from edgekit.core.plugin import Pass, Task
    from edgekit.core.recipe import load_recipe
    from edgekit.core.registry import create
    from edgekit.core.store import Store
    from edgekit.opening import open_data, open_source
    from edgekit.stages import Stages

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=float, default=2.0, help="of both students")
    parser.add_argument("--rate", type=float, default=0.05, help="highest learning rate of both students")
    parser.add_argument("--temperature", type=float, default=4.0)
    parser.add_argument("--labels", type=float, default=0.1, help="share of the labels in the loss of the taught one")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--pictures", type=int, help="training pictures that the students see, drawn at random for each seed; all of them if not given"
    )
    parser.add_argument("--scratch", action="store_true", help="let the students start from random weights")
    parser.add_argument("--teacher", type=Path, help="weights of a ResNet-56 that is fine-tuned already")
    given = parser.parse_args()

    training = {**SAME, "epochs": given.epochs, "learning_rate": given.rate}
    lesson = {"temperature": given.temperature, "labels": given.labels}
    settings = load_recipe(HERE / "recipes" / "resnet56_dense.yaml")
    sets = open_data(settings, training=True)
    task = create(Task, settings.task, "task")
    rows: dict[int, dict[str, np.ndarray]] = {}
    with _progress.listener() as progress:
        for seed in given.seeds:
            seeded = settings.model_copy(update={"seed": seed})
            stages = Stages(seeded, Store(), progress, sets, task)
            large, small = (stages.checkpoint(open_source(published(name), settings.base)) for name in ("resnet56", "resnet20"))
            if given.scratch:
                small = stages.improved(large, create(Pass, {"use": "student", "arch": f"{NETWORKS}:resnet20"}, "scratch"))
            if given.teacher:
                teacher = stages.checkpoint(open_source({**published("resnet56"), "path": str(given.teacher.absolute())}, settings.base))
            else:
                first = Stages(settings, Store(), progress, sets, task)
                teacher = first.improved(large, create(Pass, settings.passes[0], "teacher"))
            if given.pictures and sets.training:
                (_, few) = sets.training.parted(given.pictures / len(sets.training), seed)
                stages = Stages(seeded, Store(), progress, replace(sets, training=few), task)
            alone = stages.improved(small, create(Pass, {"use": "finetune", "training": training}, "alone"))
            learner = create(Pass, {"use": "distil", "lesson": lesson, "training": training}, "taught")
            taught = stages.improved(small, learner, teacher=teacher)
            models = {"untrained": small, "teacher": teacher, "alone": alone, "taught": taught}
            rows[seed] = {name: correct(model, task, sets.evaluation) for name, model in models.items() if sets.evaluation}

    words = ["WEIGHTS" if given.teacher and Path(word) == given.teacher else word for word in sys.argv[1:]]
    gains = {seed: found["taught"].astype(float) - found["alone"] for seed, found in rows.items()}
    content = {
        "command": " ".join(["python -m benchmarks.taught_resnet20", *words]),
        "samples": len(sets.evaluation) if sets.evaluation else 0,
        "training": {
            "students": training,
            "teacher": "fine-tuned before" if given.teacher else settings.passes[0],
            "lesson": lesson,
            "pictures": given.pictures or (len(sets.training) if sets.training else 0),
        },
        "accuracy": {
            str(seed): {name: round(float(right.mean()) * 100, 2) for name, right in found.items()} for seed, found in rows.items()
        },
        "gain": {str(seed): points(statistics.mean_change(gain)) for seed, gain in gains.items()},
        "mean_gain": points(statistics.mean_change(np.mean(list(gains.values()), axis=0))),
        "machine": this_machine().model_dump(mode="json"),
    }
    name = "_".join(
        ["taught_resnet20", *(["scratch"] if given.scratch else []), *([f"{given.pictures}_pictures"] if given.pictures else [])]
    )
    (HERE / "results" / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: content[key] for key in ("accuracy", "gain", "mean_gain")}, indent=1))


def published(name: str) -> dict[str, Any]:
    """A network with the weights of akamaster/pytorch_resnet_cifar10."""
    file = {"resnet20": "resnet20-12fca82f.th", "resnet56": "resnet56-4bfd9763.th"}[name]
    return {"path": f"{DATA}/{file}", "arch": f"{NETWORKS}:{name}"}


def correct(model: Checkpoint, task: Task, data: DataSet) -> np.ndarray:
    """Whether each sample is classified correctly [N]."""
    from edgekit.core.modules import load_module, outputs_of

    module = load_module(model)
    found = []
    for inputs, labels in data.batches(250):
        (_, outputs) = outputs_of(module, [inputs])[0]
        found.append(task.correct(task.observe(outputs, labels, outputs)))
    return np.concatenate(found)


def points(change: Any) -> dict[str, float]:
    """An interval in percentage points."""
    return {name: round(value * 100, 2) for name, value in change.model_dump().items()}


if __name__ == "__main__":
    main()
