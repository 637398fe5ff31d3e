"""What the commands print: colored on a terminal, plain when piped."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from p2r.evaluation.metrics import Summary
from p2r.evaluation.tables import MISSING, show_interval, show_number, show_share
from p2r.report.kit.cards import answer_text
from p2r.types import Completion, Trace


def make_console(*, stderr: bool = False) -> Console:
    """A console that never colors numbers on its own, and folds nothing when piped."""
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, soft_wrap=True, width=120)


def print_trace(console: Console, trace: Trace) -> None:
    """The answer, where it was found, what it cost, and the reply it was read from."""
    rows: list[tuple[str, str | Text]] = [("answer", Text(answer_text(trace.answer, trace.options), style="bold"))]
    rows += [("looked at" if index == 0 else "", line) for index, line in enumerate(describe_boxes(trace))]
    rows.append(("cost", describe_cost(trace)))
    if trace.reasoning is not None:
        cut_off = " (cut off at the token limit)" if trace.reasoning.finish_reason == "length" else ""
        rows.append((f"reply{cut_off}", Text(trace.reasoning.text.strip(), style="dim")))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value if isinstance(value, Text) else Text(value))
    console.print(table)


def describe_boxes(trace: Trace) -> list[str]:
    """A line per box: its corners in pixels of the full image, its label, and which crop it became."""
    if trace.evidence is None or trace.perception is None or trace.perception.source == "none":
        return ["the whole image, once"]
    if not trace.boxes:
        reason = trace.perception.parse.reason if trace.perception.parse else ""
        return [f"the whole image: no boxes{f' ({reason})' if reason else ''}"]
    lines: list[str] = []
    crop = 0
    for index, box in enumerate(trace.boxes):
        left, top, right, bottom = box.to_pixels(*trace.evidence.image_wh)
        line = f"x {left}-{right}, y {top}-{bottom} px"
        if box.label:
            line += f"  {box.label}"
        if index not in trace.evidence.skipped and crop < len(trace.evidence.crops):
            crop += 1
            line += f"  (crop {crop})"
        lines.append(line)
    return lines


def describe_cost(trace: Trace) -> str:
    """Tokens and seconds."""
    looking = trace.perception.completion if trace.perception else None
    steps = [call for step in (looking, trace.reasoning) if step is not None for call in step.calls]
    visual = sum(sum(step.usage.visual_tokens) for step in steps)
    generated = [step.usage.generated_tokens for step in steps if step.usage.generated_tokens is not None]
    parts = [f"{visual:,} visual tokens ({_list_tokens(steps)})"]
    if generated:
        parts.append(f"{sum(generated):,} generated")
    return ", ".join([*parts, f"{trace.seconds:.2f} s"])


def _list_tokens(steps: Sequence[Completion]) -> str:
    """What each image cost, by step: `64 | 64 + 49`."""
    return " | ".join(" + ".join(f"{tokens:,}" for tokens in step.usage.visual_tokens) for step in steps)


def make_table(runs: Sequence[tuple[str, Summary]]) -> Table:
    """One row per run, narrow enough for 80 columns."""
    table = Table(box=None, padding=(0, 1), collapse_padding=True, header_style="bold")
    table.add_column("boxes from", no_wrap=True)
    for name in ("n", "chance", "accuracy", "95% interval", "hit rate", "IoU", "boxes", "s/sample"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, summary in runs:
        speed = summary.samples_per_second
        table.add_row(
            name,
            str(summary.num_judged),
            show_share(summary.chance),
            Text(show_share(summary.accuracy), style="bold"),
            show_interval(summary.interval) if summary.num_judged else MISSING,
            show_share(summary.hit_rate),
            show_number(summary.mean_iou),
            show_number(summary.mean_boxes),
            show_number(1 / speed if speed else None),
        )
    return table
