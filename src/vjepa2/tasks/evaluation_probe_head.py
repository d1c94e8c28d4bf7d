"""One of the heads that a probe run trained at once, on the run's encoder.

The run's model folder holds the best head; all of them are in its last checkpoint.
"""

import json
import os
from pathlib import Path

import torch

from vjepa2.errors import CheckpointNotFoundError, ConfigError
from vjepa2.models.classification import VJEPA2ForVideoClassification
from vjepa2.tasks.pretrain_folder import CHECKPOINTS_NAME, MODEL_NAME
from vjepa2.tasks.probe_folder import TRAINING_NAME
from vjepa2.tasks.probe_heads import ProbeHeads
from vjepa2.training.checkpoint import CheckpointStore
from vjepa2.training.distributed import one_process
from vjepa2.training.state import TrainingState

RESULTS_NAME = "results.json"


def model_folder(model: str | os.PathLike[str]) -> str:
    """Folder of the model of a finished run that is named by its own; others as they are."""
    inside = Path(model) / MODEL_NAME
    return os.fspath(inside if (inside / TRAINING_NAME).is_file() else model)


def with_probe_head(
    network: VJEPA2ForVideoClassification, folder: str, number: int
) -> VJEPA2ForVideoClassification:
    """The same encoder with another head of the run.

    Args:
        network: classifier of the run, with its best head.
        folder: of that classifier, inside the folder of its run.
        number: of the head, as "head" in the run's `results.json`.

    Raises:
        ConfigError: the folder is not of a probe run, or the run has no such head.
        WeightsError: the run's checkpoint is not there any more, or cannot be used.
    """
    run = Path(folder).resolve().parent
    try:
        results = json.loads((run / RESULTS_NAME).read_text(encoding="utf-8"))
        heads = {int(one["head"]): one for one in results["heads"]}
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConfigError(
            f"{folder} does not lie in the folder of a probe run, so it has one head only. Give "
            "the folder that --out of vjepa2 probe named, or leave probe_head out."
        ) from error
    if number not in heads:
        listed = "; ".join(
            f"{key}: lr {one['lr']:g}, weight decay {one['weight_decay']:g}"
            for key, one in sorted(heads.items())
        )
        raise ConfigError(f"The run in {run} has no head {number}. It has {listed}.")
    place = run / CHECKPOINTS_NAME
    processes = one_process(torch.device("cpu"))
    step = CheckpointStore(place, config={}, processes=processes).latest()
    if step is None:
        raise CheckpointNotFoundError(
            f"The run in {run} has no checkpoint any more: only its best head is left, which is "
            "evaluated without probe_head."
        )
    stored = CheckpointStore(place, config={}, processes=processes).stored_config(step)
    loaded = ProbeHeads(network.config, len(heads), seed=0)
    CheckpointStore(place, config=stored, processes=processes).load(
        step, TrainingState(modules={"heads": loaded})
    )
    found = VJEPA2ForVideoClassification.from_parts(
        network.vjepa2, loaded.probe(number).to(network.device, network.dtype)
    )
    return found.eval()
