"""Where each token of a packed row stands, what it sees, and what is refused."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from p2r.errors import DataError, ModelError  # noqa: E402
from p2r.training.engines.local.attention import install  # noqa: E402
from p2r.training.engines.local.logprobs import compute_logprobs, pack  # noqa: E402
from tests.fakes.tiny_policy import IMAGE, make_model, make_prompt, make_responses  # noqa: E402


def test_the_row_holds_each_prompt_once_and_each_response_without_its_last_token() -> None:
    first, second = make_prompt([(2, 3)]), make_prompt([], num_text=2, seed=3)
    packed = pack(make_model(), [(first, [[7, 8, 9], [6]]), (second, [[5, 4]])])
    assert packed.ids_1N.tolist() == [[*first.token_ids, 7, 8, *second.token_ids, 5]]
    assert packed.mask_BT.int().tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]


def test_each_response_token_is_predicted_where_it_would_be_in_a_row_of_its_own() -> None:
    first, second = make_prompt([(2, 3)]), make_prompt([], num_text=2, seed=3)
    packed = pack(make_model(), [(first, [[7, 8, 9], [6]]), (second, [[5, 4]])])
    p, q = len(first.token_ids), len(first.token_ids) + 2 + len(second.token_ids)
    where = torch.full(packed.mask_BT.shape, -1)
    where.view(-1)[packed.place_M] = packed.predictors_K[packed.source_M]
    targets = torch.zeros(packed.mask_BT.shape, dtype=torch.long)
    targets.view(-1)[packed.place_M] = packed.target_M
    assert where.tolist() == [[p - 1, p, p + 1], [p - 1, -1, -1], [q - 1, q, -1]]
    assert targets.tolist() == [[7, 8, 9], [6, 0, 0], [5, 4, 0]]
    assert packed.source_M.tolist() == sorted(packed.source_M.tolist())


def test_positions_of_every_response_go_on_where_the_prompt_ends() -> None:
    prompt = make_prompt([(2, 3)], num_text=4)
    packed = pack(make_model(), [(prompt, [[7, 8, 9], [6, 5]])])
    axes = packed.positions_31N[:, 0].tolist()
    # 3 tokens of text, the mark, an image as wide as 3 positions, the mark, 4 tokens of text: 0 to 11.
    assert [row[-3:] for row in axes] == [[12, 13, 12]] * 3
    assert [row[4:10] for row in axes] == [[4] * 6, [4, 4, 4, 5, 5, 5], [4, 5, 6, 4, 5, 6]]


def test_a_response_does_not_see_the_others() -> None:
    model, prompt = make_model(), make_prompt([(2, 2)])
    one, two, other = make_responses([4, 5, 5])
    with torch.no_grad():
        before = compute_logprobs(model, pack(model, [(prompt, [one, two])])).logprobs_BT
        after = compute_logprobs(model, pack(model, [(prompt, [one, other])])).logprobs_BT
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])


def test_no_dense_mask_over_the_row_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers would make one of N x N if it thought it needed it."""
    from p2r.training.engines.local.attention import SharedPrefix

    seen = []
    attend = SharedPrefix.attend
    monkeypatch.setattr(SharedPrefix, "attend", lambda self, *rest: seen.append(self) or attend(self, *rest))
    model = make_model()
    masks = []
    layer = model.model.language_model.layers[0]
    layer.register_forward_pre_hook(lambda _, args, kwargs: masks.append(kwargs["attention_mask"]), with_kwargs=True)
    packed = pack(model, [(make_prompt([(2, 2)]), make_responses([3, 2]))])
    compute_logprobs(model, packed)
    assert masks == [None]
    assert len(seen) == 3


def test_an_empty_response_is_refused() -> None:
    with pytest.raises(DataError, match="response 1 to prompt 0 has no tokens"):
        pack(make_model(), [(make_prompt([]), [[5], []])])


def test_a_prompt_without_responses_is_refused() -> None:
    with pytest.raises(DataError, match="prompt 1 has no responses"):
        pack(make_model(), [(make_prompt([]), [[5]]), (make_prompt([]), [])])


def test_a_response_that_holds_an_image_is_refused() -> None:
    with pytest.raises(DataError, match="stands for an image"):
        pack(make_model(), [(make_prompt([]), [[5, IMAGE, 6]])])


def test_a_model_with_attention_dropout_is_refused() -> None:
    model = make_model()
    model.model.language_model.config.attention_dropout = 0.1
    with pytest.raises(ModelError, match=r"attention_dropout of 0\.1"):
        install(model)


def test_a_model_that_shows_images_behind_its_last_layer_is_refused() -> None:
    model = make_model()
    model.config.vision_config.deepstack_visual_indexes = [0, 1, 1]
    with pytest.raises(ModelError, match="behind its last layer"):
        install(model)


def test_the_gpu_s_name_for_the_mask_means_the_mask_of_the_cpu() -> None:
    """A response's tokens see the prompt and those before them: causal, aligned at the end."""
    from p2r.training.engines.local.attention import _attend_after_prompt, repeat_rows

    torch.manual_seed(0)
    query, key, value = torch.randn(3, 4, 5, 8), torch.randn(3, 2, 12, 8), torch.randn(3, 2, 12, 8)
    mask = repeat_rows(torch.ones(1, 5, 12, dtype=torch.bool).tril(7), 4, 2)
    with_mask, by_name = (_attend_after_prompt(query, key, value, each, 0.3) for each in (mask, None))
    assert torch.allclose(with_mask, by_name, atol=1e-6)
