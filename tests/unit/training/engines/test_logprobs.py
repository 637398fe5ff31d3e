"""Packed log-probs and gradients against the repeated rows, and against a dense mask, over all parameters."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from p2r.models.local.encoding import EncodedPrompt  # noqa: E402
from p2r.models.local.engine import VisionLanguageModel, fold_patch_embedding  # noqa: E402
from p2r.models.local.sight import Sight  # noqa: E402
from p2r.training.engines.local import logprobs as logprobs_module  # noqa: E402
from p2r.training.engines.local.logprobs import (  # noqa: E402
    Packed,
    compute_logprobs,
    pack,
)
from tests.fakes.tiny_policy import (  # noqa: E402
    FORMATS,
    Family,
    make_model,
    make_prompt,
    make_responses,
    repeated_logprobs,
    use_exact_parts,
)

Groups = Sequence[tuple[EncodedPrompt, Sequence[Sequence[int]]]]


@pytest.fixture
def exact_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    use_exact_parts(monkeypatch)


def make_groups(family: Family = "qwen3_vl") -> Groups:
    """1, 4, 3 and no images; ragged, with responses of one token."""
    return [
        (make_prompt([(2, 4)], seed=1, family=family), make_responses([3, 1, 6, 2], seed=1)),
        (make_prompt([(2, 2), (3, 2), (2, 2), (2, 4)], seed=2, family=family), make_responses([5, 4], seed=2)),
        (make_prompt([(4, 2), (2, 2), (2, 2)], seed=3, family=family), make_responses([1, 1, 1], seed=3)),
        (make_prompt([], seed=4), make_responses([2, 3, 4], seed=4)),
    ]


def gradients(model: VisionLanguageModel, logprobs: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of a sum in which every token has a weight of its own."""
    weights = torch.Generator().manual_seed(0)
    flat = torch.cat(list(logprobs))
    model.zero_grad(set_to_none=True)
    (flat * torch.randn(len(flat), generator=weights, dtype=flat.dtype)).sum().backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def farthest(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """The largest relative distance of one parameter's gradient."""
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).norm() / theirs[name].norm().clamp(min=1e-9)) for name in theirs)


def apart(ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor]) -> float:
    """The largest distance between log-probs."""
    return max(float((a - b).detach().abs().max()) for a, b in zip(ours, theirs, strict=True))


def packed_logprobs(model: VisionLanguageModel, groups: Groups, family: Family = "qwen3_vl") -> list[torch.Tensor]:
    computed = compute_logprobs(model, pack(model, groups, patch_format=FORMATS[family]))
    return [row[mask] for row, mask in zip(computed.logprobs_BT, computed.mask_BT, strict=True)]


def checkpoint_layers(model: VisionLanguageModel, how: str) -> None:
    if how == "by torch":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    elif how == "by the model":
        model.gradient_checkpointing_enable()


@pytest.mark.usefixtures("exact_parts")
@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl", "qwen2_vl"])
@pytest.mark.parametrize("checkpointing", ["none", "by torch", "by the model"])
def test_log_probs_and_gradients_are_those_of_the_repeated_rows(family: Family, checkpointing: str) -> None:
    model, groups = make_model(family), make_groups(family)
    theirs = repeated_logprobs(model, groups, family)
    their_gradients = gradients(model, theirs)
    checkpoint_layers(model, checkpointing)

    ours = packed_logprobs(model, groups, family)

    assert apart(ours, theirs) < 1e-12
    assert farthest(gradients(model, ours), their_gradients) < 1e-7
    assert set(their_gradients) == {name for name, _ in model.named_parameters()}
    assert sum("visual" in name for name in their_gradients) > 20


@pytest.mark.usefixtures("exact_parts")
def test_equal_responses_go_through_the_model_once_and_count_each_time() -> None:
    model, prompts = make_model(), [make_prompt([(2, 4)], seed=1), make_prompt([], seed=4)]
    one, two, short = [*make_responses([5, 4], seed=5), [9]]
    groups = [(prompts[0], [one, two, one, short, short, one]), (prompts[1], [one, one])]
    theirs = repeated_logprobs(model, groups)
    their_gradients = gradients(model, theirs)

    ours = packed_logprobs(model, groups)

    packed = pack(model, groups)
    assert packed.num_tokens == sum(len(prompt.token_ids) for prompt in prompts) + 4 + 3 + 4
    assert packed.mask_BT.sum(dim=1).tolist() == [5, 4, 5, 1, 1, 5, 5, 5]
    assert apart(ours, theirs) < 1e-12
    assert farthest(gradients(model, ours), their_gradients) < 1e-7


@pytest.mark.parametrize("checkpointing", ["none", "by torch"])
def test_the_last_layer_works_only_where_a_token_is_predicted(checkpointing: str) -> None:
    model, groups = make_model(), make_groups()
    checkpoint_layers(model, checkpointing)
    packed = pack(model, groups)
    widths: dict[int, list[int]] = {}
    for number, layer in enumerate(model.model.language_model.layers):
        seen = widths.setdefault(number, [])
        layer.mlp.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0].shape[1]))
    compute_logprobs(model, packed).logprobs_BT.sum().backward()
    whole, some = packed.num_tokens, len(packed.predictors_K)
    assert some < whole
    assert [set(seen) for seen in widths.values()] == [{whole}, {whole}, {some}]


def test_a_copy_of_the_model_runs_its_own_last_layer() -> None:
    copied = copy.deepcopy(make_model())
    last = copied.model.language_model.layers[-1]
    assert last.forward.__self__ is last


def test_with_the_stock_parts_gradients_agree_as_far_as_these_round() -> None:
    model, groups = make_model(), make_groups()
    theirs = repeated_logprobs(model, groups)
    their_gradients = gradients(model, theirs)
    ours = packed_logprobs(model, groups)
    assert apart(ours, theirs) < 1e-12
    assert farthest(gradients(model, ours), their_gradients) < 1e-6


def dense_logprobs(model: VisionLanguageModel, packed: Packed, groups: Groups) -> torch.Tensor:
    """The same row through stock sdpa under a mask of every token with every other, written down from the groups."""
    num_tokens = packed.ids_1N.shape[1]
    sees = torch.zeros(num_tokens, num_tokens, dtype=torch.bool)
    end = 0
    for prompt, responses in groups:
        start, own = end, end + len(prompt.token_ids)
        sees[start:own, start:own] = True
        for response in responses:
            end = own + len(response) - 1
            sees[own:end, start : start + len(prompt.token_ids)] = True
            sees[own:end, own:end] = True
            own = end
        end = own
    from p2r.models.local.patches import normalize

    hidden = model.model(
        input_ids=packed.ids_1N,
        position_ids=packed.positions_31N,
        attention_mask=sees.tril()[None, None],
        use_cache=False,
        pixel_values=normalize(packed.images.patches, dtype=model.dtype),
        image_grid_thw=torch.tensor(packed.images.grids),
    ).last_hidden_state[0]
    values = model.lm_head(hidden).log_softmax(-1)[packed.predictors_K[packed.source_M], packed.target_M]
    return values.new_zeros(packed.mask_BT.numel()).index_put((packed.place_M,), values).view(packed.mask_BT.shape)


@pytest.mark.usefixtures("exact_parts")
def test_a_dense_mask_over_the_same_row_agrees() -> None:
    model, groups = make_model(), make_groups()
    packed = pack(model, groups)
    theirs = dense_logprobs(model, packed, groups)
    their_gradients = gradients(model, [theirs.flatten()])
    ours = compute_logprobs(model, packed).logprobs_BT
    assert apart([ours], [theirs]) < 1e-12
    assert farthest(gradients(model, [ours.flatten()]), their_gradients) < 1e-7


@pytest.mark.usefixtures("exact_parts")
def test_a_prompt_s_results_do_not_depend_on_what_shares_the_row() -> None:
    model, groups = make_model(), make_groups()
    together = packed_logprobs(model, groups)
    alone = [row for group in groups for row in packed_logprobs(model, [group])]
    assert apart(together, alone) < 1e-12


def test_logits_in_pieces_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, groups = make_model(), make_groups()
    packed = pack(model, groups)
    whole = compute_logprobs(model, packed, with_entropy=True)
    whole_gradients = gradients(model, [whole.logprobs_BT.flatten()])
    monkeypatch.setattr(logprobs_module, "MAX_LOGITS", 5 * 120)
    pieces = compute_logprobs(model, packed, with_entropy=True)
    assert torch.allclose(pieces.logprobs_BT, whole.logprobs_BT, atol=1e-12, rtol=0)
    assert pieces.entropy_BT is not None and whole.entropy_BT is not None
    assert torch.allclose(pieces.entropy_BT, whole.entropy_BT, atol=1e-12, rtol=0)
    assert farthest(gradients(model, [pieces.logprobs_BT.flatten()]), whole_gradients) < 1e-9


def test_temperature_and_entropy_are_those_of_the_distribution_drawn_from() -> None:
    model, prompt = make_model(), make_prompt([(2, 2)])
    response = make_responses([3])[0]
    ids = torch.tensor([[*prompt.token_ids, *response]])
    packed = pack(model, [(prompt, [response])])
    ours = compute_logprobs(model, packed, temperature=0.7, with_entropy=True)
    with torch.no_grad():
        hidden = model.model(
            input_ids=packed.ids_1N,
            position_ids=packed.positions_31N,
            pixel_values=logprobs_module.normalize(packed.images.patches, dtype=model.dtype),
            image_grid_thw=torch.tensor(packed.images.grids),
        ).last_hidden_state[0]
        drawn_from = torch.distributions.Categorical(logits=model.lm_head(hidden[-3:]) / 0.7)
    assert torch.allclose(ours.logprobs_BT[0], drawn_from.log_prob(ids[0, -3:]), atol=1e-6, rtol=0)
    assert ours.entropy_BT is not None and not ours.entropy_BT.requires_grad
    assert torch.allclose(ours.entropy_BT[0], drawn_from.entropy(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl", "qwen2_vl"])
def test_images_seen_once_serve_every_pass_to_the_bit(family: Family) -> None:
    """Values and gradients, with a prompt without images in the row; and the model is left as it was."""
    model, groups = make_model(family), make_groups(family)
    model.model.visual.requires_grad_(False)
    packed = pack(model, groups, patch_format=FORMATS[family])
    runs: list[int] = []
    model.model.visual.register_forward_pre_hook(lambda *_: runs.append(1))
    found: list[tuple[torch.Tensor, ...]] = []
    sight = Sight()
    for each in (None, sight, sight):
        model.zero_grad()
        logprobs = compute_logprobs(model, packed, sight=each).logprobs_BT
        logprobs.sum().backward()
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        found.append((logprobs, *(gradient.clone() for gradient in gradients)))
    assert len(runs) == 2 and len(found[0]) > 20
    assert all(torch.equal(*pair) for again in found[1:] for pair in zip(found[0], again, strict=True))
    sight.forget(packed.images)
    compute_logprobs(model, packed, sight=sight)
    assert len(runs) == 3 and "get_image_features" not in vars(model.model)


def test_a_row_without_images_has_nothing_to_see() -> None:
    model = make_model()
    packed = pack(model, [(make_prompt([], seed=4), make_responses([3, 2]))])
    plain, seen = (compute_logprobs(model, packed, sight=each).logprobs_BT for each in (None, Sight()))
    assert torch.equal(plain, seen)


def test_a_frozen_copy_with_a_folded_patch_embedding_serves_as_reference() -> None:
    """The partner's model is made for generating: its vision tower takes one frame in float32."""
    groups = make_groups()
    policy, reference = make_model(dtype=torch.float32), make_model(dtype=torch.float32)
    assert fold_patch_embedding(reference) == 1
    with torch.no_grad():
        ours, theirs = packed_logprobs(policy, groups), packed_logprobs(reference, groups)
    assert apart(ours, theirs) < 1e-3


def test_ordinary_calls_stay_those_of_stock_sdpa(tmp_path: Path) -> None:
    model, groups = make_model(), make_groups()
    with torch.no_grad():
        installed = repeated_logprobs(model, groups)
        model.model.language_model.config._attn_implementation = "sdpa"
        stock = repeated_logprobs(model, groups)
    assert all(torch.equal(a, b) for a, b in zip(installed, stock, strict=True))


def test_the_attention_does_not_get_into_saved_checkpoints(tmp_path: Path) -> None:
    make_model(dtype=torch.float32).save_pretrained(tmp_path)
    assert "p2r" not in (tmp_path / "config.json").read_text()
