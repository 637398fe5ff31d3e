"""Demonstrations as tokens: those that the policy would have sampled, and which of them are learned."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from p2r.benchmarks.files.cell_image import CellImage, HeldCell  # noqa: E402
from p2r.dialogue import Budget, Prompt, Turn  # noqa: E402
from p2r.errors import DataError  # noqa: E402
from p2r.images.budget import fit  # noqa: E402
from p2r.models.load import find_checkpoint  # noqa: E402
from p2r.models.local.encoding import PromptEncoder  # noqa: E402
from p2r.training.sft.demonstrations import Demonstration  # noqa: E402
from p2r.training.sft.encode import encode_demonstration  # noqa: E402

BUDGET = Budget(factor=32, min_pixels=4 * 1024, max_pixels=64 * 1024)


@pytest.fixture(scope="module")
def encoder() -> PromptEncoder:
    return PromptEncoder(find_checkpoint("nano"))


def make_row(*turns: tuple[str, str], system: str = "") -> Demonstration:
    file = BytesIO()
    Image.new("RGB", (200, 100), "blue").save(file, "PNG")
    return Demonstration("a", (CellImage("a", HeldCell(file.getvalue())),), ((200, 100),), system, turns)


def test_one_reply_is_the_prompt_of_asking_and_the_tokens_of_sampling(encoder: PromptEncoder) -> None:
    row = make_row(("What is it?", "a red star"), system="You look.")
    found = encode_demonstration(row, encoder, BUDGET)
    image = fit(row.images[0].load(), BUDGET)
    prompt = Prompt("reasoner", "You look.", "What is it?", (image,), "")
    assert found.prompt.token_ids == encoder.encode(prompt).token_ids
    assert found.prompt.visual_tokens == (image.width * image.height // 1024,)
    assert encoder.decode(found.token_ids) == "a red star"
    assert found.token_ids[-1] in encoder.end_token_ids
    assert found.learned == (True,) * len(found.token_ids)
    assert found.num_tokens == len(found.prompt.token_ids) + len(found.token_ids)


def test_only_replies_and_their_ends_are_learned_of_several_turns(encoder: PromptEncoder) -> None:
    row = make_row(("What is it?", "a red star"), ("Where?", "left"), ("Sure?", "yes"))
    found = encode_demonstration(row, encoder, BUDGET)
    learned = [token for token, is_learned in zip(found.token_ids, found.learned, strict=True) if is_learned]
    ends = [token in encoder.end_token_ids for token in learned]
    assert encoder.decode(learned) == "a red starleftyes"
    assert ends.count(True) == 3
    assert ends[-1]
    image = fit(row.images[0].load(), BUDGET)
    later = (Turn("assistant", ("a red star",)), Turn("user", ("Where?",)), Turn("assistant", ("left",)))
    whole = encoder.encode(Prompt("reasoner", "", "What is it?", (image,), "", (*later, Turn("user", ("Sure?",)))))
    asked = (*found.prompt.token_ids, *found.token_ids)
    assert asked[: len(whole.token_ids)] == whole.token_ids
    assert encoder.decode(asked[len(whole.token_ids) :]) == "yes"


def test_a_template_that_forgets_thoughts_needs_a_row_for_each_reply(
    encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = (
        "{% for m in messages %}{{ m.role }}:"
        "{% if m.content is string %}{{ m.content.split('</think>')[-1] }}"
        "{% else %}{% for p in m.content %}{{ p.text if p.type == 'text' else '<|image_pad|>' }}{% endfor %}{% endif %}"
        "{% endfor %}assistant:<think>\n"
    )
    monkeypatch.setattr(encoder, "_template", template)
    one = encode_demonstration(make_row(("What?", "<think>\na star</think> red")), encoder, BUDGET)
    assert encoder.decode(one.token_ids) == "a star</think> red"
    with pytest.raises(DataError, match="changes a reply"):
        encode_demonstration(make_row(("What?", "<think>\na star</think> red"), ("So?", "left")), encoder, BUDGET)


@pytest.mark.parametrize("text", ["red<|im_end|>", "<|im_start|>", "<|endoftext|>", "<|vision_start|>x"])
def test_special_tokens_of_a_chat_are_refused(encoder: PromptEncoder, text: str) -> None:
    for row in (make_row((text, "red")), make_row(("What?", text)), make_row(("What?", "red"), system=text)):
        with pytest.raises(DataError, match="a special token of the model"):
            encode_demonstration(row, encoder, BUDGET)
    boxed = make_row(("What?", "<|object_ref_start|>star<|object_ref_end|><|box_start|>(1,2)<|box_end|>"))
    assert encode_demonstration(boxed, encoder, BUDGET).learned[-1]
