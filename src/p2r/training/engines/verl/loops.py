"""The part that runs in verl's workers: its rows, and agent loops that roll out a row as our own trainer does.

verl starts G loops for a row, in one worker. They share one call of `Roller`, with verl's servers as the sampler, and
each returns one rollout of it. So walk, evidence, prompts, judges, rewards and the control `joint` are the same code as
without verl. A loop whose rollout is masked raises, which verl takes as failed; so do all of a group with fewer than
two judged rollouts, since verl would take the reward of a single one as its advantage.
"""

# verl is not installed where types are checked:
# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false, reportUntypedBaseClass=false
# pyright: reportUntypedClassDecorator=false

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from PIL.Image import Image
from torch.utils.data import Dataset
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopOutput, register

from p2r.dialogue import Decoding, ModelProfile, Prompt
from p2r.errors import P2RError
from p2r.images.budget import FullImage
from p2r.models.checkpoint import open_checkpoint
from p2r.models.local.encoding import EncodedPrompt, PromptEncoder
from p2r.prompts import load_prompt_set
from p2r.training.advantages import Compared, compare_groups
from p2r.training.engines.local.generate import Generated, Wanted
from p2r.training.engines.local.policy import training_profile
from p2r.training.engines.verl.job import Job, Record, hand_over, records_of, take_over
from p2r.training.engines.verl.overrides import AGENT, partner_settings
from p2r.training.failures import FailureGauge
from p2r.training.groups import Rolled, RolloutStats
from p2r.training.partner import Unasked, open_partner
from p2r.training.rollout import Roller
from p2r.training.watch.metrics import describe_groups, quote_group
from p2r.types import Sample, Trace


class LeftOutError(Exception):
    """A rollout is masked."""


class VerlRows(Dataset[dict[str, object]]):
    """The rows of a phase in the order of its steps, as verl takes them. The loops open their images."""

    def __init__(self, config: Any, **_: object) -> None:  # noqa: ANN401  # omegaconf's
        self._rows = take_over(Path(config.train_files), Job).rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> dict[str, object]:
        question = self._rows[place].question
        return {"raw_prompt": [{"role": "user", "content": question}], "agent_name": AGENT, "index": place}


@dataclass(frozen=True, slots=True)
class SeenPrompt(EncodedPrompt):
    """A prompt with its images, and without patches, which verl makes itself."""

    images: tuple[Image, ...] = ()


@dataclass(frozen=True, slots=True)
class GivenEvidence:
    """Knows where the frozen perceiver has looked before the phase, by the rows' ids."""

    traces: Mapping[str, Trace]

    async def perceive(self, rows: Sequence[Sample], full_images: Sequence[FullImage]) -> list[Trace]:
        return [self.traces[row.id] for row in rows]


@dataclass(frozen=True, slots=True)
class ServedActor:
    """The policy, behind verl's client. params: how verl samples. extra: what verl wants back with the replies."""

    encoder: PromptEncoder
    profile: ModelProfile
    server: Any
    params: Mapping[str, Any]
    loop: asyncio.AbstractEventLoop
    extra: dict[str, Any]
    name: str = "policy"

    def encode(self, prompt: Prompt) -> EncodedPrompt:
        encoded = self.encoder.encode(prompt)
        return SeenPrompt(encoded.token_ids, (), encoded.grids, encoded.visual_tokens, prompt.all_images)

    def decode(self, token_ids: Sequence[int]) -> str:
        return self.encoder.decode(token_ids)

    def sample(
        self, wanted: Iterable[Wanted], decoding: Decoding, num_at_once: int, abandoned: Callable[[], bool]
    ) -> Iterator[tuple[int, list[Generated]]]:
        """All prompts at once, which the servers batch. See `Actor.sample`."""
        yield from enumerate(asyncio.run_coroutine_threadsafe(self._ask([*wanted], decoding), self.loop).result())

    async def _ask(self, wanted: Sequence[Wanted], decoding: Decoding) -> list[list[Generated]]:
        asked = [asyncio.gather(*(self._reply(one.prompt, seed, decoding) for seed in one.seeds)) for one in wanted]
        return await asyncio.gather(*asked)

    async def _reply(self, prompt: EncodedPrompt, seed: int, decoding: Decoding) -> Generated:
        assert isinstance(prompt, SeenPrompt), "it was encoded here"
        output = await self.server.generate(
            request_id=uuid4().hex,
            prompt_ids=list(prompt.token_ids),
            sampling_params={**self.params, "max_tokens": decoding.max_new_tokens, "seed": seed},
            image_data=list(prompt.images),
        )
        self.extra.update(output.extra_fields)
        ended = bool(output.token_ids) and output.token_ids[-1] in self.encoder.end_token_ids
        return Generated(tuple(output.token_ids), ended, tuple(output.log_probs or ()))


class Worker:
    """The things that the loops of one process share."""

    def __init__(self, path: Path) -> None:
        self.path, self.job = path, take_over(path, Job)
        recipe, phase = self.job.recipe, self.job.phase
        checkpoint = open_checkpoint(self.job.source)
        self.profile = training_profile(checkpoint, recipe.model.max_pixels, recipe.model.frame)
        self.encoder, self.prompts = PromptEncoder(checkpoint), load_prompt_set(phase.rollout.prompts)
        self.groups: dict[str, asyncio.Task[list[list[AgentLoopOutput] | str]]] = {}
        # A thread waits for the replies of each group under way.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(phase.prompts_per_step + 8))
        settings = partner_settings(recipe, phase).model_copy(update={"launch": None})
        self._opened = open_partner(settings, Unasked(self.profile), self.job.source, path.parent)
        self._partner = asyncio.ensure_future(self._opened.__aenter__())

    async def roll_out(self, place: int, step: int, server: Any, params: Any) -> list[list[AgentLoopOutput] | str]:  # noqa: ANN401
        """Roll out a row and write its record; returns what each loop gives verl, or why it gives nothing.

        Args:
            place: of the row in the phase.
            step: counted from 1.
        """
        recipe, phase, row = self.job.recipe, self.job.phase, self.job.rows[place]
        actor = ServedActor(self.encoder, self.profile, server, params, asyncio.get_running_loop(), {})
        gauge, evidence = FailureGauge(recipe.partner.max_error_rate), GivenEvidence(self.job.evidence)
        try:
            partner = await self._partner
            roller = Roller(recipe, phase, actor, partner, self.prompts, evidence=evidence, failures=gauge)
            rolled = await roller.roll_out([row], step - 1)
        except P2RError as error:
            gauge.count([error.message] * phase.rollout.group_size)
            rolled = Rolled([], RolloutStats(num_rows=1, num_failed_rows=1))
        compared = compare_groups(rolled.groups, phase.advantage)
        quoted = quote_group(phase.name, step, compared[0]) if compared else None
        record = Record(gauge.dump(), describe_groups(compared), rolled.stats, quoted)
        await asyncio.to_thread(hand_over, records_of(self.path, step) / f"{place:06d}.pickle", record)
        return [_give(compared, number, actor.extra) for number in range(phase.rollout.group_size)]


def _give(compared: Sequence[Compared], number: int, extra: Mapping[str, Any]) -> list[AgentLoopOutput] | str:
    """One rollout of a row's group, and the answer that follows it in `joint`; or why there is none."""
    if not compared:
        return "its row failed"
    if compared[0].advantages[number] is None:
        return compared[0].group.rollouts[number].failure or "fewer than two rollouts of its group were judged"
    parts = [(compared[0].group, number), *((each.group, 0) for each in compared if each.group.parent == (0, number))]
    outputs: list[AgentLoopOutput] = []
    for group, place in parts:
        prompt, rollout = group.prompt, group.rollouts[place]
        assert isinstance(prompt, SeenPrompt), "it was encoded here"
        outputs.append(
            AgentLoopOutput(
                prompt_ids=list(prompt.token_ids),
                response_ids=list(rollout.token_ids),
                response_mask=[1] * len(rollout.token_ids),
                response_logprobs=list(rollout.logprobs),
                multi_modal_data={"images": list(prompt.images)},
                reward_score=rollout.reward,
                num_turns=2,
                metrics={},
                extra_fields={**extra, "reward_extra_info": dict(rollout.terms), "turn_scores": [], "tool_rewards": []},
            )
        )
    return outputs


open_worker = cache(Worker)


@register(AGENT)
class GroupLoop(AgentLoopBase):
    """One of the G loops of a row. They start one after the other, before the first of them waits."""

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> list[AgentLoopOutput]:  # noqa: ANN401  # verl's
        worker = open_worker(Path(self.data_config.train_files))
        uid, number = str(row["uid"]), int(row["session_id"])
        if uid not in worker.groups:
            rolling = worker.roll_out(int(row["index"]), int(row["global_steps"]), self.server_manager, sampling_params)
            worker.groups[uid] = asyncio.ensure_future(rolling)
        group = worker.groups[uid]
        if number + 1 == worker.job.phase.rollout.group_size:
            del worker.groups[uid]
        output = (await asyncio.shield(group))[number]
        if isinstance(output, str):
            raise LeftOutError(output)
        return output
