"""How the protocol of a run differs from the published one: sentences that stand below a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from p2r.benchmarks import hrbench, mme_realworld, reasonseg, vstar
from p2r.benchmarks.reasonseg import SPLITS
from p2r.errors import count_nouns
from p2r.evaluation.asking import explain_causes
from p2r.evaluation.compare import asks_same_data
from p2r.evaluation.scoring import ScoredRun
from p2r.modes import CHATS
from p2r.report.evaluation.systems import System
from p2r.roles.dialects import DIALECTS
from p2r.roles.dialects.base import budget_of
from p2r.roles.dialects.boxes import BOX_DIALECTS

TITLES = {
    vstar.FACTS.name: "V*",
    hrbench.FACTS_4K.name: "HR-Bench 4K",
    hrbench.FACTS_8K.name: "HR-Bench 8K",
    mme_realworld.FACTS_LITE.name: "MME-RealWorld-Lite",
}
"""The names that the paper uses for its benchmarks."""
REASONSEG = reasonseg.FACTS.name
_SPLITS = frozenset({"test", "train", "hr_bench_4k", "hr_bench_8k"})
"""Splits that hold the published questions."""


def title_of(benchmark: str) -> str:
    """Return what a benchmark is called in print."""
    return TITLES.get(benchmark, benchmark)


def explain_system(system: System, benchmarks: Sequence[str]) -> list[str]:
    """Say how a system was asked, where that is not what the paper does: one greedy reply to the published question."""
    settings = system.settings
    notes: list[str] = []
    if settings.mode.endswith(":released"):
        notes.append("as released: the slips of its authors' evaluation are kept")
    wording, _, words = (settings.prompts or "release").partition("; for boxes ")
    if wording != "release":
        notes.append(f"asked in {wording if settings.mode in CHATS else f'the wording {wording!r}'}")
    notes += [f"asked for boxes in {words}"] if words else []
    notes += filter(None, [_explain_draws(system), _explain_pixels(system)])
    if settings.mode == "shuffled":
        notes.append("the options in another order than the data's")
    if settings.judge_model:
        notes.append(f"free answers judged by {settings.judge_model}")
    if system.differing:
        differing = ", ".join(each.replace("_", " ") for each in system.differing)
        notes.append(f"its runs differ in {differing}; these notes are about that on {title_of(settings.benchmark)}")
    missing = [title_of(benchmark) for benchmark in benchmarks if benchmark not in system.runs]
    if missing:
        notes.append(f"-: not run on {', '.join(missing)}")
    return notes


def explain_run(run: ScoredRun, num_judged: int, num_published: int | None, first: ScoredRun) -> list[str]:
    """Say how the questions of a run differ from the published ones.

    Args:
        num_judged: its questions with a verdict.
        num_published: the size of the benchmark; None when that is not fixed.
        first: the first run of the same benchmark, whose data are compared.
    """
    title, notes = title_of(run.settings.benchmark), list[str]()
    failed = Counter(row.trace.failure.message for row in run.rows if row.trace.failure is not None)
    if not run.rows:
        notes.append(f"-: nothing was asked on {title} yet")
    elif not num_judged:
        notes.append(f"-: nothing was judged on {title}" + (f": {explain_causes(failed)}" if failed else ""))
    elif num_published is not None and num_judged != num_published:
        notes.append(f"{title}: {num_judged:,} of {count_nouns(num_published, 'question')}")
    if failed and num_judged:
        do = "does" if failed.total() == 1 else "do"
        notes.append(f"{title}: {count_nouns(failed.total(), 'reply', 'replies')} failed, and {do} not count")
    is_box, split = run.settings.scored_by == "box", _find_split(run)
    if is_box:
        notes.append(f"{title}: Acc@0.5 of the first box{f', on {split}' if split else ''}")
    elif split not in (None, *_SPLITS):
        notes.append(f"{title}: the split {split!r}")
    if run is not first and run.rows and first.rows and not asks_same_data(first, run):
        notes.append(f"{title}: other data than the first run's, so the two are not compared")
    return [*notes, *filter(None, [_explain_order(run)])]


def _find_split(run: ScoredRun) -> str | None:
    """Return the split that was asked, which for ReasonSeg may be the name of its folder."""
    if run.origin is None:
        return None
    folder = Path(run.origin.spec.partition(":")[2]).name
    return run.origin.split or (folder if run.settings.benchmark == REASONSEG and folder in SPLITS else None)


def _explain_draws(system: System) -> str:
    settings = system.settings
    draws, orders = settings.samples or 1, settings.shuffles or 1
    drawn = f" at temperature {settings.temperature:g}" if settings.temperature else ""
    if draws * orders == 1:
        return f"one reply to each question, drawn{drawn}" if drawn else ""
    ways = [f"{draws} draws{drawn}"] if draws > 1 else []
    ways += [f"{orders} orders of the options"] if orders > 1 else []
    return f"Avg@{draws * orders}: the mean of {' and '.join(ways)} of each question"


def _explain_pixels(system: System) -> str:
    """Say how large its images were at most, where the run knows."""
    origin = next((run.origin for run in system.runs.values() if run.origin and run.origin.budget), None)
    if origin is None or origin.budget is None:
        return ""
    mode, is_stated = system.settings.mode, system.settings.max_pixels is not None
    dialect = (DIALECTS if mode in CHATS else BOX_DIALECTS).get(mode.partition(":")[2])
    shown = budget_of(origin.budget, dialect().budget_pixels if dialect else None, is_stated=is_stated)
    return f"images of at most {shown.max_pixels:,} pixels"


def _explain_order(run: ScoredRun) -> str:
    """Say where the right option stood on V*, whose original folder always states it first."""
    if run.settings.benchmark != vstar.FACTS.name or run.origin is None:
        return ""
    choices = [row.trace.target for row in run.rows if row.trace.options]
    if choices and set(choices) == {"A"}:
        return "V*: the right option always stands at A"
    is_folder = not Path(run.origin.spec).suffix and any(
        Path(row.trace.image).parent.name in vstar.FACTS.categories for row in run.rows
    )
    return f"V*: options shuffled with seed {run.origin.seed}, not in the published order" if is_folder else ""
