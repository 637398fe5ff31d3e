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
# ruff: noqa: ANN401  # what verl gives

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from torch.utils.data import Dataset
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopOutput, register

from p2r.dialogue import Decoding
from p2r.errors import P2RError
from p2r.models.checkpoint import open_checkpoint
from p2r.models.local.encoding import PromptEncoder
from p2r.prompts import load_prompt_set
from p2r.training.advantages import Compared, compare_groups
from p2r.training.engines.local.generate import Generated
from p2r.training.engines.served import SeenPrompt, ServedActor
from p2r.training.engines.verl.job import Record, hand_over, take_over
from p2r.training.engines.verl.overrides import AGENT
from p2r.training.failures import FailureGauge
from p2r.training.groups import Rolled, RolloutStats
from p2r.training.rollout import Roller
from p2r.training.watch.metrics import describe_groups, quote_group


class VerlRows(Dataset[dict[str, object]]):
    """The rows of a phase in the order of its steps, as verl takes them. The loops open their images."""

    def __init__(self, config: Any, **_: object) -> None:
        self._rows = take_over(Path(config.train_files)).rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> dict[str, object]:
        question = self._rows[place].question
        return {"raw_prompt": [{"role": "user", "content": question}], "agent_name": AGENT, "index": place}


class Worker:
    """The things that the loops of one process share. rolling: the rows under way, by the id that verl gives them."""

    def __init__(self, path: Path) -> None:
        self.job, self.rolling = take_over(path), dict[str, asyncio.Task[tuple[list[Compared], dict[str, Any]]]]()
        phase, self._encoder = self.job.phase, PromptEncoder(open_checkpoint(self.job.source))
        self._profile, self._prompts = self.job.profile, load_prompt_set(phase.rollout.prompts)
        # A thread waits for the replies of each row under way.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(phase.prompts_per_step + 8))
        self._opened = self.job.open_partner(is_launched=True)
        self._partner = asyncio.ensure_future(self._opened.__aenter__())

    async def roll_out(self, place: int, step: int, server: Any, params: Any) -> tuple[list[Compared], dict[str, Any]]:
        """Roll out a row and write its record; returns its groups, and what verl wants to know again with its replies.

        Args:
            place: of the row in the phase.
            step: counted from 1.
            server, params: verl's client, and how it samples.
        """
        recipe, phase, extra = self.job.recipe, self.job.phase, dict[str, Any]()

        async def ask(prompt: SeenPrompt, seed: int, decoding: Decoding) -> Generated:
            output = await server.generate(
                request_id=uuid4().hex,
                prompt_ids=[*prompt.token_ids],
                sampling_params={**params, "max_tokens": decoding.max_new_tokens, "seed": seed},
                image_data=[*prompt.images],
            )
            extra.update(output.extra_fields)
            ended = output.token_ids[-1] in self._encoder.end_token_ids
            return Generated(tuple(output.token_ids), ended, tuple(output.log_probs))

        actor = ServedActor(self._encoder, self._profile, ask, asyncio.get_running_loop())
        failures = FailureGauge(recipe.partner.max_error_rate)
        try:
            partner = await self._partner
            roller = Roller(recipe, phase, actor, partner, self._prompts, evidence=self.job, failures=failures)
            rolled = await roller.roll_out([self.job.rows[place]], step - 1)
        except P2RError as error:
            failures.count([error.message] * phase.rollout.group_size)
            rolled = Rolled(stats=RolloutStats(num_rows=1, num_failed_rows=1))
        compared = compare_groups(rolled.groups, phase.advantage)
        quoted = [quote_group(phase.name, step, each) for each in compared]
        record = Record(failures.dump(), describe_groups(compared), rolled.stats, quoted)
        await asyncio.to_thread(hand_over, self.job.records(step) / f"{place:06d}.pickle", record)
        return compared, extra


open_worker = cache(Worker)


@register(AGENT)
class GroupLoop(AgentLoopBase):
    """One of the G loops of a row. They start one after the other, before the first of them waits."""

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> list[AgentLoopOutput]:
        worker, uid = open_worker(Path(self.data_config.train_files)), str(row["uid"])
        if uid not in worker.rolling:
            rolling = worker.roll_out(int(row["index"]), int(row["global_steps"]), self.server_manager, sampling_params)
            worker.rolling[uid] = asyncio.ensure_future(rolling)
            worker.rolling[uid].add_done_callback(lambda _: worker.rolling.pop(uid))
        compared, extra = await asyncio.shield(worker.rolling[uid])
        return _give(compared, int(row["session_id"]), extra)


def _give(compared: Sequence[Compared], number: int, extra: Mapping[str, Any]) -> list[AgentLoopOutput]:
    """One rollout of a row's group, and the answer that follows it in `joint`. Raises P2RError when it is masked."""
    if not compared:
        raise P2RError("its row failed")
    group = compared[0].group
    if compared[0].advantages[number] is None:
        raise P2RError(group.rollouts[number].failure or "fewer than two rollouts of its group were judged")
    answers = [each.group for each in compared if each.group.parent == (0, number)]
    parts = [(group.prompt, group.rollouts[number]), *((each.prompt, each.rollouts[0]) for each in answers)]
    return [
        AgentLoopOutput(
            prompt_ids=[*prompt.token_ids],
            response_ids=[*rollout.token_ids],
            response_mask=[1] * len(rollout.token_ids),
            response_logprobs=[*rollout.logprobs],
            multi_modal_data={"images": [*cast("SeenPrompt", prompt).images]},
            reward_score=rollout.reward,
            num_turns=2,
            metrics={},
            extra_fields={**extra, "reward_extra_info": dict(rollout.terms)},
        )
        for prompt, rollout in parts
    ]
