"""A model's answers to a list of events, in the form that every measure and every look takes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.data.event_clips import EventClip, marked_end
from vjepa2.data.event_loader import EventReader, subset, usable_events
from vjepa2.data.labelled import LabelledSet
from vjepa2.models.anticipation import AnticipationTokens, TokenChoice
from vjepa2.models.probe import VJEPA2AttentiveProbe
from vjepa2.progress import track
from vjepa2.tasks.anticipate_scores import Answers, probabilities
from vjepa2.tasks.anticipate_trainer import as_heads
from vjepa2.tasks.anticipator_folder import LoadedAnticipator
from vjepa2.tasks.scored import Anchor, ScoredItem, ScoredSet

BATCH = 16


class EventAnswers(NamedTuple):
    """What was said of a batch of events.

    Attributes:
        indices: numbers of the events in their set.
        clips: which frames were seen, and when.
        logits: by choice of tokens and by head, float32 [B, classes] on the CPU.
    """

    indices: list[int]
    clips: list[EventClip]
    logits: dict[TokenChoice, dict[str, Tensor]]


class EventAnswerer:
    """Probes of one model that read the same tokens.

    Args:
        model: of `load_anticipator` or `join_published_probe`.
        ablations: further probes by the tokens that they read, see `anticipate_ablations`.
    """

    def __init__(
        self,
        model: LoadedAnticipator,
        ablations: Mapping[TokenChoice, VJEPA2AttentiveProbe] | None = None,
    ) -> None:
        self.model = model
        own = model.settings.future.tokens
        self.probes = {**(ablations or {}), own: model.network.probe}
        needs_future = any(choice != "encoder" for choice in self.probes)
        settings = model.settings.future.override(
            [f"tokens={'both' if needs_future else 'encoder'}"]
        )
        network = model.network.tokens.model
        self._tokens = AnticipationTokens(network, settings, fps=model.settings.clips.fps)
        self._tokens.eval()
        self._heads = {head: len(names) for head, names in model.label_map.heads.items()}

    @torch.no_grad()
    def logits(
        self, pixels: Float[Tensor, "B T C S S"], seconds: Float[Tensor, " B"]
    ) -> dict[TokenChoice, dict[str, Tensor]]:
        """By choice of tokens and by head, float32 [B, classes] on the CPU."""
        encoded = self._tokens.encode(pixels.to(self.model.device))
        parts = {"encoder": encoded.tokens}
        if self._tokens.settings.tokens == "both":
            parts["predictor"] = self._tokens.future(encoded, seconds)
            parts["both"] = torch.cat([encoded.tokens, parts["predictor"]], dim=1)
        found = {}
        for choice, probe in self.probes.items():
            scores = as_heads(probe(parts[choice], return_dict=True).logits, self._heads)
            found[choice] = {head: values.float().cpu() for head, values in scores.items()}
        return found

    def answers(
        self,
        events: LabelledSet,
        order: Sequence[Sequence[int]],
        *,
        seconds: float | None = None,
        workers: int = 1,
        quiet: bool = False,
    ) -> Iterator[EventAnswers]:
        """Answer batch after batch.

        Args:
            events: all of them can be anticipated (`usable_events`).
            order: numbers of the events of every batch.
            seconds: anticipation time; None: that of the model.
            workers: batches that are decoded ahead.
            quiet: no progress.

        Raises:
            VideoError: a file cannot be read.
        """
        clips = self.model.settings.clips
        reader = EventReader(events, clips, self.model.settings.views)
        ahead = clips.seconds if seconds is None else seconds
        batches = reader.batches(order, seconds=ahead, workers=workers)
        title = f"Anticipate {ahead:g} s ahead"
        for batch in track(batches, total=len(order), description=title, quiet=quiet):
            logits = self.logits(batch.pixels, batch.seconds)
            yield EventAnswers(batch.indices, batch.clips, logits)


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
    usable = usable_events(labelled, model.settings.clips, seconds=seconds, quiet=quiet)
    events = subset(labelled, usable.indices)
    order = [list(range(at, min(at + BATCH, len(events)))) for at in range(0, len(events), BATCH)]
    own = model.settings.future.tokens
    items = []
    for found in EventAnswerer(model).answers(events, order, seconds=seconds, quiet=quiet):
        scores = {
            head: probabilities(values, loss=model.settings.loss)
            for head, values in found.logits[own].items()
        }
        for place, (index, clip) in enumerate(zip(found.indices, found.clips, strict=True)):
            item = events.items[index]
            items.append(
                ScoredItem(
                    item=item,
                    scores={head: values[place] for head, values in scores.items()},
                    context_end_seconds=clip.context_end_seconds,
                    event_start_seconds=clip.event_start_seconds,
                    event_end_seconds=marked_end(item, clip),
                    anchor=model.settings.clips.anchor,
                )
            )
    return ScoredSet(label_map=model.label_map, items=tuple(items), hashes=dict(hashes or {}))


def scored_items(
    answers: Answers, choice: TokenChoice, *, loss: str, anchor: Anchor
) -> list[ScoredItem]:
    """What the probe of one choice of tokens said, with the times, item by item.

    Args:
        answers: with logits of this choice and the ends of events.
        choice: of tokens.
        loss: what its logits mean.
        anchor: which end of events contexts were counted back from.

    Raises:
        InputError: scores are not finite.
    """
    scores = {
        head: probabilities(logits, loss=loss) for head, logits in answers.logits[choice].items()
    }
    times = zip(answers.context_ends, answers.event_starts, answers.event_ends, strict=True)
    return [
        ScoredItem(
            item=item,
            scores={head: values[place] for head, values in scores.items()},
            context_end_seconds=end,
            event_start_seconds=start,
            event_end_seconds=stop,
            anchor=anchor,
        )
        for place, (item, (end, start, stop)) in enumerate(zip(answers.items, times, strict=True))
    ]
