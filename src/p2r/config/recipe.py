"""The recipe of a training run: its tables, and the phases that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, JsonValue, PositiveInt, PrivateAttr, model_validator

from p2r.config.apart import check_apart
from p2r.config.presets import fill_in_recipe
from p2r.config.reward import CAPTION_TERM, RewardSettings, applies_to
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
    PhaseRole,
    PhaseSettings,
    ProbeSettings,
    RolloutSettings,
    Seed,
    TrackerSettings,
)
from p2r.config.sft import SftSettings
from p2r.types import Frozen

Control = Literal["none", "joint", "single-stage"]
PhaseKind = Literal["perceiver", "reasoner", "answerer", "joint", "sft"]

ROLES: tuple[ActiveRole, ...] = get_args(ActiveRole)
OTHER_ROLE: Mapping[str, ActiveRole] = {"perceiver": "reasoner", "reasoner": "perceiver"}
"""The role that rests while this one learns."""


class Phase(Frozen):
    """A phase as it is run, with all of its settings resolved.

    index: from 0, over all iterations.
    kind: "answerer" samples answers to the whole image; "sft" samples nothing and learns the rows' replies.
    role: whose prompt a supervised phase may use.
    steps: None for `passes` passes over the rows.
    lr: the peak learning rate.
    freeze_vision: whether the vision tower and its projector stay as they are.
    source: the checkpoint that it starts from; None for the one that the phase before leaves.
    base: a checkpoint that exists before the run and is of the phase's model: prompts are measured with it.
    """

    index: int
    kind: PhaseKind
    role: PhaseRole
    steps: int | None
    passes: int
    lr: float
    freeze_vision: bool
    source: str | None
    base: str
    data: DataSettings
    rollout: RolloutSettings
    reward: RewardSettings
    advantage: AdvantageSettings
    loss: LossSettings
    optimizer: OptimizerSettings
    sft: SftSettings

    @property
    def name(self) -> str:
        """The name of its folder, such as "0-perceiver"."""
        return f"{self.index}-{self.kind}"

    @property
    def purpose(self) -> str:
        """The name that its random draws depend on: the answerer's is its first, so that old runs can be repeated."""
        return f"{self.index}-single-stage" if self.kind == "answerer" else self.name

    @property
    def roles(self) -> tuple[ActiveRole, ...]:
        """The roles whose replies are sampled and learned from."""
        if self.kind == "joint":
            return ("perceiver", "reasoner")
        if self.kind == "sft":
            return ()
        return ("perceiver",) if self.kind == "perceiver" else ("reasoner",)

    @property
    def rated_role(self) -> ActiveRole:
        """The role whose replies are rated: in `joint` the boxes are, and their answers share the reward."""
        return self.roles[0]

    @property
    def prompts_per_step(self) -> int:
        """Rows per step. `joint` samples both roles for each, so half as many rows make as many rollouts."""
        if self.kind == "sft":
            return self.sft.rows_per_step
        return self.rollout.prompts_per_step // 2 if self.kind == "joint" else self.rollout.prompts_per_step

    @property
    def prompts_per_update(self) -> int:
        """Rows that an update learns from."""
        prompts = self.optimizer.mini_batch_prompts or self.rollout.prompts_per_step
        return prompts // 2 if self.kind == "joint" else prompts

    @property
    def max_response_tokens(self) -> int:
        """The longest reply that any of its roles may give."""
        return max(self.rollout.max_new_tokens.of(role) for role in self.roles)

    def count_steps(self, num_rows: int) -> int:
        """The number of its steps with so many usable rows.

        A pass of `joint` takes half of the rows: each is asked for both roles, as often as the phases would in all.
        """
        if self.steps is not None:
            return self.steps
        steps = self.passes * (num_rows // self.prompts_per_step)
        return steps // 2 if self.kind == "joint" else steps


class Recipe(Frozen):
    """Everything a training run is asked to do.

    out: the folder of the run.
    schedule: the phases of one iteration, in order; `phase` gives the steps and rates that they leave open.
    control: "joint" updates both roles from one reward without phases; "single-stage" is one phase of the answerer:
        plain GRPO on answers to the whole image. Both run as many steps, with as many rollouts, as the schedule has.
    engine: arguments of vLLM's engine by name, such as enforce_eager = true, where it samples or runs the frozen role.
    """

    out: Path
    seed: Seed = 0
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
    sft: SftSettings = SftSettings()
    partner: PartnerSettings = PartnerSettings()
    engine: Mapping[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    checkpoint: CheckpointSettings = CheckpointSettings()
    probe: ProbeSettings = ProbeSettings()
    guards: GuardSettings = GuardSettings()
    trackers: TrackerSettings = TrackerSettings()
    _folder: Path = PrivateAttr(default=Path())

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
        for place, each in enumerate(self.schedule):
            _check_method(each, f"schedule.{place}")
        if self.control != "none" and any(each.method == "sft" for each in self.schedule):
            raise ValueError(f"the control {self.control} has no supervised phase: leave it out of the schedule")
        for phase in self.phases():
            if phase.data.is_generated and phase.kind == "sft":
                raise ValueError(
                    "a supervised phase needs rows with replies, which needles do not have: give data.source"
                )
            if phase.data.is_generated and phase.data.num_rows is None:
                own = not self.data.is_generated or self.data.num_rows is not None
                place = f"schedule.{phase.index % len(self.schedule)}." if own else ""
                raise ValueError(f"{place}data.num_rows is needed for needles, which never run out")
        if self.control == "joint" and self.rollout.prompts_per_step % 2:
            raise ValueError("the control joint halves rollout.prompts_per_step, which has to be even")
        if self.control == "joint" and (self.optimizer.mini_batch_prompts or 0) % 2:
            raise ValueError("the control joint halves optimizer.mini_batch_prompts, which has to be even")
        for phase in self.rewarded_phases:
            _check_mini_batches(phase)
            terms = [term for term, weight in phase.reward.active_terms.items() if weight]
            if not any(applies_to(term, phase.rated_role) for term in terms):
                sampled = "boxes" if phase.rated_role == "perceiver" else "answers"
                raise ValueError(
                    f"the phase {phase.name} samples {sampled}, and reward.terms has no term for them, only "
                    f"{', '.join(terms)}"
                )
            if phase.reward.needs_captions(phase.rated_role) and phase.reward.caption is None:
                raise ValueError(
                    f"the phase {phase.name} has the reward term {CAPTION_TERM}, which a model rates: give "
                    'reward.caption.model, such as "qihoo360/fg-clip-large"'
                )
        samplers = {phase.rollout.engine for phase in self.rewarded_phases}
        if self.rollout.engine == "vllm" and not samplers:
            raise ValueError(
                'rollout.engine = "vllm" samples replies, and the recipe has supervised phases alone: leave it out'
            )
        if self.engine and "vllm" not in {self.partner.kind, *samplers}:
            raise ValueError(
                'engine has arguments of vLLM, which runs nothing here: give rollout.engine or partner.kind = "vllm"'
            )
        check_apart(self)
        return self

    def __eq__(self, other: object) -> bool:
        """Compare the settings, wherever they were read from."""
        return isinstance(other, Recipe) and self.model_dump() == other.model_dump()

    @property
    def folder(self) -> Path:
        """The folder of the recipe's file, where reward functions are looked for; the current one without a file."""
        return self._folder

    def read_from(self, folder: Path) -> Recipe:
        """Return the recipe as one that was read from a file in this folder."""
        moved = self.model_copy()
        moved._folder = folder
        return moved

    @property
    def rewarded_phases(self) -> tuple[Phase, ...]:
        """The phases that sample replies and reward them."""
        return tuple(phase for phase in self.phases() if phase.roles)

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
                kind: PhaseKind = "sft" if each.method == "sft" else each.role
                passes = each.passes or 1
                phases.append(self._resolve(index, kind, each, self._count_steps(each), passes, base))
            return tuple(phases)
        steps = [self._count_steps(each) for each in asked]
        known = [count for count in steps if count is not None]
        total = sum(known) if len(known) == len(steps) else None
        passes = sum(each.passes or 1 for each in asked)
        kind = "joint" if self.control == "joint" else "answerer"
        return (self._resolve(0, kind, asked[0], total, passes, self.model.source),)

    def _count_steps(self, phase: PhaseSettings) -> int | None:
        """The steps of a phase; None for passes over its rows."""
        return phase.steps or (None if phase.passes else self.phase.steps)

    def _resolve(
        self, index: int, kind: PhaseKind, each: PhaseSettings, steps: int | None, passes: int, base: str
    ) -> Phase:
        optimizer = each.optimizer or self.optimizer
        return Phase(
            index=index,
            kind=kind,
            role=each.role,
            steps=steps,
            passes=passes,
            lr=each.lr or self.phase.lr or optimizer.lr,
            freeze_vision=self.model.freeze_vision if each.freeze_vision is None else each.freeze_vision,
            source=each.source,
            base=base,
            data=each.data or self.data,
            rollout=each.rollout or self.rollout,
            reward=each.reward or self.reward,
            advantage=each.advantage or self.advantage,
            loss=each.loss or self.loss,
            optimizer=optimizer,
            sft=each.sft or self.sft,
        )


def _check_mini_batches(phase: Phase) -> None:
    prompts, part = phase.rollout.prompts_per_step, phase.optimizer.mini_batch_prompts
    if part is not None and prompts % part:
        raise ValueError(
            f"rollout.prompts_per_step is {prompts}: it must be a multiple of optimizer.mini_batch_prompts, "
            f"which is {part}"
        )


def _check_method(phase: PhaseSettings, name: str) -> None:
    """Make sure that a phase says what its method can use. Raises ValueError."""
    if phase.steps is not None and phase.passes is not None:
        raise ValueError(f"{name} has both steps and passes: leave out one of them")
    unused = ("rollout", "reward", "advantage", "loss") if phase.method == "sft" else ("sft",)
    for table in unused:
        if getattr(phase, table) is not None:
            raise ValueError(f'{name}.{table} has no use in a phase with method "{phase.method}": leave it out')
