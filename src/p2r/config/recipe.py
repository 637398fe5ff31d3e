"""The recipe of a training run: its tables, its phases."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, PositiveInt, model_validator

from p2r.config.presets import apply_preset
from p2r.config.tables import (
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
    """A phase as it is run.

    index: from 0, over all iterations.
    steps: None for `passes` passes over the rows.
    """

    index: int
    kind: PhaseKind
    steps: int | None
    passes: int
    lr: float

    @property
    def name(self) -> str:
        """What its folder is called: "0-perceiver"."""
        return f"{self.index}-{self.kind}"

    @property
    def roles(self) -> tuple[ActiveRole, ...]:
        """The roles whose replies are sampled and learned from."""
        if self.kind == "joint":
            return ("perceiver", "reasoner")
        return ("perceiver",) if self.kind == "perceiver" else ("reasoner",)

    def count_steps(self, num_rows: int, prompts_per_step: int) -> int:
        """How many steps it has, for so many usable rows."""
        return self.steps if self.steps is not None else self.passes * (num_rows // prompts_per_step)


class Recipe(Frozen):
    """Everything a training run is asked to do.

    out: the folder of the run.
    schedule: the phases of one iteration, in order; `phase` says what they leave open.
    control: "joint" updates both roles from one reward without phases; "single-stage" is plain GRPO on answers to the
        whole image. Both run as many steps, with as many rollouts, as the schedule has.
    """

    out: Path
    seed: int = Field(default=0, ge=0)
    control: Control = "none"
    iterations: PositiveInt = 1
    schedule: tuple[PhaseSettings, ...] = Field(
        default=(PhaseSettings(role="perceiver"), PhaseSettings(role="reasoner")), min_length=1
    )
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
    def _fill_in_preset(cls, given: object) -> object:
        return apply_preset(given)

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if self.data.source == "needles" and self.data.num_rows is None:
            raise ValueError("data.num_rows is needed for needles, of which there is no end")
        if self.control == "joint" and self.rollout.prompts_per_step % 2:
            raise ValueError("the control joint halves rollout.prompts_per_step, which has to be even")
        return self

    @property
    def prompts_per_step(self) -> int:
        """Rows a step asks. `joint` samples both roles for each, so half as many rows make as many rollouts."""
        return self.rollout.prompts_per_step // 2 if self.control == "joint" else self.rollout.prompts_per_step

    @property
    def roles(self) -> tuple[ActiveRole, ...]:
        """The roles that learn."""
        learning = {role for phase in self.phases() for role in phase.roles}
        return tuple(role for role in ROLES if role in learning)

    def phases(self) -> tuple[Phase, ...]:
        """The phases as they are run. A control is one phase, as long as all of the schedule."""
        asked = self.schedule * self.iterations
        steps = [phase.steps or self.phase.steps for phase in asked]
        lrs = [phase.lr or self.phase.lr or self.optimizer.lr for phase in asked]
        if self.control == "none":
            return tuple(
                Phase(index=index, kind=phase.role, steps=count, passes=1, lr=lr)
                for index, (phase, count, lr) in enumerate(zip(asked, steps, lrs, strict=True))
            )
        known = [count for count in steps if count is not None]
        total = sum(known) if len(known) == len(steps) else None
        return (Phase(index=0, kind=self.control, steps=total, passes=len(asked), lr=lrs[0]),)
