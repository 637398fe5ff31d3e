"""Runs over the same samples as one self-contained HTML file: what was seen, where it looked, what it answered.

Nothing is fetched: pictures are data URIs, style and script are inside. Pictures are loaded again from the samples,
one at a time, and evidence is gathered again from the boxes in the traces, so a report shows what a walk saw without
keeping pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from p2r.boxes import hits
from p2r.evaluation.metrics import Run, Summary, summarise
from p2r.evaluation.store import explain_write_errors
from p2r.report.cards import Card, build_card
from p2r.types import Budget, Sample, Trace
from p2r.version import __version__

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Story:
    """What a report is about.

    title: its headline.
    primary: the run whose boxes and crops the cards show, by name.
    baseline: the run it is compared with.
    budget: the pixel budget of the model, which sets what one look shows.
    facts: (name, value) pairs that say what was measured, and on what.
    footer: how to make the report again.
    """

    title: str
    primary: str
    baseline: str
    budget: Budget
    facts: tuple[tuple[str, str], ...] = ()
    footer: str = ""


def build_report(samples: Sequence[Sample], runs: Sequence[Run], story: Story, *, max_cards: int = 120) -> str:
    """The report as HTML.

    Args:
        samples: in the order of every run's traces.
        runs: in the order of the table; `story.primary` and `story.baseline` name two of them.
        max_cards: most questions shown with pictures (about 60 kB each); figures always count all.
    """
    summaries = [summarise(samples, run) for run in runs]
    by_name = {run.name: run for run in runs}
    primary, baseline = by_name[story.primary], by_name[story.baseline]
    cards: list[Card] = []
    for index, sample in enumerate(samples[:max_cards]):
        replies = [(run.name, run.traces[index]) for run in runs]
        flags = _flags(sample, primary.traces[index], baseline.traces[index])
        cards.append(build_card(index + 1, sample, replies, story.primary, story.budget, flags))
    page = {
        "title": story.title,
        "lede": _lede(summaries, [run.name for run in runs], story),
        "facts": story.facts,
        "footer": story.footer,
        "rows": [_row(samples, run, summary, story) for run, summary in zip(runs, summaries, strict=True)],
        "families": _families(samples),
        "chance_text": _percent(summaries[0].chance),
        "has_failures": any(summary.num_failed for summary in summaries),
        "num_samples": len(samples),
        "cards": cards,
        "filters": _filters(cards, story),
    }
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            page=page,
            version=__version__,
            css=read_template("looks.css") + read_template("report.css"),
            js=read_template("report.js"),
        )
    )


def write_report(path: Path, html: str) -> None:
    """Raises StorageError when the file cannot be written."""
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(html, encoding="utf-8")


def _flags(sample: Sample, primary: Trace, baseline: Trace) -> tuple[str, ...]:
    """The filters a question falls under."""
    flags: list[str] = []
    if primary.verdict and baseline.verdict and primary.verdict.correct != baseline.verdict.correct:
        flags.append("gained" if primary.verdict.correct else "lost")
    if primary.verdict and not primary.verdict.correct:
        flags.append("wrong")
    if sample.gold_boxes and primary.perception is not None and not hits(primary.boxes, sample.gold_boxes):
        flags.append("missed")
    if primary.failure or baseline.failure:
        flags.append("failed")
    return tuple(flags)


def _filters(cards: Sequence[Card], story: Story) -> list[dict[str, str | int]]:
    names = {
        "all": "All",
        "gained": f"{story.primary} right, {story.baseline} wrong",
        "lost": f"{story.baseline} right, {story.primary} wrong",
        "wrong": f"{story.primary} wrong",
        "missed": "Looked elsewhere",
        "failed": "Failed",
    }
    counts = {key: sum(key == "all" or key in card.flags for card in cards) for key in names}
    return [{"key": key, "name": _capitalise(name), "count": counts[key]} for key, name in names.items() if counts[key]]


def _lede(summaries: Sequence[Summary], names: Sequence[str], story: Story) -> str:
    """The result in words, straight from the figures."""
    known = {name: summary for name, summary in zip(names, summaries, strict=True) if summary.accuracy is not None}
    if story.primary not in known or story.baseline not in known:
        return "No question could be judged; the cards below say why."
    primary, baseline = known[story.primary], known[story.baseline]
    chance = f" Blind guessing reaches {_percent(primary.chance)}." if primary.chance is not None else ""
    return (
        f"Asked with one look at the whole picture, the model answers {_percent(baseline.accuracy)} of "
        f"{baseline.num_judged} questions. When it first says where to look and then reads what it boxed at full "
        f"resolution, it answers {_percent(primary.accuracy)}.{chance}"
    )


def _row(samples: Sequence[Sample], run: Run, summary: Summary, story: Story) -> dict[str, object]:
    interval = summary.interval
    return {
        "name": run.name,
        "caption": run.caption,
        "is_primary": run.name == story.primary,
        "num_judged": summary.num_judged,
        "num_failed": summary.num_failed,
        "accuracy": None if summary.accuracy is None else round(100 * summary.accuracy, 2),
        "low": round(100 * interval.low, 2),
        "high": round(100 * interval.high, 2),
        "chance": None if summary.chance is None else round(100 * summary.chance, 2),
        "accuracy_text": _percent(summary.accuracy),
        "interval_text": f"{100 * interval.low:.1f} – {100 * interval.high:.1f}" if summary.num_judged else "–",
        "hit_text": _percent(summary.hit_rate),
        "seen_text": _percent(summary.seen_rate),
        "iou_text": _number(summary.mean_iou, 2),
        "boxes_text": _number(summary.mean_boxes, 2),
        "seconds_text": _number(summary.seconds_per_sample, 2),
        "families": [_family_cell(samples, run, family) for family in _family_names(samples)],
    }


def _family_names(samples: Sequence[Sample]) -> list[str]:
    return list(dict.fromkeys(sample.category for sample in samples if sample.category))


def _families(samples: Sequence[Sample]) -> list[dict[str, str | int]]:
    families: list[dict[str, str | int]] = []
    for name in _family_names(samples):
        chances = [sample.chance for sample in samples if sample.category == name]
        known = [chance for chance in chances if chance is not None]
        chance = _percent(sum(known) / len(known)) if len(known) == len(chances) else ""
        families.append({"name": name, "num_samples": len(chances), "chance_text": chance})
    return families


def _family_cell(samples: Sequence[Sample], run: Run, family: str) -> dict[str, str | float]:
    chosen = [(sample, trace) for sample, trace in zip(samples, run.traces, strict=True) if sample.category == family]
    verdicts = [trace.verdict for _, trace in chosen if trace.verdict is not None]
    accuracy = sum(verdict.correct for verdict in verdicts) / len(verdicts) if verdicts else None
    return {"percent": round(100 * (accuracy or 0), 1), "text": _percent(accuracy, digits=0)}


def _percent(share: float | None, digits: int = 1) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f}%"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _capitalise(text: str) -> str:
    return text[:1].upper() + text[1:]


def environment() -> Environment:
    """Templates with HTML escaping on, and an error for any name they use and nobody set."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def read_template(name: str) -> Markup:
    """A file of the templates that is ours and goes into the page as it stands."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))
