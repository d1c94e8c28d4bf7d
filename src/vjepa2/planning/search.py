"""One search under way: candidates in, costs out, the best kept, the clock watched.

A deadline holds although costs take time: from the calls before, the duration of the next one is
predicted, and candidates are split so that no call takes more than half of what is left. What the
last call takes longer than predicted is then small against the deadline.
"""

import statistics
import time
from collections import deque
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from vjepa2.errors import ConfigError, PlanningError, ShapeError, check_kind, checked_number
from vjepa2.planning.action_space import ActionSpace
from vjepa2.planning.plan import Cost, Iteration, Plan

REMEMBERED = 24
SHARE = 0.5  # of the time left, that one call may take
LAST_SHARE = 0.8  # ... where even a single candidate takes more than that
RESERVED = 0.02  # of the deadline, for what is done after the last call
LEAST_CAUTION, MOST_CAUTION = 1.15, 2.0
MOST_GROWTH = 4


class Pace:
    """How long calls of a cost take, learnt from those before: a fixed part and one per candidate.

    A planner keeps one for its life, so that the first call of a later search is predicted too.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[int, float]] = deque(maxlen=REMEMBERED)

    def note(self, count: int, seconds: float) -> None:
        """A call with `count` candidates took so long."""
        self._seen.append((count, max(seconds, 1e-7)))

    @property
    def is_known(self) -> bool:
        """Whether there was a call yet."""
        return bool(self._seen)

    def _fitted(self) -> tuple[float, float]:
        """Seconds of a call and of a candidate: least squares of relative errors, both >= 0."""
        counts = [count for count, _ in self._seen]
        if min(counts) == max(counts):  # nothing tells them apart: the cautious answer
            # The median: one call that other programs delayed must not end all later searches.
            return 0.0, statistics.median(seconds for _, seconds in self._seen) / counts[0]
        x = torch.tensor([[1.0 / s, n / s] for n, s in self._seen], dtype=torch.float64)
        normal = x.T @ x
        base, each = torch.linalg.solve(normal, x.sum(dim=0)).tolist()
        if base < 0:
            return 0.0, (x[:, 1].sum() / x[:, 1].square().sum()).item()
        if each < 0:
            return (x[:, 0].sum() / x[:, 0].square().sum()).item(), 0.0
        return base, each

    def most_in(self, seconds: float) -> int:
        """Candidates that surely fit into some time; 0: not even one."""
        if not self._seen:
            return 1
        base, each = self._fitted()
        worst = max(s / max(base + each * n, 1e-9) for n, s in self._seen)
        caution = min(max(worst, LEAST_CAUTION), MOST_CAUTION)
        free = seconds / caution - base
        if free < each:
            return 0
        # Calls much larger than those seen may cost what nothing seen tells.
        largest = MOST_GROWTH * max(count for count, _ in self._seen)
        return min(int(free / each), largest) if each > 0 else largest

    def of(self, count: int) -> float:
        """Seconds that a call with `count` candidates takes, cautiously; 0 if nothing is known."""
        if not self._seen:
            return 0.0
        base, each = self._fitted()
        return LEAST_CAUTION * (base + count * each)


class Search:
    """Evaluates candidates of one `plan` call.

    Args:
        cost: see `plan.Cost`.
        space: what the candidates are from.
        deadline_seconds: from now; None: no end.
        pace: of `cost` without gradients.
        gradient_pace: with gradients; None: not used.

    Attributes:
        actions, cost_of_best: the best candidate so far; None and infinity before the first.
        expired: whether candidates were left out because of the deadline.
        samples, iterations, num_not_finite, history: see `Plan`.
    """

    def __init__(
        self,
        cost: Cost,
        space: ActionSpace,
        *,
        deadline_seconds: float | None,
        pace: Pace,
        gradient_pace: Pace | None = None,
    ) -> None:
        check_kind("space", space, ActionSpace, words="an ActionSpace")
        if not callable(cost):
            raise ConfigError(f"cost must be a function of actions [S, L, A], got {cost!r}.")
        self._began = time.perf_counter()
        self._end: float | None = None
        self._reserved = self._kept = 0.0
        if deadline_seconds is not None:
            deadline = checked_number("deadline_seconds", deadline_seconds, above=0.0)
            self._end, self._reserved = self._began + deadline, RESERVED * deadline
        self._cost, self._space = cost, space
        self._pace, self._gradient_pace = pace, gradient_pace
        self.actions: Tensor | None = None
        self.variables: Tensor | None = None
        self.cost_of_best = float("inf")
        self.expired = False
        self.samples = self.iterations = self.num_not_finite = 0
        self.history: list[Iteration] = []

    def evaluate(
        self, variables: Float[Tensor, "S L A"], *, with_small: bool = False
    ) -> Float[Tensor, " S2"]:
        """Costs of the candidates, float64 on the CPU; the first S2 <= S before the deadline.

        What is evaluated is what would be carried out: values in the dead zone are 0, unless
        `with_small`. Costs that are NaN are infinite.
        """
        with torch.no_grad():
            actions = self._space.actions(variables)
            if not with_small:
                actions = self._space.without_small(actions)
            costs = []
            for start, stop in self._parts(len(actions), self._pace):
                begun = time.perf_counter()
                part = self._finite(self._cost(actions[start:stop]), stop - start)
                self._pace.note(stop - start, time.perf_counter() - begun)
                self._keep_best(variables[start:stop], actions[start:stop], part)
                costs.append(part)
        return torch.cat(costs) if costs else torch.empty(0, dtype=torch.float64)

    def evaluate_with_gradient(
        self, variables: Float[Tensor, "S L A"]
    ) -> tuple[Float[Tensor, " S2"], Float[Tensor, "S2 L A"]]:
        """Costs, and their gradients by the variables; the dead zone is not applied.

        Raises:
            ConfigError: the cost has no gradient.
        """
        assert self._gradient_pace is not None
        costs, gradients = [], []
        for start, stop in self._parts(len(variables), self._gradient_pace):
            begun = time.perf_counter()
            leaf = variables[start:stop].detach().clone().requires_grad_()
            with torch.enable_grad():
                actions = self._space.actions(leaf)
                cost = self._cost(actions)
                if not cost.requires_grad:
                    raise ConfigError(
                        "This cost has no gradient, so nothing can descend along it. Compute it "
                        "without no_grad, inference_mode or detach, or choose a planner that only "
                        "samples, such as ImprovedCEM."
                    )
                [gradient] = torch.autograd.grad(cost.sum(), leaf)
            part = self._finite(cost.detach(), stop - start)
            self._gradient_pace.note(stop - start, time.perf_counter() - begun)
            if not self._space.dead_zone:
                self._keep_best(leaf.detach(), actions.detach(), part)
            costs.append(part)
            gradients.append(torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0))
        if not costs:
            return torch.empty(0, dtype=torch.float64), variables[:0]
        return torch.cat(costs), torch.cat(gradients)

    def note(self, costs: Tensor) -> None:
        """An iteration is finished; `costs` are those of its candidates."""
        finite = costs[torch.isfinite(costs)]
        self.iterations += 1
        self.history.append(
            Iteration(
                best_cost=self.cost_of_best,
                mean_cost=finite.mean().item() if len(finite) else float("inf"),
                samples=self.samples,
                seconds=time.perf_counter() - self._began,
            )
        )

    def finish(self) -> Plan:
        """The plan: the best candidate, or what `choose_from` chose.

        Raises:
            PlanningError: nothing had a finite cost although something was evaluated.
        """
        if self.actions is None:
            raise PlanningError(
                f"None of {self.samples} candidates had a finite cost ({self.num_not_finite} were "
                "NaN or infinite). Look at the goal, the state and the model's weights for NaN."
            )
        return Plan(
            actions=self.actions.detach().cpu().clone(),
            cost=self.cost_of_best,
            iterations=self.iterations,
            samples=self.samples,
            history=tuple(self.history),
            complete=not self.expired,
            seconds=time.perf_counter() - self._began,
            num_not_finite=self.num_not_finite,
        )

    def keep_time_for(self, count: int) -> None:
        """Leave time for so many candidates after the search, which `choose_from` then takes."""
        if self._end is not None:
            self._kept = self._pace.of(count)

    def choose_from(self, variables: Float[Tensor, "S L A"]) -> None:
        """Make the best of these the result, although others that were evaluated may be better.

        They are computed in the time that was kept for them. Where none of them has a finite cost,
        the best of the others stays the result.
        """
        with torch.no_grad():
            actions = self._space.without_small(self._space.actions(variables))
            costs = self._finite(self._cost(actions), len(actions))
        if bool(torch.isfinite(costs).any()):
            self.cost_of_best = float("inf")
            self._keep_best(variables, actions, costs)

    def _parts(self, count: int, pace: Pace) -> Iterator[tuple[int, int]]:
        """Ranges of candidates, each decided when its turn comes."""
        done = 0
        while done < count:
            room = self.room(pace)
            # Something is always evaluated: a plan without any cost is none.
            if room < 1 and self.samples > 0:
                self.expired = True
                return
            start, done = done, min(count, done + max(1, room))
            yield start, done

    def room(self, pace: Pace) -> int:
        """Candidates that the next call may have; 0: the deadline is here."""
        if self._end is None:
            return 10**9
        left = self._end - self._reserved - self._kept - time.perf_counter()
        if left <= 0:
            return 0
        return pace.most_in(SHARE * left) or min(1, pace.most_in(LAST_SHARE * left))

    def _finite(self, costs: Tensor, count: int) -> Tensor:
        if not isinstance(costs, Tensor) or costs.shape != (count,):
            got = list(costs.shape) if isinstance(costs, Tensor) else type(costs).__name__
            raise ShapeError(f"The cost must give one number per candidate, [{count}], got {got}.")
        # On the CPU: so the time of a call on an accelerator is its real one.
        values = costs.double().cpu()
        wrong = ~torch.isfinite(values)
        self.samples += count
        self.num_not_finite += int(wrong.sum())
        return torch.where(wrong, float("inf"), values)

    def _keep_best(self, variables: Tensor, actions: Tensor, costs: Tensor) -> None:
        best = int(costs.argmin())
        if costs[best].item() < self.cost_of_best:
            self.cost_of_best = costs[best].item()
            self.actions, self.variables = actions[best].clone(), variables[best].clone()
