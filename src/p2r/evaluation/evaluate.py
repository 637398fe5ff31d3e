"""Evaluate a model on a benchmark from Python, with the settings of `p2r eval`.

run = evaluate("needles", "nano", limit=60)
print(run.scorecard())
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache as remember
from functools import partial
from pathlib import Path

from pydantic import JsonValue

from p2r.benchmarks import Benchmark
from p2r.boxes.other_frame import count_frames
from p2r.dialogue import Model
from p2r.errors import ConfigError
from p2r.evaluation.asking import Tally, ask_prepared
from p2r.evaluation.choose import choose_samples
from p2r.evaluation.given import check_benchmark, check_list, load_all
from p2r.evaluation.prepare import Prepared, check_settings, prepare
from p2r.evaluation.repeats import repeat_samples
from p2r.evaluation.scoring import ScoredRun
from p2r.files import check_folder
from p2r.loop import run_blocking
from p2r.models.load import check_engine_args, check_model, check_profile, check_stated, give_engine_args, load_model
from p2r.models.profiles import FamilyName
from p2r.models.server.token_check import ImageCheck
from p2r.models.server.transport import Transport
from p2r.modes import Mode, read_mode
from p2r.prompts import PromptSet, load_prompt_set
from p2r.roles import draw_replies, limit_replies
from p2r.types import Frame, Sample
from p2r.walks import MOST_IMAGE_BYTES, Sharing


def evaluate(
    benchmark: str | Path | Benchmark,
    model: str | Model = "nano",
    *,
    mode: Mode = "p2r",
    out: str | Path | None = None,
    perceiver_model: str | Model | None = None,
    judge_model: str | Model | None = None,
    prompts: str | Path | PromptSet = "release",
    limit: int | None = None,
    samples: int = 1,
    shuffles: int = 1,
    temperature: float = 0.0,
    seed: int = 0,
    shard: str | None = None,
    split: str | None = None,
    boxes: str | Path | None = None,
    images: str | Path | None = None,
    skip_bad: int = 0,
    share_perception: Sharing = "same-prompt",
    max_error_rate: float = 0.1,
    num_at_once: int = 16,
    most_image_bytes: int = MOST_IMAGE_BYTES,
    profile: str | None = None,
    perceiver_profile: str | None = None,
    family: FamilyName | None = None,
    frame: Frame | None = None,
    max_pixels: int | None = None,
    perceiver_new_tokens: int | None = None,
    reasoner_new_tokens: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    timeout_s: float = 300.0,
    transport: Transport = "auto",
    image_check: ImageCheck = "auto",
    engine_args: Mapping[str, JsonValue] | None = None,
    cache: str | Path | None = None,
    on_progress: Callable[[Tally], None] | None = None,
) -> ScoredRun:
    """Ask a benchmark in one mode and score the answers. Works inside a running event loop, too.

    `evaluate_all` asks several modes and benchmarks, and loads each once.

    Args:
        benchmark: "needles", also with settings ("needles:side_px=2048,noise=8"), NAME:PATH, a path or a known hub id;
            or a loaded one.
        model: answers, and says where to look; named as in `load_model`, or loaded.
        mode: a name from `p2r.modes.MODES`.
        out: the folder to which `p2r eval --out` writes: the run goes to OUT/BENCHMARK/MODE, and a call with the same
            settings asks only what is missing or failed there. None keeps the run in memory.
        perceiver_model: says where to look in place of `model`.
        judge_model: judges free answers whose words are not the target's.
        prompts: a shipped set ("release", "paper"), a folder, or a loaded set.
        limit: at most this many samples, drawn by `seed`; of needles the first ones.
        samples: replies that are drawn to each question, each with a seed of its own; more than one needs a
            `temperature`.
        shuffles: orders of the options in which each question is asked, its own being the first.
        temperature: of both roles' replies; 0 takes the likeliest token, and leaves a dialect of `mode` its own.
        seed: seed for needles, `limit`, random boxes, option orders and drawn replies.
        shard: "i/n" for the i-th of n parts.
        split, boxes, images, skip_bad: as in `load_benchmark`.
        share_perception: which samples share one look.
        max_error_rate: share of failures, 0 to 1, above which the run stops.
        num_at_once, most_image_bytes: samples in flight, and the memory of their images.
        profile, perceiver_profile: what `model` and `perceiver_model` are, where they are behind servers, as in
            `load_model`.
        family, frame: of the model that says where to look, as in `load_model`; not for a loaded model.
        perceiver_new_tokens, reasoner_new_tokens: most tokens of a reply of each role; None for 256 and 1024.
        max_pixels, device, dtype, timeout_s, transport, image_check, engine_args, cache: as in `load_model`; not for
            loaded models.
        on_progress: called with the tally so far, from another thread, at the beginning and after every answer.

    Returns:
        The run with its scores, as `p2r score` would read it from its folder.

    Raises:
        ConfigError: a setting is not usable, or the settings do not go together.
        DataError: the benchmark cannot be loaded.
        ModelError: a model cannot be loaded. (A failed answer does not raise; it is counted apart.)
        StorageError: `out` holds a run with other settings, or cannot be written.
        TooManyErrors: more failures than `max_error_rate`; what was answered is kept in `out`.

    Warns when many boxes do not fit the frame in which they are read (`FrameWarning`).
    """

    def report(_: Prepared, tally: Tally) -> None:
        if on_progress is not None:
            on_progress(tally)

    (run,) = evaluate_all(
        [benchmark],
        model,
        modes=[mode],
        out=out,
        perceiver_model=perceiver_model,
        judge_model=judge_model,
        prompts=prompts,
        limit=limit,
        samples=samples,
        shuffles=shuffles,
        temperature=temperature,
        seed=seed,
        shard=shard,
        split=split,
        boxes=boxes,
        images=images,
        skip_bad=skip_bad,
        share_perception=share_perception,
        max_error_rate=max_error_rate,
        num_at_once=num_at_once,
        most_image_bytes=most_image_bytes,
        profile=profile,
        perceiver_profile=perceiver_profile,
        family=family,
        frame=frame,
        max_pixels=max_pixels,
        perceiver_new_tokens=perceiver_new_tokens,
        reasoner_new_tokens=reasoner_new_tokens,
        device=device,
        dtype=dtype,
        timeout_s=timeout_s,
        transport=transport,
        image_check=image_check,
        engine_args=engine_args,
        cache=cache,
        on_progress=report,
    )
    return run


def evaluate_all(
    benchmarks: Sequence[str | Path | Benchmark],
    model: str | Model = "nano",
    *,
    modes: Sequence[Mode] = ("p2r",),
    out: str | Path | None = None,
    perceiver_model: str | Model | None = None,
    judge_model: str | Model | None = None,
    prompts: str | Path | PromptSet = "release",
    limit: int | None = None,
    samples: int = 1,
    shuffles: int = 1,
    temperature: float = 0.0,
    seed: int = 0,
    shard: str | None = None,
    split: str | None = None,
    boxes: str | Path | None = None,
    images: str | Path | None = None,
    skip_bad: int = 0,
    share_perception: Sharing = "same-prompt",
    max_error_rate: float = 0.1,
    num_at_once: int = 16,
    most_image_bytes: int = MOST_IMAGE_BYTES,
    profile: str | None = None,
    perceiver_profile: str | None = None,
    family: FamilyName | None = None,
    frame: Frame | None = None,
    max_pixels: int | None = None,
    perceiver_new_tokens: int | None = None,
    reasoner_new_tokens: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    timeout_s: float = 300.0,
    transport: Transport = "auto",
    image_check: ImageCheck = "auto",
    engine_args: Mapping[str, JsonValue] | None = None,
    cache: str | Path | None = None,
    on_loaded: Callable[[Benchmark], None] | None = None,
    on_progress: Callable[[Prepared, Tally], None] | None = None,
) -> list[ScoredRun]:
    """Ask several benchmarks in several modes, one run after the other; every model is loaded once.

    All benchmarks are loaded and all settings checked before the first model is loaded.

    Args:
        modes: names from `p2r.modes.MODES`; a repeated one counts once.
        on_loaded: called with each benchmark when all are checked, before a model is loaded.
        on_progress: as in `evaluate`, with the run that is being asked.
        Other arguments: as in `evaluate`.

    Returns:
        A run per benchmark and mode, benchmark by benchmark.

    Raises:
        P2RError: as in `evaluate`; runs that had ended before are kept in `out`.
    """
    check_list("benchmarks", benchmarks)
    check_list("modes", modes)
    for one in benchmarks:
        check_benchmark(one)
    modes = list(dict.fromkeys(read_mode(mode) for mode in modes))
    check_settings(
        limit=limit,
        samples=samples,
        shuffles=shuffles,
        temperature=temperature,
        seed=seed,
        share_perception=share_perception,
        transport=transport,
        max_error_rate=max_error_rate,
    )
    check_model(model)
    for given, argument in ((perceiver_model, "perceiver_model"), (judge_model, "judge_model")):
        if given is not None:
            check_model(given, argument)
    if not isinstance(model, str) and (device, dtype, max_pixels, cache) != (None, None, None, None):
        raise ConfigError(
            f"device, dtype, max_pixels and cache cannot change {model.name}, which is loaded already",
            hint="give them to load_model",
        )
    check_engine_args(engine_args, model, perceiver_model, judge_model)
    check_stated(family, frame, model if perceiver_model is None else perceiver_model)
    check_profile(profile, model)
    check_profile(perceiver_profile, perceiver_model, "perceiver_profile")
    decoding = draw_replies(limit_replies(perceiver_new_tokens, reasoner_new_tokens), temperature, seed)
    if out is not None:
        check_folder(Path(out).expanduser())
    loaded = load_all(benchmarks, split=split, boxes=boxes, images=images, skip_bad=skip_bad, seed=seed, limit=limit)

    def choose(benchmark: Benchmark, mode: Mode) -> list[Sample]:
        once = choose_samples(benchmark, mode, limit=limit, seed=seed, shard=shard)
        return repeat_samples(once, num_draws=samples, num_orders=shuffles, seed=seed)

    chosen: list[tuple[Benchmark, Mode, list[Sample]]] = [
        (benchmark, mode, choose(benchmark, mode)) for benchmark in loaded for mode in modes
    ]
    wording = prompts if isinstance(prompts, PromptSet) else load_prompt_set(prompts)
    if on_loaded is not None:
        for benchmark in loaded:
            on_loaded(benchmark)

    load = partial(
        load_model,
        device=device,
        dtype=dtype,
        max_pixels=max_pixels,
        timeout_s=timeout_s,
        transport=transport,
        image_check=image_check,
        concurrency=num_at_once,
        cache=None if cache is None else Path(cache),
    )
    load_once = remember(give_engine_args(load, engine_args))

    prepared = [
        prepare(
            benchmark,
            asked,
            model,
            mode=mode,
            perceiver_model=perceiver_model,
            judge_model=judge_model,
            prompts=wording,
            limit=limit,
            num_draws=samples,
            num_orders=shuffles,
            seed=seed,
            shard=shard,
            share_perception=share_perception,
            profile=profile,
            perceiver_profile=perceiver_profile,
            family=family,
            frame=frame,
            decoding=decoding,
            load=load_once,
        )
        for benchmark, mode, asked in chosen
    ]
    runs: list[ScoredRun] = []
    for one in prepared:
        asking = ask_prepared(
            one,
            None if out is None else Path(out).expanduser() / one.name,
            max_error_rate=max_error_rate,
            num_at_once=num_at_once,
            most_image_bytes=most_image_bytes,
            on_progress=None if on_progress is None else partial(on_progress, one),
        )
        runs.append(run_blocking(asking))
        count_frames(runs[-1].traces.values()).warn(f"{one.settings.benchmark} {one.settings.mode}")
    return runs
