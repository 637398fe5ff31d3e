"""Groups that share a prefill against rollouts drawn one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from p2r.dialogue import Decoding  # noqa: E402
from p2r.models.local.engine import Abandoned, Engine  # noqa: E402
from p2r.models.local.sight import Sight  # noqa: E402
from p2r.training.engines.local import group_cache, slots  # noqa: E402
from p2r.training.engines.local.generate import FrozenEngine, Generated  # noqa: E402
from p2r.training.engines.local.logprobs import compute_logprobs, pack  # noqa: E402
from tests.fakes.tiny_policy import (  # noqa: E402
    END,
    IMAGE,
    draw_groups,
    make_engine,
    make_model,
    make_prompt,
    repeated_logits,
    repeated_logprobs,
)

WARM = Decoding(max_new_tokens=28, temperature=1.3)
GREEDY = Decoding(max_new_tokens=8)
PROMPTS = [
    make_prompt([(2, 3)], seed=1),
    make_prompt([], num_text=3, seed=2),
    make_prompt([(2, 2), (3, 2), (2, 4)], seed=3),
    make_prompt([(4, 2), (2, 2)], num_text=12, seed=4),
]
SEEDS = [[100 * p + g for g in range(6)] for p in range(4)]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return make_engine(make_model())


def one_by_one(engine: Engine, decoding: Decoding, seeds: Sequence[Sequence[int]] = SEEDS) -> list[list[Generated]]:
    """Each rollout in a batch of its own, through `Engine.generate`."""
    engine.model.eval()
    drawn = []
    for prompt, row in zip(PROMPTS, seeds, strict=True):
        replies = [engine.generate([prompt], decoding.model_copy(update={"seed": seed}))[0] for seed in row]
        drawn.append(replies)
    engine.model.train()
    return drawn


def same(groups: list[list[Generated]], singly: list[list[object]]) -> bool:
    """A reply of the engine leaves its end token out."""
    for row, replies in zip(groups, singly, strict=True):
        for ours, theirs in zip(row, replies, strict=True):
            without_end = ours.token_ids[:-1] if ours.ended else ours.token_ids
            if (without_end, ours.ended, len(ours.token_ids)) != (theirs.token_ids, theirs.ended, theirs.num_generated):  # type: ignore[attr-defined]
                return False
    return True


@pytest.mark.parametrize("top_p", [1.0, 0.8])
@pytest.mark.parametrize("penalty", [1.0, 1.2])
def test_groups_are_drawn_as_one_by_one_with_the_same_seeds(engine: Engine, top_p: float, penalty: float) -> None:
    decoding = WARM.model_copy(update={"top_p": top_p, "repetition_penalty": penalty})
    groups = draw_groups(engine, PROMPTS, decoding, SEEDS)
    assert same(groups, one_by_one(engine, decoding))
    rollouts = [rollout for row in groups for rollout in row]
    assert len({rollout.token_ids for rollout in rollouts}) > 16
    # Some end early and some are cut off, so that slots and groups have left on the way.
    lengths = [len(rollout.token_ids) for rollout in rollouts]
    assert min(lengths) < 8 and max(lengths) == 28
    assert {rollout.ended for rollout in rollouts} == {True, False}


@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_the_sampler_s_log_probs_are_those_of_what_it_draws_from(engine: Engine, top_p: float) -> None:
    """Beside each step's distribution over the vocabulary, worked out from the stock model in float64."""
    prompts, decoding = PROMPTS[2:], WARM.model_copy(update={"top_p": top_p})
    groups = draw_groups(engine, prompts, decoding, SEEDS[2:])
    rows = [(prompt, [one.token_ids for one in row]) for prompt, row in zip(prompts, groups, strict=True)]
    with torch.no_grad():
        logits = repeated_logits(engine.model, rows)
    for rollout, (logits_TV, tokens_T) in zip((one for row in groups for one in row), logits, strict=True):
        logits_TV[:, IMAGE] = -torch.inf  # never drawn
        probs_TV = (logits_TV / 1.3).softmax(-1)
        if top_p < 1:
            for probs_V in probs_TV:
                kept, total = probs_V.sort(descending=True), 0.0
                for place, probability in zip(kept.indices.tolist(), kept.values.tolist(), strict=True):
                    if total >= top_p:
                        probs_V[place] = 0.0
                    total += probability
            probs_TV /= probs_TV.sum(-1, keepdim=True)
        expected = probs_TV.gather(1, tokens_T[:, None])[:, 0].log().tolist()
        assert rollout.logprobs == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert min(logprob for row in groups for one in row for logprob in one.logprobs) < -3


def test_greedy_rollouts_have_no_log_probs(engine: Engine) -> None:
    assert draw_groups(engine, PROMPTS[:1], GREEDY, [[0, 1]])[0][0].logprobs == ()


def test_draws_do_not_depend_on_what_shares_the_batch(engine: Engine) -> None:
    together = draw_groups(engine, PROMPTS, WARM, SEEDS)
    backwards = draw_groups(engine, PROMPTS[::-1], WARM, [row[::-1] for row in SEEDS[::-1]])
    assert [row[::-1] for row in backwards[::-1]] == together
    assert draw_groups(engine, PROMPTS[2:3], WARM, [SEEDS[2][3:5]]) == [together[2][3:5]]


def test_a_cache_that_has_to_grow_draws_the_same(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    together = draw_groups(engine, PROMPTS, WARM, SEEDS)
    monkeypatch.setattr(group_cache, "STEPS_AHEAD", 3)
    assert draw_groups(engine, PROMPTS, WARM, SEEDS) == together


@pytest.mark.parametrize("most", [1, 40])
def test_prompts_that_are_read_in_pieces_draw_the_same(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    together = draw_groups(engine, PROMPTS, WARM, SEEDS)
    monkeypatch.setitem(slots.TOKENS_AT_ONCE, "cpu", most)
    calls: list[int] = []
    handle = engine.model.model.language_model.layers[0].register_forward_hook(
        lambda _, inputs, __: calls.append(inputs[0].shape[1])
    )
    try:
        assert draw_groups(engine, PROMPTS, WARM, SEEDS) == together
    finally:
        handle.remove()
    lengths = [len(prompt.token_ids) for prompt in PROMPTS]
    pieces = lengths if most == 1 else [lengths[0] + lengths[1], *lengths[2:]]
    assert calls[: len(pieces)] == pieces  # without padding, and then a token of each rollout at a time
    assert max(calls[len(pieces) :]) == 6


def test_the_frozen_role_replies_as_the_engine_does(engine: Engine) -> None:
    frozen = FrozenEngine.of(engine, engine.model)
    engine.model.eval()
    warm = WARM.model_copy(update={"seed": 5})
    for decoding in (GREEDY, warm, GREEDY.model_copy(update={"repetition_penalty": 1.3})):
        assert frozen.generate(PROMPTS, decoding) == engine.generate(PROMPTS, decoding)
    assert len({reply.token_ids for reply in frozen.generate(PROMPTS[:1] * 8, WARM)}) > 1  # no seed, no two alike
    stopped, whole = (
        frozen.generate(PROMPTS, GREEDY, stops=lambda tokens: len(tokens) == 2),
        frozen.generate(PROMPTS, GREEDY),
    )
    assert [reply.num_generated for reply in stopped] == [min(2, reply.num_generated) for reply in whole]
    assert max(reply.num_generated for reply in whole) > 2 and all(reply.ended for reply in stopped)
    probed = frozen.generate(PROMPTS, GREEDY, first_ids=[7, 9])
    assert probed == engine.generate(PROMPTS, GREEDY, first_ids=[7, 9])
    with pytest.raises(Abandoned):
        frozen.generate(PROMPTS, GREEDY, lambda: True)
    engine.model.train()


def test_the_update_need_not_look_at_what_the_sampler_saw() -> None:
    model = make_model()
    model.model.visual.requires_grad_(False)
    engine = replace(make_engine(model), sight=Sight())
    assert engine.sight is not None
    runs: list[int] = []
    model.model.visual.register_forward_pre_hook(lambda *_: runs.append(1))
    FrozenEngine.of(engine, model).generate(PROMPTS, GREEDY)
    assert len(runs) == 1 and not engine.sight._known  # the frozen role's images are not seen again
    groups = draw_groups(engine, PROMPTS, WARM, [[1, 2]] * 4)
    assert len(runs) == 2
    rows = [(prompt, [one.token_ids for one in row]) for prompt, row in zip(PROMPTS, groups, strict=True)]
    seen = compute_logprobs(model, pack(model, rows), sight=engine.sight).logprobs_BT
    assert len(runs) == 2
    seen.sum().backward()  # features of the sampler's inference mode may stand in the graph
    assert torch.allclose(seen, compute_logprobs(model, pack(model, rows)).logprobs_BT, atol=1e-9, rtol=0)


def test_greedy_rollouts_of_a_group_are_all_the_engine_s_reply(engine: Engine) -> None:
    groups = draw_groups(engine, PROMPTS, GREEDY, [[0, 1]] * 4)
    assert same(groups, one_by_one(engine, GREEDY, [[0, 0]] * 4))
    assert all(row[0] == row[1] for row in groups)


def test_a_rollout_ends_with_its_end_token_and_is_cut_off_without(engine: Engine) -> None:
    for rollout in (rollout for row in draw_groups(engine, PROMPTS, WARM, SEEDS) for rollout in row):
        assert rollout.ended == (rollout.token_ids[-1] in END)
        assert not END & set(rollout.token_ids[:-1])


def test_each_prompt_has_its_own_limit() -> None:
    model = make_model()
    longest = max(len(prompt.token_ids) for prompt in PROMPTS)
    engine = Engine(model, make_engine(model).patches, 110, frozenset(), longest + 2, num_frames=2)
    groups = draw_groups(engine, PROMPTS, WARM, [[1, 2]] * 4)
    limits = [min(28, longest + 2 - len(prompt.token_ids)) for prompt in PROMPTS]
    assert [[len(rollout.token_ids) for rollout in row] for row in groups] == [[limit] * 2 for limit in limits]
    assert min(limits) == 2 < max(limits)


def test_ended_rollouts_cost_nothing_any_more(engine: Engine) -> None:
    """Tokens computed, step by step: when half of the groups or of a group have ended, they are left out."""
    computed: list[int] = []
    hook = engine.model.model.language_model.layers[0].register_forward_pre_hook(
        lambda _, args: computed.append(args[0].shape[0] * args[0].shape[1])
    )
    groups = draw_groups(engine, PROMPTS, WARM, SEEDS)
    hook.remove()
    for step, num_tokens in enumerate(computed[1:], start=1):
        going = [sum(len(rollout.token_ids) > step for rollout in row) for row in groups]
        # A slot is given back only by halves: never four times what goes on at its widest.
        assert num_tokens < 4 * max(going) * sum(map(bool, going))
    assert computed[1] == 24 > computed[-1]
    assert len(computed) == max(len(rollout.token_ids) for row in groups for rollout in row)


def test_a_model_in_training_with_checkpointed_layers_draws_the_same(engine: Engine) -> None:
    model = make_model()
    model.gradient_checkpointing_enable()
    assert draw_groups(make_engine(model), PROMPTS, WARM, SEEDS) == draw_groups(engine, PROMPTS, WARM, SEEDS)
    assert model.training


def test_the_global_random_state_is_left_alone(engine: Engine) -> None:
    state = torch.random.get_rng_state()
    draw_groups(engine, PROMPTS[:1], WARM, [[1, 2]])
    assert torch.equal(state, torch.random.get_rng_state())


def test_rollouts_are_likely_where_they_are_drawn_often(engine: Engine) -> None:
    """First tokens of 4,000 rollouts against the model's own probabilities."""
    prompt, num_rollouts = PROMPTS[0], 5000
    one = Decoding(max_new_tokens=1, temperature=1.0)
    drawn = draw_groups(engine, [prompt], one, [range(num_rollouts)])[0]
    tokens = [rollout.token_ids[0] for rollout in drawn]
    with torch.no_grad():
        shares = [float(row[0].exp()) for row in repeated_logprobs(engine.model, [(prompt, [[t] for t in range(110)])])]
    for token, share in enumerate(shares):
        deviation = (share * (1 - share) / num_rollouts) ** 0.5
        assert abs(tokens.count(token) / num_rollouts - share) < 4.5 * deviation + 1e-3


def abandon_at(number: int) -> tuple[Callable[[], bool], list[int]]:
    """An `abandoned` that is True from its call `number` on; and its calls."""
    calls = [0]

    def abandoned() -> bool:
        calls[0] += 1
        return calls[0] >= number

    return abandoned, calls


def test_groups_are_left_at_the_next_layer_or_token(engine: Engine) -> None:
    model = engine.model.model
    num_layers = len(model.visual.blocks) + len(model.language_model.layers)
    for number in (1, num_layers, num_layers + 1, num_layers + 3):
        abandoned, calls = abandon_at(number)
        with pytest.raises(Abandoned):
            draw_groups(engine, PROMPTS, WARM, SEEDS, abandoned)
        assert calls == [number]  # at each layer of the prefill, then at each token, and never again


def test_replies_are_left_at_the_next_layer_or_token(engine: Engine) -> None:
    model = engine.model.model
    num_layers = len(model.visual.blocks) + len(model.language_model.layers)
    for number in (1, num_layers):
        abandoned, calls = abandon_at(number)
        with pytest.raises(Abandoned):
            engine.generate(PROMPTS[:1], WARM, abandoned)
        assert calls == [number]
    abandoned, calls = abandon_at(num_layers + 2)
    seeded = WARM.model_copy(update={"seed": 1})
    assert engine.generate(PROMPTS[:1], seeded, abandoned)[0].num_generated == 2
