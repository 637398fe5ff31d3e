"""What a run needs before its first question: loaded, checked and chosen in one place.

`evaluate` asks what is prepared here. A tool that loops over samples itself, such as Inspect, asks one at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard, get_args

from p2r.benchmarks import Benchmark, Origin, load_benchmark
from p2r.dialogue import Model
from p2r.errors import ConfigError, excerpt
from p2r.evaluation.choose import choose_samples
from p2r.evaluation.scoring import choose_judge
from p2r.models.load import check_model, load_model, loading_of
from p2r.models.server.transport import Transport
from p2r.modes import LOOKING, Mode, make_roles, read_mode
from p2r.pipeline import hash_roles
from p2r.prompts import PromptSet, load_prompt_set
from p2r.roles import Perceiver, Reasoner
from p2r.runs.evaluation import RunSettings
from p2r.types import Judge, Sample
from p2r.walks import Sharing, share_perception_of

NUM_NEEDLES = 400
"""Needles that are made where no limit is given."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A benchmark in one mode, ready to be asked.

    samples: as the mode asks them.
    perceiver, reasoner: the roles; no reasoner where only boxes are scored, because nobody would read its answer.
    settings: everything that can change a result.
    judge_for: the judge of a sample; None where nothing says what is right.
    """

    benchmark: Benchmark
    samples: tuple[Sample, ...]
    perceiver: Perceiver
    reasoner: Reasoner | None
    settings: RunSettings
    judge_for: Callable[[Sample], Judge | None]
    origin: Origin | None

    @property
    def name(self) -> str:
        """The run's place below `out`: benchmark and mode, and the shard if it is one."""
        shard = f".{self.settings.shard.replace('/', '-of-')}" if self.settings.shard else ""
        return f"{self.benchmark.name}/{self.settings.mode}{shard}"


def prepare(
    benchmark: str | Path | Benchmark,
    model: str | Model = "nano",
    *,
    mode: Mode = "p2r",
    perceiver_model: str | Model | None = None,
    judge_model: str | Model | None = None,
    prompts: str | Path | PromptSet = "release",
    limit: int | None = None,
    seed: int = 0,
    shard: str | None = None,
    split: str | None = None,
    boxes: str | Path | None = None,
    images: str | Path | None = None,
    skip_bad: int = 0,
    share_perception: Sharing = "same-prompt",
    num_at_once: int = 16,
    max_pixels: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    timeout_s: float = 300.0,
    transport: Transport = "auto",
    cache: str | Path | None = None,
) -> Prepared:
    """Load, check and choose what `evaluate` asks; the arguments are described there. Models are loaded last.

    Raises:
        ConfigError: a setting is wrong, or would change what is loaded already.
        P2RError: the benchmark, the prompts or a model cannot be loaded.
    """
    mode = read_mode(mode)
    _check_settings(limit, seed, share_perception, transport)
    check_model(model)
    if perceiver_model is not None:
        check_model(perceiver_model, "perceiver_model")
    if judge_model is not None:
        check_model(judge_model, "judge_model")
    if not isinstance(benchmark, Benchmark):
        benchmark = load_benchmark(
            benchmark,
            split=split,
            seed=seed,
            num_samples=limit or NUM_NEEDLES,
            skip_bad=skip_bad,
            boxes=boxes,
            images=images,
        )
    elif split is not None or boxes is not None or images is not None or skip_bad:
        raise ConfigError(
            f"split, boxes, images and skip_bad cannot change {benchmark.name}, which is loaded already",
            hint="give them to load_benchmark",
        )
    samples = choose_samples(benchmark, mode, limit=limit, seed=seed, shard=shard)
    wording = prompts if isinstance(prompts, PromptSet) else load_prompt_set(prompts)

    if not isinstance(model, str) and (device, dtype, max_pixels, cache) != (None, None, None, None):
        raise ConfigError(
            f"device, dtype, max_pixels and cache cannot change {model.name}, which is loaded already",
            hint="give them to load_model",
        )

    def load(given: str | Model) -> Model:
        if not isinstance(given, str):
            return given
        return load_model(
            given,
            device=device,
            dtype=dtype,
            max_pixels=max_pixels,
            timeout_s=timeout_s,
            transport=transport,
            concurrency=num_at_once,
            cache=None if cache is None else Path(cache),
        )

    answerer = load(model)
    looker = load(perceiver_model) if perceiver_model is not None and mode in LOOKING else None
    is_free = any(sample.answer_form == "free_form" for sample in samples)
    judge = load(judge_model) if judge_model is not None and is_free else None
    roles = make_roles(mode, answerer, wording, perceiver_model=looker, seed=seed)
    perceiver = share_perception_of(roles.perceiver, share_perception, samples)
    loading = loading_of(answerer)
    settings = RunSettings(
        benchmark=benchmark.name,
        benchmark_fingerprint=benchmark.fingerprint,
        scored_by=benchmark.scored_by,
        letters=benchmark.facts.letters,
        aggregation=benchmark.facts.aggregation,
        mode=mode,
        model=loading.spec,
        perceiver_model=loading_of(looker).spec if looker else None,
        prompts=wording.name,
        judge_model=loading_of(judge).spec if judge else None,
        prompt_fingerprint=wording.fingerprint,
        roles=hash_roles(perceiver, roles.reasoner),
        max_pixels=loading.max_pixels,
        dtype=loading.dtype,
        limit=limit,
        seed=seed,
        shard=shard,
        share_perception=share_perception if perceiver.fingerprint != roles.perceiver.fingerprint else None,
    )
    origin = benchmark.origin
    return Prepared(
        benchmark=benchmark,
        samples=tuple(samples),
        perceiver=perceiver,
        reasoner=None if benchmark.scored_by == "box" else roles.reasoner,
        settings=settings,
        judge_for=lambda sample: choose_judge(sample, settings.scored_by, judge, wording),
        origin=None if origin is None else origin.model_copy(update={"budget": answerer.profile.budget}),
    )


def _check_settings(limit: object, seed: object, share_perception: object, transport: object) -> None:
    """Refuse a value that no run can use, before anything is loaded."""
    if limit is not None and (not _is_count(limit) or limit < 1):
        raise ConfigError(
            f"limit is {excerpt(limit)}, not a number of samples", hint="limit is at least 1, or None for all"
        )
    if not _is_count(seed) or seed < 0:
        raise ConfigError(f"seed is {excerpt(seed)}, not a whole number from 0", hint="give one, such as seed=0")
    if share_perception not in get_args(Sharing):
        raise ConfigError(
            f"share_perception is {excerpt(share_perception)}", hint=f"it is one of {', '.join(get_args(Sharing))}"
        )
    if transport not in get_args(Transport):
        raise ConfigError(
            f"there is no image transport {excerpt(transport)}",
            hint=f"transport is one of {', '.join(get_args(Transport))}",
        )


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def check_error_rate(max_error_rate: object) -> None:
    """Make sure that a share of failures can be a limit. Raises ConfigError."""
    if not isinstance(max_error_rate, (int, float)) or not 0 <= max_error_rate <= 1:
        raise ConfigError(
            f"max_error_rate is {excerpt(max_error_rate)}, not a share from 0 to 1",
            hint="give one, such as max_error_rate=0.1 for a tenth",
        )
