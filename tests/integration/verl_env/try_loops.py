"""Runs the agent loops of a phase with verl's own classes and without Ray, for groups of scripted replies.

    python try_loops.py KIND FOLDER

The frozen role is a server of the tests that answers B, and fails on the row whose question says so.
"""

# ruff: noqa: ANN401  # verl's

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_module
from verl.experimental.agent_loop.agent_loop import DictConfigWrap, ToolListWrap, _agent_loop_registry
from verl.utils import tensordict_utils
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.dataset.rl_dataset import collate_fn, get_dataset_class
from verl.workers.rollout.replica import TokenOutput

from p2r.config import parse_recipe
from p2r.models.checkpoint import open_checkpoint
from p2r.models.local.encoding import PromptEncoder
from p2r.models.nano import BASE_CHECKPOINT
from p2r.training.engines.verl.job import Job, Record, hand_over, take_over
from p2r.training.engines.verl.overrides import make_overrides
from p2r.types import Box, Perception, Trace
from tests.fakes.chat_server import chat_reply, error_reply, serve
from tests.fakes.training import BOX, OTHER_BOX, RIGHT, WRONG, make_sample

KIND, FOLDER = sys.argv[1], Path(sys.argv[2])
UNLABELED = '[{"bbox_2d": [100, 200, 300, 400]}]'
PERCEIVED = Perception(source="server", boxes=(Box(x1=100, y1=200, x2=300, y2=400),))
SCRIPTS: Mapping[str, Mapping[str, list[str]]] = {
    # Row s2 has a single reply that is judged without the server: it names no label.
    "perceiver": {"s1": [BOX, UNLABELED, OTHER_BOX, BOX], "s2": [BOX, UNLABELED, OTHER_BOX, BOX]},
    "reasoner": {"s1": [RIGHT, WRONG, RIGHT, WRONG], "s2": [RIGHT] * 4},
    "joint": {"s1": [BOX, UNLABELED, OTHER_BOX, BOX], "s2": [BOX] * 4},
}
"""What the policy says to each row, boxes first."""
ANSWERS = [RIGHT, WRONG, RIGHT]
"""What it says on its own boxes, in `joint`."""


class Server:
    """verl's client, with replies that are known."""

    def __init__(self, encoder: PromptEncoder) -> None:
        self.encoder, self.counts, self.asked = encoder, {}, []

    async def generate(self, request_id: str, *, prompt_ids: list[int], sampling_params: Any, image_data: Any) -> Any:
        text = self.encoder.decode(prompt_ids)
        row = "s2" if "broken" in text else "s1"
        script = SCRIPTS[KIND][row]
        if KIND == "joint" and len(image_data) > 1:
            script = ANSWERS
        number = next(self.counts.setdefault((row, len(image_data) > 1), count()))
        ids = [*self.encoder.tokenize(script[number % len(script)]), self.encoder.end_token_ids[0]]
        self.asked.append((prompt_ids, list(image_data), sampling_params))
        return TokenOutput(
            token_ids=ids, log_probs=[-0.5] * len(ids), extra_fields={"min_global_steps": 2, "max_global_steps": 2}
        )


def answer(text: str, _: int) -> tuple[int, str]:
    return error_reply(400, "broken") if "broken" in text else chat_reply(RIGHT)


async def run(url: str) -> dict[str, object]:
    tables = {"control": "joint"} if KIND == "joint" else {"schedule": [{"role": KIND, "steps": 3}]}
    recipe = parse_recipe(
        {
            "out": str(FOLDER),
            "model": {"source": "nano-base", "device": "cpu", "dtype": "float32"},
            "data": {"num_rows": 2},
            "rollout": {"group_size": 4, "prompts_per_step": 2},
            "partner": {"kind": "endpoint", "url": url, "image_check": "never"},
            **tables,
        }
    )
    phase, path = recipe.phases()[0], FOLDER / "job.pickle"
    rows = [make_sample("s1"), make_sample("s2", question="Is it broken?")]
    evidence = {row.id: Trace(sample_id=row.id, image="", question="", perception=PERCEIVED) for row in rows}
    job = Job(recipe, phase, FOLDER, BASE_CHECKPOINT, rows, evidence=evidence)
    hand_over(path, job)
    with initialize_config_module("verl.trainer.config", version_base=None):
        overrides = make_overrides(job)
        config = compose("ppo_trainer", overrides=overrides)
    model = omega_conf_to_dataclass(config.actor_rollout_ref.model)
    dataset_class = get_dataset_class(config.data)
    dataset = dataset_class(
        data_files=config.data.train_files,
        tokenizer=model.tokenizer,
        processor=model.processor,
        config=config.data,
        max_samples=-1,
    )
    batch = collate_fn([dataset[place] for place in range(len(dataset))])
    server = Server(PromptEncoder(open_checkpoint(BASE_CHECKPOINT)))

    def make_loop(place: int) -> Any:
        return hydra.utils.instantiate(
            config=_agent_loop_registry[batch["agent_name"][place]],
            trainer_config=DictConfigWrap(config),
            server_manager=server,
            tokenizer=model.tokenizer,
            processor=model.processor,
            hf_model_type="qwen3_vl",
            dataset_cls=dataset_class,
            data_config=DictConfigWrap(config.data),
            tools=ToolListWrap([]),
        )

    # As verl's trainer makes a batch of them, and shares it among its workers.
    parts = tensordict_utils.get_tensordict({**batch, "uid": ["u0", "u1"]}).chunk(2)
    for part in parts:
        tensordict_utils.assign_non_tensor_data(part, "global_steps", 3)

    async def run_one(place: int, number: int) -> object:
        values = {name: value[0] if len(value) == 1 else value for name, value in parts[place].items()}
        fields = {name: getattr(value, "data", value) for name, value in values.items()} | {"global_steps": 3}
        output = await make_loop(place).run({"temperature": 1.0, "top_p": 1.0}, session_id=number, **fields)
        tensordict_utils.list_of_dict_to_tensordict([one.as_dict() for one in output])  # as it is handed on
        return output

    found = {}
    for place, row in enumerate(rows):
        outputs = await asyncio.gather(*(run_one(place, number) for number in range(4)), return_exceptions=True)
        found[row.id] = [
            str(each) if isinstance(each, Exception) else [(one.reward_score, len(one.response_ids)) for one in each]
            for each in outputs
        ]
    ids, images, params = server.asked[0]
    own = await rebuild(make_loop(0), ids, images, server.encoder)
    records: list[Record] = [take_over(each) for each in sorted(job.records(3).glob("*.pickle"))]
    return {
        "outputs": found,
        "same_tokens": own == ids,
        "params": params,
        "dead": [group.is_dead for record in records for group in record.facts],
        "dropped": [group.is_dropped for record in records for group in record.facts],
        "outcomes": [list(record.outcomes) for record in records],
        "num_asked": [record.stats.num_partner_calls for record in records],
    }


async def rebuild(loop: Any, ids: list[int], images: list[Any], encoder: PromptEncoder) -> list[int]:
    """The token ids that verl's own builder makes of what a prompt says."""
    text = encoder._backend.decode(ids, skip_special_tokens=False)
    system = text.split("<|im_start|>system\n")[1].split("<|im_end|>")[0]
    user = text.split("<|im_start|>user\n")[1].split("<|im_end|>")[0]
    content: list[dict[str, object]] = []
    given = iter(images)
    for part in user.replace("<|vision_end|>", "<|vision_start|>").split("<|vision_start|>"):
        if part.startswith("<|image_pad|>"):
            content.append({"type": "image", "image": next(given)})
        elif part:
            content.append({"type": "text", "text": part})
    messages = [{"role": "system", "content": system}, {"role": "user", "content": content}]
    return await loop.ct_build_initial_tokens(messages, images=images)


with serve(answer) as base:
    print(json.dumps(asyncio.run(run(f"{base}#stub"))))
