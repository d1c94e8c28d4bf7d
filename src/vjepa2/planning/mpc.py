"""Driving a robot: look, plan, do the first action, look again.

loop = RecedingHorizon(world, ImprovedCEM(), arm_space(), GoalSchedule((LatentGoal(goal),)),
                       pixels=lambda seen: processor(seen.frames["wrist"]), ...)
episode = loop.run(robot, trace_folder="trace")
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vjepa2.errors import ConfigError, PlanningError, RobotError, UnsafeActionError, checked_integer
from vjepa2.planning.action_space import ActionSpace
from vjepa2.planning.objective import GoalSchedule, within
from vjepa2.planning.observing import FrozenWatch, Pixels, checked_observation, pixels_of
from vjepa2.planning.plan import Plan, Planner, cost_of
from vjepa2.planning.robot_calls import RobotCalls
from vjepa2.planning.safety import SafetyFilter
from vjepa2.planning.trace import Trace, TraceStep
from vjepa2.protocols import Robot, Rollout, WorldModel


@dataclass(frozen=True, kw_only=True)
class Episode:
    """How an episode went.

    Attributes:
        reason: "goals reached", "schedule done", "steps used up", "robot failed", "refused" or
            "no plan".
        error: what went wrong, in words; empty where nothing did.
        trace: every step.
        trace_folder: where it was saved; None: nowhere.
        goals_done: how many goals of the schedule.
    """

    reason: str
    error: str
    trace: Trace
    trace_folder: Path | None
    goals_done: int

    @property
    def ended_well(self) -> bool:
        """Nothing went wrong; whether the goal was reached says `reason`."""
        return not self.error


class RecedingHorizon:
    """The loop of planning and acting.

    Args:
        world: predicts.
        planner: chooses.
        space: what is allowed.
        goals: one after the other.
        pixels: an observation as the world model's `encode` wants it, [1, C, H, W].
        safety: the last check; None: the space's bounds. Its workspace also holds for predictions.
        max_steps: actions at most.
        context: frames, the present one included, that predictions start from.
        deadline_seconds: of every plan; None: none.
        robot_timeout_seconds: of every call of the robot; None: calls are made directly.
        warm_start: whether a plan begins from the rest of the one before.
        seed: of all random numbers.

    Raises:
        ConfigError: a number makes no sense, or space and world have different actions.
    """

    def __init__(
        self,
        world: WorldModel,
        planner: Planner,
        space: ActionSpace,
        goals: GoalSchedule,
        *,
        pixels: Pixels,
        safety: SafetyFilter | None = None,
        max_steps: int = 50,
        context: int = 1,
        deadline_seconds: float | None = None,
        robot_timeout_seconds: float | None = 10.0,
        warm_start: bool = True,
        seed: int = 0,
    ) -> None:
        if space.size != world.action_size:
            raise ConfigError(
                f"The space has actions of {space.size} numbers, the world model of "
                f"{world.action_size}."
            )
        self.world, self.planner, self.space, self.goals = world, planner, space, goals
        self.pixels = pixels
        self.safety = SafetyFilter(space=space) if safety is None else safety
        self.max_steps = checked_integer("max_steps", max_steps, least=1)
        self.context = checked_integer("context", context, least=1)
        self.deadline_seconds, self.warm_start = deadline_seconds, warm_start
        self.robot_timeout_seconds = robot_timeout_seconds
        self.seed = checked_integer("seed", seed, least=0)

    def run(self, robot: Robot, *, trace_folder: str | os.PathLike[str] | None = None) -> Episode:
        """One episode, from the robot's `reset` to its `stop`; the robot is not closed.

        Whatever happens, the robot is told to stop and the trace is saved: what a robot raises,
        silence beyond the timeout, observations of a wrong form, refused actions and plans that
        fail end the episode with a reason. Errors in goals or models go on upwards afterwards, the
        trace says "failed" and which; so does Ctrl-C, and the trace says "interrupted".

        Raises:
            OutputError: the trace cannot be written.
        """
        calls = RobotCalls(robot, timeout_seconds=self.robot_timeout_seconds)
        trace = Trace(about={"seed": self.seed, "horizon": self.planner.horizon})
        running = _Running(self, calls, trace)
        trace.reason = "interrupted"
        try:
            trace.reason = running.episode()
        except RobotError as error:
            trace.reason, trace.error = "robot failed", str(error)
        except UnsafeActionError as error:
            trace.reason, trace.error = "refused", str(error)
        except PlanningError as error:
            trace.reason, trace.error = "no plan", str(error)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            trace.reason, trace.error = "failed", f"{type(error).__name__}: {error}"
            raise
        finally:
            failed = calls.stop()
            calls.end()
            if failed:
                trace.error = f"{trace.error} {failed}.".strip()
            folder = None if trace_folder is None else trace.save(trace_folder)
        return Episode(
            reason=trace.reason,
            error=trace.error,
            trace=trace,
            trace_folder=folder,
            goals_done=running.goal,
        )


class _Running:
    """One episode under way."""

    def __init__(self, loop: RecedingHorizon, calls: RobotCalls, trace: Trace) -> None:
        self.loop, self.calls, self.trace = loop, calls, trace
        self.generator = torch.Generator().manual_seed(loop.seed)
        self.goal = self.taken = 0
        self.plan: Plan | None = None
        self.latents: list[Tensor] = []
        self.states: list[Tensor] = []
        self.actions: list[Tensor] = []
        self.watch, self.moved = FrozenWatch(), False

    def episode(self) -> str:
        """Steps until an end; the reason."""
        loop, robot = self.loop, self.calls.robot
        seen = self.calls.call("reset", robot.reset)
        for _ in range(loop.max_steps):
            self._take_in(seen)
            cost_now = self._cost_now()
            if self._goals_are_done(cost_now):
                self._note(cost_now, action=None, plan=None)
                return "schedule done" if loop.goals.counts else "goals reached"
            action, clipped, facts = self._choose(cost_now)
            self._note(cost_now, action=action, plan=self.plan, clipped=clipped, facts=facts)
            self.calls.call("act", lambda action=action: robot.act(action))  # type: ignore[misc]
            self.actions.append(action)
            self.moved = bool(action.any())
            self.taken += 1
            seen = self.calls.call("observe", robot.observe)
        self._take_in(seen)
        cost_now = self._cost_now()
        done = self._goals_are_done(cost_now)
        self._note(cost_now, action=None, plan=None)
        if done:
            return "schedule done" if loop.goals.counts else "goals reached"
        return "steps used up"

    def _take_in(self, answer: object) -> None:
        seen, state = checked_observation(answer, state_size=self.loop.world.state_size)
        self.watch.look(state, seen.time_seconds, moved=self.moved)
        self.loop.safety.checked_state(state, self.states[-1] if self.states else None)
        self.latents.append(self.loop.world.encode(pixels_of(seen, self.loop.pixels))[-1])
        self.states.append(state)
        keep = self.loop.context
        self.latents, self.states = self.latents[-keep:], self.states[-keep:]
        self.actions = self.actions[-(keep - 1) :] if keep > 1 else []

    @torch.no_grad()
    def _cost_now(self) -> float:
        """What is seen, as if an action had led to it."""
        goals = self.loop.goals.goals
        seen = Rollout(
            latents=self.latents[-1][None, None],
            states=self.states[-1][None, None],
            actions=torch.zeros(1, 1, self.loop.space.size),
        )
        return float(goals[min(self.goal, len(goals) - 1)](seen)[0])

    def _goals_are_done(self, cost_now: float) -> bool:
        before = self.goal
        self.goal = self.loop.goals.after(self.goal, self.taken, cost_now)
        if self.goal != before:
            self.taken, self.plan = 0, None  # the rest of the old plan leads elsewhere
        return self.goal >= len(self.loop.goals.goals)

    def _choose(self, cost_now: float) -> tuple[Tensor, bool, dict[str, Any]]:
        loop = self.loop
        goal = loop.goals.goals[self.goal]
        if loop.safety.workspace is not None:
            goal = within(goal, loop.safety.workspace)
        begun = time.perf_counter()
        past = torch.stack(self.actions) if self.actions else None
        with torch.no_grad():
            situation = loop.world.begin(torch.stack(self.latents), torch.stack(self.states), past)
        warm = None
        if loop.warm_start and self.plan is not None:
            warm = self.plan.shifted(loop.space)
        try:
            self.plan = loop.planner.plan(
                cost_of(loop.world, situation, goal),
                loop.space,
                warm_start=warm,
                deadline_seconds=loop.deadline_seconds,
                generator=self.generator,
            )
            with torch.no_grad():
                first = loop.world.rollout(situation, self.plan.actions[None, :1])
            action, clipped = loop.safety.checked_action(
                self.plan.actions[0].clone(),
                state=self.states[-1],
                predicted=first.states[0, 0].float().cpu(),
            )
        except PlanningError:
            self._note(cost_now, action=None, plan=self.plan)
            raise
        return action, clipped, {"seconds": time.perf_counter() - begun}

    def _note(
        self,
        cost_now: float,
        *,
        action: Tensor | None,
        plan: Plan | None,
        clipped: bool = False,
        facts: dict[str, Any] | None = None,
    ) -> None:
        self.trace.steps.append(
            TraceStep(
                state=self.states[-1],
                action=action,
                plan=plan,
                goal=self.goal,
                cost_now=cost_now,
                clipped=clipped,
                facts=facts or {},
            )
        )
