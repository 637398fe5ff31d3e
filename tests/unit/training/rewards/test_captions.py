"""Descriptions against images: what is compared, what a fault costs, and which models are refused."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import transformers.dynamic_module_utils
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, CLIPModel

from p2r.config import CaptionSettings, Recipe, parse_recipe
from p2r.errors import ConfigError, ModelError, P2RWarning
from p2r.loop import run_blocking
from p2r.training.groups import Rolled
from p2r.training.lockstep import LockstepPartner
from p2r.training.rewards import captions
from p2r.training.rewards.captions import CaptionModel, check_captions, make_caption_term
from p2r.training.rewards.find import FIELDS
from p2r.training.rewards.rated import is_batched
from p2r.training.rewards.reward import describe_reward
from p2r.training.rollout import Roller
from tests.fakes.tiny_clip import SIDE, make_clip, make_long_clip
from tests.fakes.training import PROMPTS, BatchScript, FakeActor, dead, in_turn, make_phase, make_recipe, make_sample

CPU = torch.device("cpu")
RED = Image.new("RGB", (80, 60), "red")
NOISE = Image.effect_noise((50, 90), 80).convert("RGB")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code of models is copied below here, and no test sees the models of another."""
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    captions.open_caption_model.cache_clear()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip"))


def load(folder: Path, *, trusts: bool = False) -> CaptionModel:
    return CaptionModel(str(folder), CPU, trusts)


def describe(text: str) -> str:
    return f"### Image Description: {text}\n### Rationales: none"


def test_cosines_are_those_of_the_model_itself(clip: Path) -> None:
    model, tokenizer = CLIPModel.from_pretrained(clip), AutoTokenizer.from_pretrained(clip)
    tokens = tokenizer("a red block", return_tensors="pt")
    pixels = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, SIDE, SIDE)
    with torch.inference_mode():
        found = model(pixel_values=(pixels - 0.5) / 0.25, **tokens)
    expected = float(found.image_embeds @ found.text_embeds.T)
    assert load(clip).compare([RED], ["a red block"]) == pytest.approx([expected], abs=1e-5)


def test_each_image_is_compared_with_its_own_text(clip: Path) -> None:
    model = load(clip)
    alone = [model.compare([image], [text])[0] for image, text in ((RED, "a"), (NOISE, "a"), (RED, "the star on"))]
    assert model.compare([RED, NOISE, RED], ["a", "a", "the star on"]) == pytest.approx(alone, abs=1e-6)
    assert len(set(alone)) == 3


def test_an_image_is_embedded_once_and_texts_in_batches(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "AT_ONCE", 2)
    model, sizes = load(clip), list[int]()
    worded, embed, word = list[int](), model._model.get_image_features, model._model.get_text_features

    def count(pixel_values: torch.Tensor) -> object:
        sizes.append(len(pixel_values))
        return embed(pixel_values=pixel_values)

    def count_texts(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> object:
        worded.append(len(input_ids))
        return word(input_ids=input_ids, attention_mask=attention_mask)

    model._model.get_image_features, model._model.get_text_features = count, count_texts
    images = [RED, NOISE, RED, RED.copy(), RED]
    found = model.compare(images, ["a", "the", "star", "red", "a"])
    assert sizes == [2, 1] and worded == [2, 2]
    assert found[0] == found[4] and len(found) == 5


def test_a_text_that_is_cut_off_is_said_once(clip: Path) -> None:
    model = load(clip)
    with pytest.warns(P2RWarning, match=r"a description has 22 tokens, and .*clip.* reads the first 16"):
        found = model.compare([RED], ["a red block on " * 5])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found == model.compare([RED], ["a red block on " * 9])


def test_only_a_trusted_model_runs_its_code_and_reads_long_texts(tmp_path: Path) -> None:
    folder = make_long_clip(tmp_path / "long")
    model = load(folder, trusts=True)
    assert type(model._model).__name__ == "LongModel"
    short, long = "a red block on " * 30, "a red block on " * 30 + "the star"
    assert model.compare([RED], [short]) != model.compare([RED], [long])
    with pytest.warns(P2RWarning, match="reads the first 248"):
        model.compare([RED], ["a " * 300])


@pytest.mark.parametrize("model_type", ["clip", "tiny_long_clip"])
def test_an_untrusted_model_with_code_is_refused_and_its_code_not_run(tmp_path: Path, model_type: str) -> None:
    """Even one that transformers knows by name: without its code it would read 77 tokens without a word."""
    folder = make_long_clip(tmp_path / "long", model_type=model_type)
    (folder / "own_code.py").write_text("raise SystemExit('it was run')")
    with pytest.raises(ModelError, match="comes with code of its own, which is not run unless you trust it") as caught:
        load(folder)
    assert "reward.caption.trust_remote_code = true" in caught.value.hint


def test_long_mode_sees_the_whole_image_as_a_square(tmp_path: Path) -> None:
    """As FG-CLIP's own examples do; the processor alone would cut off what is beyond the middle."""
    wide = Image.new("RGB", (300, 60), "red")
    wide.paste("blue", (0, 0, 60, 60))
    long = load(make_long_clip(tmp_path / "long"), trusts=True)
    assert long.compare([wide], ["a"]) != pytest.approx(long.compare([RED], ["a"]), abs=1e-4)
    plain = load(make_clip(tmp_path / "clip"))
    assert plain.compare([wide], ["a"]) == pytest.approx(plain.compare([RED], ["a"]), abs=1e-4)


def test_code_that_fails_is_told_as_an_error(tmp_path: Path) -> None:
    folder = make_long_clip(tmp_path / "long")
    (folder / "own_code.py").write_text("raise ValueError('not here')")
    with pytest.raises(ModelError, match="cannot be loaded: not here"):
        load(folder, trusts=True)


def test_other_models_and_half_models_are_refused(tmp_path: Path, clip: Path) -> None:
    vision = tmp_path / "vision"
    shutil.copytree(clip, vision)
    weights = load_file(clip / "model.safetensors")
    save_file(
        {name: each for name, each in weights.items() if "vision" in name},
        vision / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(ModelError, match="lacks weights of a CLIPModel, such as "):
        load(vision)
    bert = tmp_path / "bert"
    shutil.copytree(clip, bert)
    transformers.BertModel(
        transformers.BertConfig(vocab_size=16, hidden_size=16, num_hidden_layers=1, num_attention_heads=1)
    ).save_pretrained(bert)
    with pytest.raises(ModelError, match="is a BertModel, which does not compare texts with images"):
        load(bert)


def check(model: str, **settings: object) -> list[CaptionModel]:
    table = {"terms": {"caption_similarity": 1}, "caption": {"model": model, **settings}}
    return run_blocking(check_captions(answering(table)))


def answering(reward: dict[str, object]) -> Recipe:
    tables = {"out": "unused", "data": {"num_rows": 8}, "model": {"device": "cpu"}, "reward": reward}
    return parse_recipe({**tables, "schedule": [{"role": "answerer", "steps": 1}]})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nowhere", r"there is no folder 'nowhere' with a caption model"),
        ("nowhere", r"there is no folder 'nowhere'"),
        ("{empty}", r"the caption model '.*' cannot be loaded: \S"),
    ],
)
def test_a_wrong_name_is_refused_before_the_first_step(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=message) as caught:
        check(name.format(empty=tmp_path / "empty"))
    assert "reward.caption.model names a folder or a hub id" in caught.value.hint
    assert "\n" not in caught.value.message


def test_a_model_is_loaded_once_and_on_the_policys_device(clip: Path) -> None:
    first, second = check(str(clip)), check(str(clip), full_at=0.5)
    assert first[0] is second[0] and first[0].device == CPU
    assert first[0].num_bytes == sum(each.numel() for each in CLIPModel.from_pretrained(clip).parameters()) * 4
    with pytest.raises(ConfigError, match="there is no device 'moon'"):
        check(str(clip), device="moon")
    with pytest.raises(ConfigError, match="there is no device 'moon'"):
        make_caption_term(CaptionSettings(model=str(clip)), "moon")
    make_caption_term(CaptionSettings(model=str(clip), device="cpu"), "moon")


def test_no_model_is_loaded_where_no_term_asks_for_it(clip: Path) -> None:
    assert run_blocking(check_captions(answering({"caption": {"model": "nowhere"}}))) == []
    both = {"terms": {"caption_similarity": 1, "correct": 1}, "caption": {"model": "nowhere"}}
    boxes = parse_recipe({"out": "x", "data": {"num_rows": 8}, "schedule": [{"role": "perceiver"}], "reward": both})
    assert run_blocking(check_captions(boxes)) == []


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (
            {"terms": {"caption_similarity": 1}},
            "the phase 0-answerer has the reward term caption_similarity, which",
        ),
        ({"vetoes": ["caption_similarity"]}, "give reward.caption.model, such as"),
        ({"terms": {"caption_similarity": 0, "correct": 1}}, "give reward.caption.model, such as"),
        ({"caption": {"model": ""}}, "reward.caption.model is '': it must be text, and not empty"),
        ({"caption": {"modl": "x"}}, "unknown setting reward.caption.modl"),
        ({"caption": {"full_at": 0.5}}, "reward.caption.model is missing"),
        ({"caption": {"model": "x", "full_at": 0}}, "reward.caption.full_at is 0: it must be above 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(reward: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        answering(reward)


def test_settings_without_a_caption_model_are_written_as_before() -> None:
    assert "caption" not in answering({}).model_dump(mode="json")["reward"]
    recipe = answering({"terms": {"caption_similarity": 1}, "caption": {"model": "x"}})
    assert parse_recipe(recipe.model_dump(mode="json")) == recipe
    assert "descriptions are compared with the image by x" in describe_reward(recipe.phases()[0])


class FakeModel:
    """Gives the cosines that a test wants, and notes what was compared."""

    def __init__(self, *cosines: float) -> None:
        self.cosines, self.compared = cosines, list[tuple[Image.Image, str]]()

    def compare(self, images: Sequence[Image.Image], texts: Sequence[str]) -> list[float]:
        self.compared += zip(images, texts, strict=True)
        if not self.cosines:
            raise RuntimeError("no memory")
        return [self.cosines[place % len(self.cosines)] for place in range(len(texts))]


def fake(monkeypatch: pytest.MonkeyPatch, *cosines: float) -> FakeModel:
    model = FakeModel(*cosines)
    monkeypatch.setattr(captions, "open_caption_model", lambda place: model)
    return model


@pytest.mark.parametrize(
    ("cosine", "value"), [(0.4, 1.0), (0.7, 1.0), (0.2, 0.5), (0.1, 0.25), (0.0, 0.0), (-0.3, 0.0)]
)
def test_a_cosine_of_four_tenths_is_enough(monkeypatch: pytest.MonkeyPatch, cosine: float, value: float) -> None:
    fake(monkeypatch, cosine)
    term = make_caption_term(CaptionSettings(model="x"), None)
    assert term.function(image=[RED], reply=[describe("a")]) == pytest.approx([value])
    other = make_caption_term(CaptionSettings(model="x", full_at=0.8), None)
    assert other.function(image=[RED], reply=[describe("a")]) == pytest.approx(
        [min(1.0, value / 2 if cosine < 0.7 else 0.875)]
    )


async def roll(*replies: str, terms: str = "{caption_similarity=1}", rows: int = 1) -> Rolled:
    reward = f"{{terms={terms}, caption={{model='x'}}}}"
    recipe = make_recipe([f"reward={reward}", "partner.max_error_rate=1", "schedule=[{role='answerer'}]"])
    phase = make_phase("answerer", recipe=recipe)
    roller = Roller(recipe, phase, FakeActor(in_turn(*replies)), LockstepPartner(BatchScript(dead)), PROMPTS)
    return await roller.roll_out([make_sample(f"s{number}") for number in range(rows)], step=0)


async def test_only_descriptions_are_compared_and_a_lot_is_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fake(monkeypatch, 0.2)
    rolled = await roll(describe("a red block"), "none", describe(""), "### Image Description:\nthe star", rows=2)
    assert [[each.reward for each in group.rollouts] for group in rolled.groups] == [[0.5, 0.0, 0.0, 0.5]] * 2
    assert [text for _, text in model.compared] == ["a red block", "the star"] * 2
    assert len({id(image) for image, _ in model.compared}) == 2
    assert rolled.groups[0].rollouts[0].terms["caption_similarity"] == 0.5


async def test_a_model_that_fails_masks_and_never_gives_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch)
    with pytest.warns(P2RWarning, match="no memory"):
        rolled = await roll(describe("a"), "none")
    assert [each.reward for each in rolled.groups[0].rollouts] == [None] * 4
    (cause,) = rolled.stats.causes
    assert cause.startswith("the reward term caption_similarity raised RuntimeError in line ")
    fake(monkeypatch, float("nan"), 0.2)
    rolled = await roll(describe("a"), describe("b"))
    assert [each.reward for each in rolled.groups[0].rollouts] == [None, 0.5, None, 0.5]
    assert rolled.stats.causes == {"the reward term caption_similarity returned nan, which is not finite": 2}


async def test_a_model_that_fails_to_record_masks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch)
    with pytest.warns(P2RWarning, match="no memory"):
        rolled = await roll(describe("a"), terms="{caption_similarity=0, length=1}")
    assert [each.reward for each in rolled.groups[0].rollouts] == [1.0] * 4


def test_a_term_sees_images_and_replies_in_batches(clip: Path) -> None:
    term = make_caption_term(CaptionSettings(model=str(clip)), "cpu")
    assert set(term.parameters) == {"image", "reply"} <= set(FIELDS)
    assert term.is_batched and not is_batched(term.function) and not term.needs_answer
    (value,) = term.function(image=[RED], reply=[describe("a red block")])  # type: ignore[misc]
    (cosine,) = load(clip).compare([RED], ["a red block"])
    assert value == pytest.approx(min(1.0, max(0.0, cosine / 0.4)))
