"""The term `caption_similarity`: how well the description in an answer fits the image, by a model of the CLIP family.

It is the cosine of the image and the text of the section `### Image Description:`, over the cosine from which on the
term is 1; no less than 0. An answer without a description earns 0, which is the answer's fault. What the model fails
to compare is masked, as with any reward function. (PeBR-R1's release gives 0 there.)

The model comes from a folder or the hub through transformers, in float32, once in each process of a run. Code that lies
beside its weights is run only if the recipe trusts it. FG-CLIP, PeBR-R1's choice, is such a model: its code reads long
texts, and takes the whole image as a square.

Shapes: B images or texts, D numbers of an embedding.
"""

# transformers is typed in part:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import inspect
import math
import threading
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import transformers
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, PreTrainedConfig

from p2r.answers.sections import DESCRIPTION, find_section
from p2r.config import CAPTION_TERM, CaptionSettings, Phase, Recipe
from p2r.errors import ModelError, P2RWarning
from p2r.loop import run_apart
from p2r.models.checkpoint import HUB_ID
from p2r.models.local.devices import choose_device
from p2r.models.local.encoding import quiet_transformers
from p2r.training.rewards.find import OwnTerm

LONG_TEXT = 248
"""Tokens of a text in FG-CLIP's long mode."""
LONG_MODE = "walk_short_pos"
"""The parameter of FG-CLIP's code that turns its long mode on, by False."""
AT_ONCE = 32
"""Images, or texts, of one forward pass."""
_HINT = "reward.caption.model names a folder or a hub id of a model of the CLIP family"


class _Place(NamedTuple):
    """A model to load, and where to."""

    source: str
    device: torch.device
    trusts: bool


def find_captions(phase: Phase) -> CaptionSettings | None:
    """Return the settings of the model that a phase needs; None where none of its terms compares descriptions."""
    return phase.reward.caption if phase.reward.needs_captions(phase.rated_role) else None


def make_caption_term(settings: CaptionSettings, model_device: str | None) -> OwnTerm:
    """Make the function that rates descriptions. It loads the model when it is first called, if nobody has before.

    Args:
        model_device: of the policy; used where the settings name no other.
    """
    place = _find_place(settings, model_device)

    def rate(image: Sequence[Image.Image], reply: Sequence[str]) -> list[float]:
        texts = [find_section(text, DESCRIPTION) or "" for text in reply]
        described = [number for number, text in enumerate(texts) if text]
        values = [0.0] * len(texts)
        if described:
            cosines = open_caption_model(place).compare(
                [image[number] for number in described], [texts[number] for number in described]
            )
            for number, cosine in zip(described, cosines, strict=True):
                values[number] = _clip(cosine / settings.full_at)
        return values

    return OwnTerm(CAPTION_TERM, rate, ("image", "reply"), is_batched=True, source="")


def _clip(value: float) -> float:
    """The value within 0 and 1; not a number stays so, and is masked."""
    return value if math.isnan(value) else min(1.0, max(0.0, value))


async def check_captions(recipe: Recipe) -> list[CaptionModel]:
    """Load the models that compare descriptions with images, each once.

    Raises:
        ModelError: one cannot be loaded, is not of the CLIP family, or comes with code that is not trusted.
        ConfigError: there is no such device.
    """
    found = [find_captions(phase) for phase in recipe.rewarded_phases]
    places = dict.fromkeys(_find_place(each, recipe.model.device) for each in found if each is not None)
    return [await run_apart(partial(open_caption_model, place)) for place in places]


def _find_place(settings: CaptionSettings, model_device: str | None) -> _Place:
    device = choose_device(settings.device or model_device)
    if str(device) == "cuda":  # models run in threads, which do not know this process's GPU
        device = torch.device("cuda", torch.cuda.current_device())
    return _Place(str(Path(settings.model).expanduser()), device, settings.trust_remote_code)


@lru_cache(maxsize=2)
def open_caption_model(place: _Place) -> CaptionModel:
    """Load a model, or return the one that was loaded before."""
    return CaptionModel(*place)


class CaptionModel:
    """Compares images with texts.

    Args:
        source: a folder or a hub id.
        trusts: run code that comes with the weights.

    Raises:
        ModelError: see `check_captions`.
    """

    def __init__(self, source: str, device: torch.device, trusts: bool) -> None:
        self.source, self.device = source, device
        self._lock, self._told = threading.Lock(), False  # a tokenizer is not safe in threads
        try:
            with quiet_transformers():
                self._model: Any = _load_weights(source, trusts).to(device).eval().requires_grad_(False)
                self._tokenizer: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=trusts)
                self._processor: Any = AutoImageProcessor.from_pretrained(
                    source, trust_remote_code=trusts, backend="pil"
                )
            config = self._model.config
            self._reads_long = LONG_MODE in inspect.signature(self._model.get_text_features).parameters
            self._max_tokens = LONG_TEXT if self._reads_long else int(config.text_config.max_position_embeddings)
            self._side = int(config.vision_config.image_size)
            self._takes_mask = not str(config.model_type).startswith("siglip")  # which was trained without
        except ModelError:
            raise
        except Exception as error:  # what the hub, files of weights and trusted code raise is not documented
            reason = str(error).strip().partition("\n")[0].rstrip(". ") or type(error).__name__
            raise ModelError(f"the caption model {source!r} cannot be loaded: {reason}", hint=_HINT) from error

    @property
    def num_bytes(self) -> int:
        """The memory that its weights take."""
        return sum(weight.nbytes for weight in self._model.parameters())

    def compare(self, images: Sequence[Image.Image], texts: Sequence[str]) -> list[float]:
        """Return the cosine of each image with its text.

        What comes again is embedded once: it is quicker, and equal descriptions of an image are equal to the bit.
        """
        distinct, wordings = {id(image): image for image in images}, list(dict.fromkeys(texts))
        with self._lock, quiet_transformers(), torch.inference_mode():
            own_images = dict(zip(distinct, self._embed_images(list(distinct.values())), strict=True))
            own_texts = dict(zip(wordings, self._embed_texts(wordings), strict=True))
            return [float(own_images[id(image)] @ own_texts[text]) for image, text in zip(images, texts, strict=True)]

    def _embed_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        if self._reads_long:
            images = [image.resize((self._side, self._side)) for image in images]
        parts: list[torch.Tensor] = []
        for start in range(0, len(images), AT_ONCE):
            inputs = self._processor(images=images[start : start + AT_ONCE], return_tensors="pt")
            parts.append(
                _normalize(self._model.get_image_features(pixel_values=inputs["pixel_values"].to(self.device)))
            )
        return torch.cat(parts)

    def _embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        longest = max(map(len, self._tokenizer(list(texts))["input_ids"]))
        if longest > self._max_tokens and not self._told:
            self._told = True
            warnings.warn(
                f"a description has {longest} tokens, and the caption model {self.source} reads the first "
                f"{self._max_tokens} of it",
                P2RWarning,
                stacklevel=2,
            )
        parts: list[torch.Tensor] = []
        for start in range(0, len(texts), AT_ONCE):
            inputs = self._tokenizer(
                list(texts[start : start + AT_ONCE]),
                padding="max_length",
                truncation=True,
                max_length=self._max_tokens,
                return_tensors="pt",
            ).to(self.device)
            if self._reads_long:
                found = self._model.get_text_features(inputs["input_ids"], **{LONG_MODE: False})
            else:
                mask = {"attention_mask": inputs["attention_mask"]} if self._takes_mask else {}
                found = self._model.get_text_features(input_ids=inputs["input_ids"], **mask)
            parts.append(_normalize(found))
        return torch.cat(parts)


def _load_weights(source: str, trusts: bool) -> torch.nn.Module:
    """Load the weights by the class that they are of. Raises ModelError for one that does not compare."""
    if not Path(source).is_dir() and HUB_ID.fullmatch(source) is None:
        raise ModelError(f"there is no folder {source!r} with a caption model", hint=_HINT)
    config = cast("Mapping[str, object]", PreTrainedConfig.get_config_dict(source)[0])
    own = cast("Mapping[str, object]", config.get("auto_map") or {})
    names = sorted(name for name in own if name.startswith("AutoModel"))  # AutoModel itself first
    if names and not trusts:
        raise ModelError(
            f"the caption model {source!r} comes with code of its own, which is not run unless you trust it",
            hint="read that code, then set reward.caption.trust_remote_code = true; or name a model without, such as "
            "openai/clip-vit-large-patch14-336",
        )
    auto: Any = getattr(transformers, names[0] if names else "AutoModel")
    loaded = auto.from_pretrained(source, trust_remote_code=trusts, dtype=torch.float32, output_loading_info=True)
    model, info = cast("tuple[Any, Mapping[str, object]]", loaded)
    if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
        raise ModelError(
            f"{source!r} is a {type(model).__name__}, which does not compare texts with images", hint=_HINT
        )
    weights = {name for name, _ in model.named_parameters()}
    missing = sorted(weights & set(cast("Sequence[str]", info["missing_keys"])))
    if missing:
        raise ModelError(
            f"the caption model {source!r} lacks weights of a {type(model).__name__}, such as {missing[0]}", hint=_HINT
        )
    return model


def _normalize(found: object) -> torch.Tensor:
    """Embeddings of length 1. transformers returns them in an output, other code as a tensor."""
    tensor = cast("torch.Tensor", getattr(found, "pooler_output", found))
    return torch.nn.functional.normalize(tensor.float(), dim=-1).cpu()
