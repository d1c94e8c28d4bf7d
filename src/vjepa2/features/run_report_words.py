"""What the curves of a run say, in plain words with numbers."""

from collections.abc import Sequence

from vjepa2.features.run_report_charts import Points, number
from vjepa2.training.health_rules import NO_SKILL, PARTLY_LOST_RANK, RUN_AWAY, STALL

# Of a value, a change by this share is worth mentioning.
CHANGE = 0.03

# The beginning and the end of a curve are means over this share of it.
END_SHARE = 0.05


def ends(points: Points) -> tuple[float, float] | None:
    """Mean of the first and of the last few values; None for less than two points."""
    if len(points) < 2:
        return None
    count = max(1, round(END_SHARE * len(points)))
    values = [value for _, value in points]
    return sum(values[:count]) / count, sum(values[-count:]) / count


def turned(points: Points) -> bool:
    """Whether a curve fell first and rose afterwards by a part of that which is worth a word."""
    if len(points) < 10:
        return False
    size = max(1, len(points) // 20)
    values = [value for _, value in points]
    means = [
        sum(values[at : at + size]) / len(values[at : at + size])
        for at in range(0, len(values), size)
    ]
    least = min(range(len(means)), key=means.__getitem__)
    return (
        0 < least < len(means) - 1
        and means[0] > means[least] * (1 + CHANGE)
        and means[-1] > means[least] * (1 + CHANGE)
    )


def against_trivial(skill: float, mean: Points, nearest: Points, *, would: bool) -> str:
    """Which predictor that knows nothing is the better one, and by how much it beats or loses."""
    name = "the better trivial predictor"
    if mean and nearest:
        is_mean = mean[-1][1] <= nearest[-1][1]
        name = "predicting the mean everywhere" if is_mean else "copying the nearest visible token"
    costs = "would cost" if would else "costs"
    if skill <= -NO_SKILL:
        return f"{name} {costs} {1 - 1 / (1 - skill):.0%} less"
    return f"{name} {costs} hardly {'more' if skill > 0 else 'less'}"


def about_loss(
    loss: Points, rank: Points, skill: Points, mean: Points = (), nearest: Points = ()
) -> str:
    """What the loss means, which by itself is nothing: it is read beside rank and skill."""
    both = ends(loss)
    if both is None:
        return ""
    begin, end = both
    words = f"The loss went from {number(begin)} to {number(end)}"
    ranks, last_skill = ends(rank), (skill[-1][1] if skill else None)
    if ranks is None:
        return f"{words}. By itself that says little: the targets are made by the network itself."
    rank_words = f"the rank of the targets went from {number(ranks[0])} to {number(ranks[1])}"
    poorer = ranks[1] < ranks[0] * (1 - CHANGE)
    richer = ranks[1] > ranks[0] * (1 + CHANGE)
    if turned(loss):
        words = f"The loss fell first, then rose; it went from {number(begin)} to {number(end)}"
    if turned(loss) or end > begin * (1 + CHANGE):
        if richer:
            return f"{words}. It rises because the targets get richer ({rank_words}): healthy."
        if not poorer:
            return f"{words} while the targets stay as rich as they were ({rank_words}): harmless."
        return f"{words} and {rank_words}: not healthy. Lower the learning rate, or warm up longer."
    if end > begin * (1 - CHANGE):
        return f"{words}: it hardly changes; {rank_words}."
    if last_skill is not None and last_skill < NO_SKILL:
        return (
            f"{words}, but {against_trivial(last_skill, mean, nearest, would=True)}: little is "
            f"learned so far; {rank_words}."
        )
    if poorer:
        return (
            f"{words}; {rank_words}: part of the fall is that the targets became simpler. Small "
            "runs often lose some rank early; skill and probes tell whether something is learned."
        )
    return f"{words} while the targets stay as rich as they were ({rank_words}): healthy."


def about_rank(teacher: Points, student: Points) -> str:
    """How many directions the features use, against those before training."""
    if not teacher and not student:
        return ""
    words = (
        "Effective rank: in how many directions tokens differ (1: all alike). The first value is "
        "that of the network before training."
    )
    for name, points in (("teacher", teacher), ("student", student)):
        if len(points) > 1 and points[0][1] > 0:
            share = points[-1][1] / points[0][1]
            if share < PARTLY_LOST_RANK:
                words += f" The {name} has {share:.0%} of it left: partial collapse, watch it."
            elif share > 1 + CHANGE:
                words += f" That of the {name} rose to {share:.0%}: richer features."
            else:
                words += f" The {name} has {share:.0%} of it."
    return words


def about_skill(skill: Points, mean: Points, nearest: Points) -> str:
    """The prediction against those that know nothing."""
    if not skill:
        return ""
    last = skill[-1][1]
    words = (
        "Skill is 1 - loss / loss of the better trivial predictor, on held-out clips: 0 is no "
        f"better than trivial, 1 perfect. It is {last:.3f} now"
    )
    if mean and nearest:
        words += (
            f"; the trivial ones cost {number(mean[-1][1])} (the mean everywhere) and "
            f"{number(nearest[-1][1])} (the nearest visible token)"
        )
    if last < NO_SKILL:
        trivial = against_trivial(last, mean, nearest, would=False)
        return f"{words}: {trivial}. Nothing is learned yet; that is usual at the beginning only."
    return f"{words}: hidden parts are predicted from visible ones."


def about_variance(between: Points, cosine: Points) -> str:
    """Whether features say what is in a clip, not only where a token is."""
    words = ""
    if between:
        words = (
            f"{between[-1][1]:.0%} of the variance of the teacher's tokens differs from clip to "
            "clip; the rest only tells where a token is."
        )
    if cosine:
        words += (
            f" The mean cosine between clips is {cosine[-1][1]:.2f}"
            f" (before training {cosine[0][1]:.2f}); at 1 all clips look alike to the network."
        )
    return words.strip()


def about_distance(points: Points) -> str:
    """How far the student is ahead of its average."""
    if not points:
        return ""
    last = points[-1][1]
    words = f"Student and teacher differ by {last:.1%} of the size of their weights"
    if len(points) > 1 and max(value for _, value in points) == 0:
        return f"{words}: the teacher does not lag behind at all. Is the EMA momentum 0?"
    if last > RUN_AWAY:
        return f"{words}: the student runs away. The learning rate may be too high."
    return f"{words}: the teacher lags behind, as it should."


def about_gradients(points: Sequence[Points]) -> str:
    """Spikes in the norms of the gradients."""
    spikes = 0
    for values in points:
        ordered = sorted(value for _, value in values)
        if ordered:
            middle = ordered[len(ordered) // 2]
            spikes += sum(value > 20 * middle > 0 for value in ordered)
    if spikes:
        return (
            f"{spikes} updates had a gradient above 20 times the median. Single ones do no harm; "
            "many call for a longer warm-up or gradient clipping."
        )
    return "No update stands out."


def about_stall(points: Points) -> str:
    """How long training waited for data."""
    if not points:
        return ""
    mean = sum(value for _, value in points) / len(points)
    words = f"Training waited for data {mean:.1%} of the time."
    if mean > STALL:
        return f"{words} More workers, smaller videos, or fewer frames decoded per clip would help."
    return words


def about_probe(teacher: Points, chance: Points) -> str:
    """What a plain classifier reads from the features."""
    if not teacher:
        return ""
    words = (
        f"Accuracy on the labelled clips, learned from half and asked of the others: "
        f"{teacher[-1][1]:.0%} now, {teacher[0][1]:.0%} at the first measurement"
    )
    return (
        f"{words}; the commonest class alone gives {chance[-1][1]:.0%}." if chance else f"{words}."
    )
