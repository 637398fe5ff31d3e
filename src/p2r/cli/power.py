"""`p2r power`: which differences can a benchmark show?"""

from __future__ import annotations

from typing import Annotated

import typer

from p2r.benchmarks.load import PUBLISHED, load_benchmark
from p2r.cli.options import Split
from p2r.cli.screen import print_tables
from p2r.evaluation.power import count_published_questions, count_questions, tabulate_power

POWER_EXAMPLES = """
**Examples**

- `p2r power vstar --gain 3` needs no data: the size of V* is known.

- `p2r power my_questions.jsonl --gain 5` counts your own questions.

- `p2r power needles --num-samples 600 --gain 4`
"""


def power(
    benchmark: Annotated[
        str, typer.Argument(help="vstar, hrbench_4k, hrbench_8k, mme_realworld_lite, or data as in `p2r eval`.")
    ],
    gain: Annotated[float, typer.Option(help="The true difference between two runs, in points.")],
    split: Split = None,
    num_samples: Annotated[int, typer.Option(min=1, help="The number of needles.")] = 100,
    markdown: Annotated[bool, typer.Option(help="Print Markdown.")] = False,
) -> None:
    """Say before a run what it can show: how often the test finds a true gain, and the smallest that it finds.

    Two runs are compared on the same samples, as by `p2r compare`. How often they differ is not known before; the table
    has a row for each of several shares.
    """
    facts = next((facts for facts in PUBLISHED if facts.name == benchmark), None)
    questions = count_published_questions(facts) if facts else None
    if not questions:
        questions = count_questions(load_benchmark(benchmark, split=split, num_samples=num_samples, check_images=False))
    print_tables([tabulate_power(benchmark, questions, gain)], markdown=markdown)
