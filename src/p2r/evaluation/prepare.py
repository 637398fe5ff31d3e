"""What a run needs before its first question: loaded, checked and chosen in one place.

`evaluate` asks what is prepared here. A tool that loops over samples itself, such as Inspect, asks one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard, get_args

from p2r.benchmarks import Benchmark, Origin
from p2r.benchmarks.needles.limits import warn_of_limits
from p2r.dialogue import Decoding, Model
from p2r.errors import ConfigError, excerpt
from p2r.evaluation.scoring import choose_judge
from p2r.models.load import load_model, loading_of, profile_of_looker
from p2r.models.profiles import FamilyName
from p2r.models.server.transport import Transport
from p2r.modes import LOOKING, Mode, Roles, make_roles
from p2r.pipeline import hash_roles
from p2r.prompts import PromptSet, load_prompt_set
from p2r.roles import DEFAULT_DECODING, DecodingPreset, ModelPerceiver, Perceiver, Reasoner, ToolReasoner
from p2r.roles.drawn import DrawnPerceiver, DrawnReasoner
from p2r.runs.evaluation import RunSettings
from p2r.types import Frame, Judge, Sample
from p2r.walks import Sharing, share_perception_of


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
        return f"{self.benchmark.name}/{self.settings.mode.replace(':', '-')}{shard}"


def prepare(
    benchmark: Benchmark,
    samples: Sequence[Sample],
    model: str | Model = "nano",
    *,
    mode: Mode = "p2r",
    perceiver_model: str | Model | None = None,
    judge_model: str | Model | None = None,
    prompts: str | Path | PromptSet = "release",
    limit: int | None = None,
    num_draws: int = 1,
    num_orders: int = 1,
    seed: int = 0,
    shard: str | None = None,
    share_perception: Sharing = "same-prompt",
    profile: str | None = None,
    perceiver_profile: str | None = None,
    family: FamilyName | None = None,
    frame: Frame | None = None,
    decoding: DecodingPreset = DEFAULT_DECODING,
    load: Callable[..., Model] = load_model,
) -> Prepared:
    """Make the roles and the settings of a run; `evaluate` describes the other arguments.

    Args:
        samples: those that `choose_samples` gives for the same mode, limit, seed and shard, repeated.
        num_draws, num_orders: how often each is repeated; see `repeat_samples`.
        decoding: how each role's replies are drawn; its limits of new tokens are part of the settings.
        load: loads a model by its name; also takes `profile`, and `family` and `frame`, which are those of the model
            that writes boxes. A cached one loads each model once for several runs.

    Raises:
        ConfigError: a setting is wrong.
        P2RError: the prompts or a model cannot be loaded.
    """
    wording = prompts if isinstance(prompts, PromptSet) else load_prompt_set(prompts)

    stated = _say(family=family, frame=frame)

    def get(given: str | Model, **stated: str) -> Model:
        return load(given, **stated) if isinstance(given, str) else given

    is_looker = perceiver_model in (None, model) and perceiver_profile in (None, profile)
    answerer = get(model, **_say(profile=profile), **(stated if is_looker else {}))
    looker = None
    if perceiver_model is not None and mode in LOOKING:
        own_profile = profile_of_looker(perceiver_model, perceiver_profile, model, profile)
        looker = get(perceiver_model, **_say(profile=own_profile), **stated)
    writer = looker or answerer
    is_free = any(sample.answer_form == "free_form" for sample in samples)
    judge = get(judge_model) if judge_model is not None and is_free else None
    warn_of_limits((answerer, looker), samples)
    roles = make_roles(mode, answerer, wording, perceiver_model=looker, decoding=decoding, seed=seed)
    temperature = decoding.reasoner.temperature
    if temperature:
        perceiver, reasoner = DrawnPerceiver(roles.perceiver), DrawnReasoner(roles.reasoner)
    else:
        perceiver, reasoner = share_perception_of(roles.perceiver, share_perception, samples), roles.reasoner
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
        prompts=_name_wording(roles, wording),
        judge_model=loading_of(judge).spec if judge else None,
        prompt_fingerprint=wording.fingerprint,
        roles=hash_roles(perceiver, reasoner),
        profile=loading.profile,
        perceiver_profile=loading_of(looker).profile if looker else None,
        family=loading_of(writer).family,
        frame=writer.profile.stated_frame,
        max_pixels=loading.max_pixels,
        perceiver_new_tokens=(
            _find_limit(decoding.perceiver, DEFAULT_DECODING.perceiver)
            if isinstance(roles.perceiver, ModelPerceiver)
            else None
        ),
        reasoner_new_tokens=_find_limit(decoding.reasoner, DEFAULT_DECODING.reasoner),
        dtype=loading.dtype,
        engine_args=loading.engine_args,
        limit=limit,
        samples=num_draws if num_draws > 1 else None,
        shuffles=num_orders if num_orders > 1 else None,
        temperature=temperature or None,
        seed=seed,
        shard=shard,
        share_perception=share_perception if perceiver.fingerprint != roles.perceiver.fingerprint else None,
    )
    origin = benchmark.origin
    return Prepared(
        benchmark=benchmark,
        samples=tuple(samples),
        perceiver=perceiver,
        reasoner=None if benchmark.scored_by == "box" else reasoner,
        settings=settings,
        judge_for=lambda sample: choose_judge(sample, settings.scored_by, judge, wording),
        origin=None if origin is None else origin.model_copy(update={"budget": answerer.profile.budget}),
    )


def _name_wording(roles: Roles, wording: PromptSet) -> str:
    """Name the prompt set, whose words a dialect uses in its place, or both where only the perceiver has a dialect."""
    texts = roles.reasoner.dialect.texts if isinstance(roles.reasoner, ToolReasoner) else None
    if isinstance(roles.perceiver, ModelPerceiver) and roles.perceiver.dialect is not None:
        return f"{wording.name}; for boxes {roles.perceiver.dialect.texts.source}"
    return wording.name if texts is None else texts.source


def _say(**given: str | None) -> dict[str, str]:
    """Return the arguments that are given: a cached `load` takes what is left out and what is None for two models."""
    return {name: value for name, value in given.items() if value is not None}


def _find_limit(decoding: Decoding, usual: Decoding) -> int | None:
    """Return the limit of new tokens, where it is not the usual one: a run of the usual one has no such setting."""
    return None if decoding.max_new_tokens == usual.max_new_tokens else decoding.max_new_tokens


def check_settings(
    *,
    limit: object = None,
    samples: object = 1,
    shuffles: object = 1,
    temperature: object = 0.0,
    seed: object = 0,
    share_perception: object = "same-prompt",
    transport: object = "auto",
    max_error_rate: object = 0.1,
) -> None:
    """Refuse a value that no run can use, before anything is loaded. Raises ConfigError."""
    if limit is not None and (not _is_count(limit) or limit < 1):
        raise ConfigError(
            f"limit is {excerpt(limit)}, not a number of samples", hint="`limit` is at least 1, or None for all"
        )
    for name, given in (("samples", samples), ("shuffles", shuffles)):
        if not _is_count(given) or given < 1:
            raise ConfigError(f"`{name}` is {excerpt(given)}, not a number from 1", hint="give 1 to ask once")
    if not isinstance(temperature, (int, float)) or isinstance(temperature, bool) or not 0 <= temperature <= 2:
        raise ConfigError(f"`temperature` is {excerpt(temperature)}, not a number from 0 to 2", hint="0 is greedy")
    if samples != 1 and not temperature:
        raise ConfigError(
            f"`samples` is {samples}, and without a temperature all replies to a question are the same",
            hint="give a `temperature`, such as 1",
        )
    if not _is_count(seed) or seed < 0:
        raise ConfigError(f"seed is {excerpt(seed)}, not a whole number from 0", hint="give one, such as `seed=0`")
    if share_perception not in get_args(Sharing):
        raise ConfigError(
            f"share_perception is {excerpt(share_perception)}", hint=f"it is one of {', '.join(get_args(Sharing))}"
        )
    if transport not in get_args(Transport):
        raise ConfigError(
            f"there is no image transport {excerpt(transport)}",
            hint=f"`transport` is one of {', '.join(get_args(Transport))}",
        )
    if not isinstance(max_error_rate, (int, float)) or not 0 <= max_error_rate <= 1:
        raise ConfigError(
            f"max_error_rate is {excerpt(max_error_rate)}, not a share from 0 to 1",
            hint="give one, such as `max_error_rate=0.1` for a tenth",
        )


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
