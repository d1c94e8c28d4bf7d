"""A model's answers to a list of events, in the form that every measure and every look takes."""

from collections.abc import Mapping

import torch

from vjepa2.data.event_loader import EventReader, subset, usable_events
from vjepa2.data.labelled import LabelledItem, LabelledSet
from vjepa2.progress import track
from vjepa2.tasks.anticipate_scores import probabilities
from vjepa2.tasks.anticipate_trainer import as_heads
from vjepa2.tasks.anticipator_folder import LoadedAnticipator
from vjepa2.tasks.scored import ScoredItem, ScoredSet

BATCH = 16


@torch.no_grad()
def score_events(
    model: LoadedAnticipator,
    labelled: LabelledSet,
    *,
    seconds: float | None = None,
    hashes: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> ScoredSet:
    """Ask a model about all events of a list that can be anticipated.

    The result goes into the measures of `scoring`, and into `tasks.fooling_times.time_findings`,
    which tells whether each answer was given before its event.

    Args:
        model: of `load_anticipator` or `join_published_probe`.
        labelled: events, numbered by the model's label map.
        seconds: anticipation time; None: that of the model.
        hashes: of each path the content hash, where it is known.
        quiet: no progress.

    Raises:
        LabelError: the list numbers its classes differently, or no event can be anticipated.
        VideoError, BadFilesError: files cannot be read.
        InputError, DtypeError: scores are not finite.
    """
    model.label_map.check_same(labelled.label_map, what="that of the list")
    clips = model.settings.clips
    usable = usable_events(labelled, clips, seconds=seconds, quiet=quiet)
    events = subset(labelled, usable.indices)
    reader = EventReader(events, clips, model.settings.views)
    sizes = {head: len(names) for head, names in model.label_map.heads.items()}
    order = [list(range(at, min(at + BATCH, len(events)))) for at in range(0, len(events), BATCH)]
    items = []
    batches = reader.batches(order, seconds=seconds)
    for batch in track(batches, total=len(order), description="Anticipate", quiet=quiet):
        logits = model.network(batch.pixels.to(model.device), batch.seconds).logits
        assert logits is not None
        scores = {
            head: probabilities(values, loss=model.settings.loss).cpu()
            for head, values in as_heads(logits, sizes).items()
        }
        for place, (index, clip) in enumerate(zip(batch.indices, batch.clips, strict=True)):
            item = events.items[index]
            items.append(
                ScoredItem(
                    item=item,
                    scores={head: values[place] for head, values in scores.items()},
                    context_end_seconds=clip.context_end_seconds,
                    event_start_seconds=clip.event_start_seconds,
                    # An event whose end nobody marked is not one that lasts until the file ends.
                    event_end_seconds=clip.event_end_seconds if _has_end(item) else None,
                    anchor=clips.anchor,
                )
            )
    return ScoredSet(label_map=model.label_map, items=tuple(items), hashes=dict(hashes or {}))


def _has_end(item: LabelledItem) -> bool:
    return item.end_seconds is not None or item.end_frame is not None
