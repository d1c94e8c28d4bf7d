"""How good scores are: pure functions of tensors. No files, no models, no averaging over batches.

    accuracy       top-k, mean class accuracy, class-mean recall@k, average precision, confusion
    calibration    whether a probability of 0.8 is right eight times in ten
    intervals      bootstrap over videos
    baselines      what is reached without looking: chance, the commonest class, the label prior
    events         recall as a function of the time that is left until the event

Everything is computed once over the whole set: a mean of the means of batches, as the published
evaluation prints it, is another number when the last batch is smaller or padded.
"""

from vjepa2.scoring.accuracy import (
    ClassRow,
    class_mean_recall_at_k,
    confusion_matrix,
    hits_at_k,
    mean_average_precision,
    mean_class_accuracy,
    mean_over_classes,
    per_class_table,
    ranks_of_labels,
    top_k_accuracy,
)
from vjepa2.scoring.baselines import Baselines, baselines
from vjepa2.scoring.calibration import (
    ReliabilityBin,
    expected_calibration_error,
    reliability_bins,
)
from vjepa2.scoring.events import EventRow, recall_by_time_to_event, seconds_to_event
from vjepa2.scoring.intervals import Interval, bootstrap_interval, wilson_interval

__all__ = [
    "Baselines",
    "ClassRow",
    "EventRow",
    "Interval",
    "ReliabilityBin",
    "baselines",
    "bootstrap_interval",
    "class_mean_recall_at_k",
    "confusion_matrix",
    "expected_calibration_error",
    "hits_at_k",
    "mean_average_precision",
    "mean_class_accuracy",
    "mean_over_classes",
    "per_class_table",
    "ranks_of_labels",
    "recall_by_time_to_event",
    "reliability_bins",
    "seconds_to_event",
    "top_k_accuracy",
    "wilson_interval",
]
