"""A checkpoint of a family of Qwen's vision models (`profiles.FAMILIES`), run in this process by transformers.

Weights and model code are the stock ones. Prompts, pixels and the generating loop are ours (`encoding`, `patches`,
`engine`), so that images reach the model as they were sized and greedy decoding is greedy. Calls are asynchronous and
batched by `batching`.

Importing this module imports torch, so it is imported only when a model is loaded.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# The models of transformers are only partly typed.

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from p2r.dialogue import Decoding, ModelProfile, Prompt
from p2r.errors import ModelError, P2RError, count_nouns
from p2r.models.checkpoint import Checkpoint, check_full_weights, fetch_checkpoint
from p2r.models.headers import read_headers
from p2r.models.local.backend import AutoModelForImageTextToText
from p2r.models.local.batching import MicroBatcher, OutOfRoomError
from p2r.models.local.devices import choose_device, choose_dtype, is_out_of_memory
from p2r.models.local.encoding import EncodedPrompt, PromptEncoder, quiet_transformers
from p2r.models.local.engine import Abandoned, Engine, GeneratedTokens, VisionLanguageModel, fold_patch_embedding
from p2r.models.local.listening import Listener
from p2r.models.local.lora import find_base_or_warn, insert_adapter, read_adapter, read_shape
from p2r.models.profiles import FamilyName
from p2r.types import Completion, Frame, Usage

STORED_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""Dtypes that a model may have, by their names in its files."""

logger = logging.getLogger(__name__)


class LocalModel:
    """A model in this process. Build it with `LocalModel.load`.

    batch_size: most prompts generated together; halved when the device runs out of memory.
    """

    def __init__(
        self, name: str, profile: ModelProfile, encoder: PromptEncoder, engine: Engine, *, batch_size: int = 16
    ) -> None:
        self.name, self.profile = name, profile
        self._encoder = encoder
        self._engine = engine
        self._batches = MicroBatcher[Decoding, EncodedPrompt, GeneratedTokens](
            self._generate, length=lambda prompt: len(prompt.token_ids), batch_size=batch_size
        )

    @classmethod
    def load(
        cls,
        source: Checkpoint | str | Path,
        *,
        name: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        family: FamilyName | None = None,
        frame: Frame | None = None,
        max_pixels: int | None = None,
        batch_size: int = 16,
    ) -> LocalModel:
        """Load a checkpoint.

        Args:
            source: an opened checkpoint, its folder, or a hub id such as "hongxingli/P2R-4B".
            name: the model's name in traces; the folder or hub id by default.
            device: "cpu", "cuda", "cuda:1", ...; a GPU when there is one.
            dtype: "float32", "bfloat16" or "float16"; float32 on a CPU, bfloat16 on a GPU.
            family, frame: as in `Checkpoint.profile`.
            max_pixels: most pixels per image, in place of the profile's.

        Raises:
            ModelError: there is no such checkpoint, or it is of another family, incomplete or too large for the device.
            ConfigError: the device, dtype, frame or pixel limit is not usable.
        """
        checkpoint = fetch_checkpoint(source)
        profile = checkpoint.profile(family=family, frame=frame, max_pixels=max_pixels)
        place = choose_device(device)
        kind = choose_dtype(dtype, place)
        encoder = PromptEncoder(checkpoint)
        engine = load_engine(checkpoint, encoder, place, kind)
        given = source.folder if isinstance(source, Checkpoint) else source
        return cls(name or str(given), profile, encoder, engine, batch_size=batch_size)

    @property
    def device(self) -> str:
        """The device of the weights, e.g. "cuda:0"."""
        return str(self._engine.model.device)

    @property
    def dtype(self) -> str:
        """The dtype of the weights, e.g. "bfloat16"."""
        return str(self._engine.model.dtype).removeprefix("torch.")

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        """Reply to a prompt; concurrent calls whose decoding differs by the seed at most share a batch.

        Raises:
            ModelError: the prompt is too long, or the device has no memory even for this prompt alone.
        """
        return await self._reply(prompt, decoding, None)

    async def stream(self, prompt: Prompt, decoding: Decoding, on_text: Callable[[str], None]) -> Completion:
        """Reply as `complete` does, and tell the text as it is generated. Raises as `complete` does."""
        decode = partial(self._encoder.decode, stop=decoding.stop)
        return await self._reply(prompt, decoding, Listener(decode, on_text))

    async def _reply(self, prompt: Prompt, decoding: Decoding, listener: Listener | None) -> Completion:
        started = time.perf_counter()
        encoded: list[EncodedPrompt] = []

        def prepare() -> EncodedPrompt:
            bare = replace(self._encoder.encode(prompt), seed=decoding.seed)
            encoded.append(bare if listener is None else replace(bare, on_token=listener.hear))
            return encoded[0]

        reply = await self._batches.submit(decoding.model_copy(update={"seed": None}), prepare)
        return self._make_completion(encoded[0], reply, time.perf_counter() - started, decoding.stop)

    def complete_all(
        self, prompts: Sequence[Prompt], decoding: Decoding, abandoned: Callable[[], bool] = lambda: False
    ) -> list[Completion | P2RError]:
        """Reply to prompts in batches that depend only on the prompts, so that replies are reproducible to the bit.

        Not to be used at the same time as `complete`.

        Args:
            abandoned: asked at each layer of a prefill and at each token; once it returns True, nobody wants the
                replies, and a CancelledError is raised.

        Returns:
            The reply to each prompt, or the error of a prompt that cannot be answered, in order.
        """
        started = time.perf_counter()
        encoded = [self._try_encode(prompt) for prompt in prompts]
        usable = [prompt for prompt in encoded if isinstance(prompt, EncodedPrompt)]
        replies = iter(self._batches.run_all(decoding, usable, abandoned))
        seconds = time.perf_counter() - started
        results: list[Completion | P2RError] = []
        for prompt in encoded:
            reply = prompt if isinstance(prompt, P2RError) else next(replies)
            if isinstance(prompt, EncodedPrompt) and isinstance(reply, GeneratedTokens):
                results.append(self._make_completion(prompt, reply, seconds, decoding.stop))
            elif isinstance(reply, P2RError):
                results.append(reply)
            elif isinstance(reply, BaseException):
                raise reply
        return results

    def _try_encode(self, prompt: Prompt) -> EncodedPrompt | P2RError:
        try:
            return self._encoder.encode(prompt)
        except P2RError as error:
            return error

    def _make_completion(
        self, prompt: EncodedPrompt, reply: GeneratedTokens, seconds: float, stop: Sequence[str]
    ) -> Completion:
        usage = Usage(
            visual_tokens=prompt.visual_tokens,
            prompt_tokens=len(prompt.token_ids),
            generated_tokens=reply.num_generated,
        )
        return Completion(
            text=self._encoder.decode(reply.token_ids, stop),
            finish_reason="stop" if reply.ended else "length",
            model=self.name,
            usage=usage,
            seconds=seconds,
            first_probs=reply.first_probs,
        )

    def _generate(
        self, decoding: Decoding, prompts: Sequence[EncodedPrompt], abandoned: Callable[[], bool]
    ) -> list[GeneratedTokens]:
        try:
            first_ids = self._encoder.first_ids(decoding.first_words)
            stops = self._encoder.find_stops(decoding.stop)
            return self._engine.generate(prompts, decoding, abandoned, first_ids, self._batches.batch_size, stops)
        except (P2RError, Abandoned):
            raise
        except Exception as error:
            if not is_out_of_memory(error):
                raise ModelError(f"{self.name} failed while generating: {error}") from error
            problem = error
        # Outside the handler, so that the traceback no longer holds the failed batch's tensors.
        problem = problem.with_traceback(None)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(prompts) > 1:
            num_at_once = min(len(prompts), self._batches.batch_size)
            logger.warning("%d prompts at once do not fit into memory; trying half of them", num_at_once)
            raise OutOfRoomError
        raise ModelError(
            f"{self.device} has too little memory for one prompt of {count_nouns(len(prompts[0].token_ids), 'token')}",
            hint="lower `max_pixels`, or use a smaller model or a server",
        ) from problem


def load_engine(
    checkpoint: Checkpoint,
    encoder: PromptEncoder,
    device: torch.device,
    dtype: torch.dtype,
    *,
    keep_frames: bool = False,
) -> Engine:
    """Load the weights of a checkpoint on a device, frozen and ready to generate.

    A checkpoint with an adapter is its base model with that adapter; see `lora`.

    Args:
        keep_frames: as in `fold_patch_embedding`; True for a model that is trained.

    Raises:
        ModelError: the weights are incomplete or broken, or too large for the device.
    """
    base = find_base_or_warn(checkpoint)
    if base is None or checkpoint.adapter is None:
        return load_weights(checkpoint, encoder, device, dtype, keep_frames=keep_frames)
    engine = load_weights(base, encoder, device, dtype, keep_frames=keep_frames)
    insert_adapter(engine.model, read_shape(checkpoint.adapter))
    read_adapter(engine.model, checkpoint.adapter)
    engine.model.eval().requires_grad_(False)
    return engine


def load_weights(
    checkpoint: Checkpoint,
    encoder: PromptEncoder,
    device: torch.device | None,
    dtype: torch.dtype,
    *,
    keep_frames: bool = False,
) -> Engine:
    """Load the weights in a checkpoint's own files, merged ones where it has an adapter. Else as `load_engine`.

    The weights go from the files to the device one at a time, so that the host's memory never holds all of them.

    Args:
        device: None to leave the weights in the files, which are mapped and not read. They are then on the CPU, and in
            the dtype that they have there, unless they have several.
    """
    check_full_weights(checkpoint)
    dtypes = {header.dtype for header in read_headers(checkpoint.folder).values()}
    in_files = STORED_DTYPES.get(dtypes.pop(), dtype) if len(dtypes) == 1 else dtype
    try:
        with quiet_transformers():
            model, report = AutoModelForImageTextToText.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues]
                checkpoint.folder,
                dtype=in_files,  # no tensor has to be converted, so each is a view of a mapped file
                attn_implementation="sdpa",
                local_files_only=True,
                output_loading_info=True,
            )
    except Exception as error:  # safetensors, JSON and torch raise errors of their own
        raise ModelError(f"the weights in {checkpoint.folder} cannot be loaded: {error}") from error
    absent = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if absent:
        raise ModelError(
            f"the weights in {checkpoint.folder} do not fit their config: "
            f"{count_nouns(len(absent), 'tensor is', 'tensors are')} missing or misshapen, the first {absent[0]}",
            hint="transformers would fill them with random numbers; get the checkpoint again",
        )
    model.eval().requires_grad_(False)
    try:
        if device is not None:
            _place(model, device, dtype)
    except Exception as error:
        if not is_out_of_memory(error):
            raise ModelError(f"{checkpoint.folder} cannot be moved to {device}: {error}") from error
        raise ModelError(
            f"{checkpoint.folder} does not fit into the memory of {device}", hint="use a smaller model or a server"
        ) from error
    frames = fold_patch_embedding(model, dtype=dtype, keep_frames=keep_frames)
    return Engine(
        model=model,
        patches=checkpoint.patches,
        image_token_id=checkpoint.image_token_id,
        end_token_ids=frozenset(encoder.end_token_ids),
        max_positions=checkpoint.max_positions,
        num_frames=frames,
    )


def _place(model: VisionLanguageModel, device: torch.device, dtype: torch.dtype) -> None:
    """Move a model, weight by weight. Buffers, such as the frequencies of rotary positions, keep their float32."""
    for weight in model.parameters():
        weight.data = weight.detach().to(device, dtype)
    model.to(device)  # pyright: ignore[reportArgumentType]
