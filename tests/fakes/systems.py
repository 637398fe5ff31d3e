"""Runs of several systems on the paper's benchmarks, of as few questions as a table needs."""

from __future__ import annotations

from pathlib import Path

from p2r.benchmarks.base import Origin
from p2r.evaluation.scoring import ScoredRun, score_run
from p2r.modes import Mode
from p2r.runs.evaluation import RunSettings, find_aggregation, make_run
from p2r.types import Completion, Failure, Sample, Trace

CATEGORIES = {
    "vstar": ("direct_attributes", "relative_position"),
    "hrbench_4k": ("single", "cross"),
    "hrbench_8k": ("single", "cross"),
    "mme_realworld_lite": ("Perception/Monitoring", "Reasoning/Monitoring"),
}


class _Nowhere:
    uri = "data/direct_attributes/sa_1.jpg"

    def load(self) -> None:
        raise AssertionError("a table needs no image")


def ask(
    benchmark: str,
    letters: str,
    *,
    mode: Mode = "p2r",
    model: str = "server#org/P2R-4B",
    folder: str | None = None,
    origin: Origin | None = None,
    num: int | None = None,
    **settings: object,
) -> ScoredRun:
    """A run in which question k is answered with the k-th letter; "A" is right, and "!" failed.

    Args:
        num: questions; the letters are then replies to them in turn.
    """
    first, second = CATEGORIES.get(benchmark, ("", ""))
    has_cycles = find_aggregation(benchmark) == "cycles"
    facts, traces = list[Sample](), list[Trace]()
    count = num or len(letters)
    for k, letter in enumerate(letters):
        question, reply = (k, 0) if num is None else divmod(k, len(letters) // num)
        sample = Sample(
            id=str(k) if num is None else f"{question}#{reply + 1}",
            image=_Nowhere(),  # type: ignore[arg-type]
            question=f"What is {question}?",
            options=("a star", "a fish"),
            answer_form="choice",
            target="A",
            category=first if question < (count + 1) // 2 else second,
            chance=0.5,
            cluster=f"q{k // 4}" if has_cycles else "" if num is None else str(question),
            cycle=k % 4 if has_cycles else None,
        )
        said = Completion(text=f"<answer>{letter}</answer>", finish_reason="stop", model=model)
        failure = Failure(stage="reason", kind="EndpointError", message="the server is gone") if letter == "!" else None
        facts.append(sample)
        traces.append(
            Trace(
                sample_id=sample.id,
                image=sample.image.uri,
                question=sample.question,
                options=sample.options,
                answer_form="choice",
                target="A",
                reasoning=None if failure else said,
                failure=failure,
            )
        )
    run = make_run(facts, traces, RunSettings(benchmark=benchmark, mode=mode, model=model, **settings), origin=origin)  # type: ignore[arg-type]
    scored = score_run(run)
    if folder is not None:
        object.__setattr__(scored, "folder", Path(folder))
    return scored
