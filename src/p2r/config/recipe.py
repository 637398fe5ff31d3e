"""The recipe of a training run: its tables, and the phases that follow from them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, PositiveInt, model_validator

from p2r.config.presets import fill_in_recipe
from p2r.config.settings import (
    PHASE_TABLES,
    ActiveRole,
    AdvantageSettings,
    CheckpointSettings,
    DataSettings,
    GuardSettings,
    LossSettings,
    ModelSettings,
    OptimizerSettings,
    PartnerSettings,
    PhaseDefaults,
    PhaseSettings,
    ProbeSettings,
    RewardSettings,
    RolloutSettings,
    TrackerSettings,
)
from p2r.types import Frozen

Control = Literal["none", "joint", "single-stage"]
PhaseKind = Literal["perceiver", "reasoner", "joint", "single-stage"]

ROLES: tuple[ActiveRole, ...] = get_args(ActiveRole)


class Phase(Frozen):
    """A phase as it is run, with all of its settings resolved.

    index: from 0, over all iterations.
    steps: None for `passes` passes over the rows.
    lr: the peak learning rate.
    source: the checkpoint that it starts from; None for the one that the phase before leaves.
    base: a checkpoint that exists before the run and is of the phase's model: prompts are measured with it.
    """

    index: int
    kind: PhaseKind
    steps: int | None
    passes: int
    lr: float
    source: str | None
    base: str
    data: DataSettings
    rollout: RolloutSettings
    reward: RewardSettings
    advantage: AdvantageSettings
    loss: LossSettings
    optimizer: OptimizerSettings

    @property
    def name(self) -> str:
        """The name of its folder, such as "0-perceiver"."""
        return f"{self.index}-{self.kind}"

    @property
    def roles(self) -> tuple[ActiveRole, ...]:
        """The roles whose replies are sampled and learned from."""
        if self.kind == "joint":
            return ("perceiver", "reasoner")
        return ("perceiver",) if self.kind == "perceiver" else ("reasoner",)

    @property
    def prompts_per_step(self) -> int:
        """Rows per step. `joint` samples both roles for each, so half as many rows make as many rollouts."""
        return self.rollout.prompts_per_step // 2 if self.kind == "joint" else self.rollout.prompts_per_step

    @property
    def max_response_tokens(self) -> int:
        """The longest reply that any of its roles may give."""
        return max(self.rollout.max_new_tokens.of(role) for role in self.roles)

    def count_steps(self, num_rows: int) -> int:
        """The number of its steps with so many usable rows."""
        return self.steps if self.steps is not None else self.passes * (num_rows // self.prompts_per_step)


class Recipe(Frozen):
    """Everything a training run is asked to do.

    out: the folder of the run.
    schedule: the phases of one iteration, in order; `phase` gives the steps and rates that they leave open.
    control: "joint" updates both roles from one reward without phases; "single-stage" is plain GRPO on answers to the
        whole image. Both run as many steps, with as many rollouts, as the schedule has.
    """

    out: Path
    seed: int = Field(default=0, ge=0)
    control: Control = "none"
    iterations: PositiveInt = 1
    schedule: tuple[PhaseSettings, ...] = Field(default=tuple(PhaseSettings(role=role) for role in ROLES), min_length=1)
    phase: PhaseDefaults = PhaseDefaults()
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    rollout: RolloutSettings = RolloutSettings()
    reward: RewardSettings = RewardSettings()
    advantage: AdvantageSettings = AdvantageSettings()
    loss: LossSettings = LossSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    partner: PartnerSettings = PartnerSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    probe: ProbeSettings = ProbeSettings()
    guards: GuardSettings = GuardSettings()
    trackers: TrackerSettings = TrackerSettings()

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: object) -> object:
        return fill_in_recipe(given)

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        own = [
            f"schedule.{place}.{name}"
            for place, each in enumerate(self.schedule)
            for name in PHASE_TABLES
            if getattr(each, name) is not None
        ]
        if self.control != "none" and own:
            raise ValueError(f"the control {self.control} is one phase, which {own[0]} cannot belong to: leave it out")
        for place, each in enumerate(self.schedule):
            own_lr = each.optimizer.lr if each.optimizer is not None and each.lr is None else self.optimizer.lr
            if self.phase.lr is not None and own_lr != self.optimizer.lr:
                raise ValueError(
                    f"phase.lr would replace schedule.{place}.optimizer.lr: give schedule.{place}.lr instead"
                )
        if any(phase.data.source == "needles" and phase.data.num_rows is None for phase in self.phases()):
            raise ValueError("data.num_rows is needed for needles, which never run out")
        if self.control == "joint" and self.rollout.prompts_per_step % 2:
            raise ValueError("the control joint halves rollout.prompts_per_step, which has to be even")
        return self

    @property
    def roles(self) -> tuple[ActiveRole, ...]:
        """The roles that learn."""
        learning = {role for phase in self.phases() for role in phase.roles}
        return tuple(role for role in ROLES if role in learning)

    def phases(self) -> tuple[Phase, ...]:
        """The phases as they are run. A control is one phase, as long as the whole schedule."""
        asked = self.schedule * self.iterations
        if self.control == "none":
            phases: list[Phase] = []
            base = self.model.source
            for index, each in enumerate(asked):
                base = each.source or base
                phases.append(self._resolve(index, each.role, each, each.steps or self.phase.steps, 1, base))
            return tuple(phases)
        steps = [each.steps or self.phase.steps for each in asked]
        known = [count for count in steps if count is not None]
        total = sum(known) if len(known) == len(steps) else None
        return (self._resolve(0, self.control, asked[0], total, len(asked), self.model.source),)

    def _resolve(
        self, index: int, kind: PhaseKind, each: PhaseSettings, steps: int | None, passes: int, base: str
    ) -> Phase:
        optimizer = each.optimizer or self.optimizer
        return Phase(
            index=index,
            kind=kind,
            steps=steps,
            passes=passes,
            lr=each.lr or self.phase.lr or optimizer.lr,
            source=each.source,
            base=base,
            data=each.data or self.data,
            rollout=each.rollout or self.rollout,
            reward=each.reward or self.reward,
            advantage=each.advantage or self.advantage,
            loss=each.loss or self.loss,
            optimizer=optimizer,
        )
