"""Questions that are asked several times: their seeds, what is counted, and what resumes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from p2r.benchmarks.base import Benchmark, Facts
from p2r.dialogue import Decoding, Prompt
from p2r.errors import ConfigError, ModelError, StorageError
from p2r.evaluation.compare import compare_runs
from p2r.evaluation.evaluate import evaluate
from p2r.evaluation.repeats import count_right, list_repeats, pass_at, repeat_samples, tabulate_repeats
from p2r.evaluation.scoring import interval_of
from p2r.evaluation.tables import show_interval
from p2r.images.load import MemoryImage
from p2r.models.scripted import ScriptedModel
from p2r.statistics import wilson
from p2r.types import Box, Completion, Sample

OPTIONS = ("a star", "a fish", "a sun")


def make(id: str, target: str = "A", **more: object) -> Sample:
    image = MemoryImage(Image.new("RGB", (64, 64), "navy"))
    sample = Sample(id, image, "What is on the sail?", OPTIONS, "choice", target)
    return replace(sample, **more)  # type: ignore[arg-type]


class Drawing(ScriptedModel):
    """A model that replies by its seed, and keeps the decodings."""

    def __init__(self, reply: Callable[[Prompt, Decoding], str]) -> None:
        super().__init__({})
        self._reply = reply
        self.decodings: list[Decoding] = []

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        self.decodings.append(decoding)
        text = self._reply(prompt, decoding)
        return Completion(text=text, finish_reason="stop", model=self.name)


def test_each_draw_and_order_is_a_sample_of_its_question() -> None:
    one, two = make("one"), make("two", options=(), answer_form="free_form", cluster="both", target="a star")
    found = repeat_samples([one, two], num_draws=2, num_orders=2, seed=3)
    assert [sample.id for sample in found] == [f"{name}#{number}" for name in ("one", "two") for number in (1, 2, 3, 4)]
    assert [sample.cluster for sample in found] == ["one"] * 4 + ["both"] * 4
    assert found[0].options == found[1].options == OPTIONS
    assert found[2].options == found[3].options
    assert {sample.options["ABC".index(sample.target or "")] for sample in found[:4]} == {"a star"}
    orders = repeat_samples([one], num_draws=1, num_orders=12, seed=3)
    assert len({sample.options for sample in orders}) > 3
    assert orders == repeat_samples([one], num_draws=1, num_orders=12, seed=3)
    assert orders != repeat_samples([one], num_draws=1, num_orders=12, seed=4)


def test_once_is_the_question_itself() -> None:
    assert repeat_samples([make("one")], num_draws=1, num_orders=1, seed=0) == [make("one")]


def test_orders_need_options() -> None:
    with pytest.raises(ConfigError, match="`shuffles` needs questions with options"):
        repeat_samples([make("one", options=(), answer_form="free_form")], num_draws=1, num_orders=2, seed=0)


def test_every_reply_has_a_seed_of_its_own_and_the_same_one_again(tmp_path: Path) -> None:
    def ask(out: Path | None, seed: int = 0) -> list[Decoding]:
        model = Drawing(lambda prompt, decoding: "[]" if prompt.role == "perceiver" else "<answer>A</answer>")
        benchmark = Benchmark([make("one"), make("two")], Facts("mine"))
        evaluate(benchmark, model, samples=3, temperature=0.5, seed=seed, out=out, num_at_once=1)
        return model.decodings

    decodings = ask(tmp_path)
    assert {decoding.temperature for decoding in decodings} == {0.5}
    seeds = [decoding.seed for decoding in decodings]
    assert len(decodings) == 12 and len(set(seeds)) == 6
    assert all(seed is not None and 0 <= seed < 2**31 for seed in seeds)
    assert [decoding.seed for decoding in ask(None)] == seeds
    assert set(seeds).isdisjoint(decoding.seed for decoding in ask(None, seed=1))
    assert ask(tmp_path) == []


def test_without_a_temperature_nothing_is_drawn() -> None:
    model = Drawing(lambda prompt, decoding: "[]" if prompt.role == "perceiver" else "<answer>A</answer>")
    run = evaluate(Benchmark([make("one")], Facts("mine")), model)
    assert {(decoding.temperature, decoding.seed) for decoding in model.decodings} == {(0.0, None)}
    assert tabulate_repeats(run) is None
    assert (run.settings.samples, run.settings.shuffles, run.settings.temperature) == (None, None, None)


@pytest.mark.parametrize(
    ("num", "right", "k", "expected"),
    [(4, 0, 2, 0.0), (4, 4, 2, 1.0), (4, 1, 2, 0.5), (4, 2, 2, 5 / 6), (3, 1, 8, 1.0)],
)
def test_pass_at_k_counts_all_draws_of_k(num: int, right: int, k: int, expected: float) -> None:
    assert pass_at(k, num, right) == pytest.approx(expected)
    draws = list(itertools.combinations([True] * right + [False] * (num - right), min(k, num)))
    assert expected == pytest.approx(sum(map(any, draws)) / len(draws))


def test_the_table_is_worked_out_by_hand() -> None:
    """Question one: A A A -, question two: B C A A (A is right), question three: C C B B."""
    said = iter(["A", "A", "A", "?", "B", "C", "A", "A", "C", "C", "B", "B"])
    model = Drawing(lambda prompt, decoding: f"<answer>{next(said)}</answer>")
    samples = [make("one"), make("two"), make("three")]
    run = evaluate(Benchmark(samples, Facts("mine")), model, mode="thinking", samples=4, temperature=1.0, num_at_once=1)
    table = tabulate_repeats(run)
    assert table is not None
    assert [row[:3] for row in table.rows] == [
        ("Avg@4", "3", "41.7%"),  # 3/4, 2/4, 0
        ("pass@2", "3", "61.1%"),  # 1, 5/6, 0
        ("pass@4", "3", "66.7%"),
        ("majority vote", "3", "66.7%"),
    ]
    assert table.notes[0].startswith("4 replies to each question: 4 draws, 1 order of the options.")
    assert "One reply to each question: 33.3 to 66.7% right." in table.notes
    assert run.accuracy == pytest.approx(5 / 12)
    assert run.scorecard().count("majority vote") == 1


def test_votes_are_for_options_and_not_for_letters() -> None:
    """The same letter in several orders of the options names several options."""
    model = Drawing(lambda prompt, decoding: "<answer>A</answer>")
    run = evaluate(Benchmark([make("one")], Facts("mine")), model, mode="thinking", shuffles=24, num_at_once=1)
    table = tabulate_repeats(run)
    assert table is not None
    right = [row.score("robust") for row in run.rows]
    votes = dict.fromkeys(OPTIONS, 0)
    for row in run.rows:
        votes[row.trace.options[0]] += 1
    leading = [text for text, count in votes.items() if count == max(votes.values())]
    expected = ("a star" in leading) / len(leading)
    assert table.rows[-1][2] == f"{100 * expected:.1f}%"
    assert table.rows[0][:3] == ("Avg@24", "1", f"{100 * sum(right) / 24:.1f}%")
    assert 0 < sum(right) < 24


def test_orders_differ_as_long_as_there_are_others_and_by_the_seed() -> None:
    """Of two options there are two orders, of three there are six; seeds share no sequence of them."""
    (own, other, again) = repeat_samples([make("q", options=("yes", "no"))], num_draws=1, num_orders=3, seed=0)
    assert (own.options, other.options, again.options) == (("yes", "no"), ("no", "yes"), ("yes", "no"))
    assert [sample.target for sample in (own, other, again)] == ["A", "B", "A"]
    for name in "abcdefgh":
        orders = [
            [sample.options for sample in repeat_samples([make(name)], num_draws=1, num_orders=6, seed=seed)]
            for seed in (0, 1)
        ]
        assert len(set(orders[0])) == len(set(orders[1])) == 6
        assert orders[0][2:] != orders[1][1:-1]


class Failing(Drawing):
    """Fails where the reply is empty."""

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        reply = await super().complete(prompt, decoding)
        if not reply.text:
            raise ModelError("the server is gone")
        return reply


def test_a_reply_that_failed_is_not_wrong() -> None:
    """One: A - A B, two: B B B B, three: A A A A. Of one, three replies are left."""
    said = iter(["<answer>A</answer>", "", *["<answer>A</answer>", "<answer>B</answer>"], *["<answer>B</answer>"] * 4])
    model = Failing(lambda prompt, decoding: next(said, "<answer>A</answer>"))
    samples = [make("one"), make("two"), make("three")]
    run = evaluate(Benchmark(samples, Facts("mine")), model, mode="thinking", samples=4, temperature=1.0, num_at_once=1)
    table = tabulate_repeats(run)
    assert table is not None
    assert [row[:3] for row in table.rows] == [
        ("Avg@4", "3", "55.6%"),  # 2/3, 0, 1
        ("pass@2", "3", "66.7%"),  # 1, 0, 1
        ("pass@4", "2", "50.0%"),  # -, 0, 1
        ("majority vote", "3", "66.7%"),
    ]
    assert table.notes[0].startswith("4 replies to each question")
    assert table.notes[1] == "One reply to each question: 33.3 to 66.7% right."  # the second: 0, 1 of two
    assert table.notes[3].startswith("Replies that failed count nowhere")


def test_every_k_that_was_asked_for_has_a_row() -> None:
    model = Drawing(lambda prompt, decoding: "<answer>A</answer>")
    benchmark = Benchmark([make("one")], Facts("mine"))
    run = evaluate(benchmark, model, mode="thinking", samples=5, temperature=1.0, num_at_once=1)
    table = tabulate_repeats(run)
    assert table is not None
    assert [row[0] for row in table.rows] == ["Avg@5", "pass@2", "pass@4", "pass@5", "majority vote"]
    assert table.notes[2:] == ("Questions with 0 to 5 right replies: 0, 0, 0, 0, 0, 1.",)


def test_one_question_says_little_about_others() -> None:
    said = iter(["A", "A", "A", "B"])
    model = Drawing(lambda prompt, decoding: f"<answer>{next(said)}</answer>")
    benchmark = Benchmark([make("one")], Facts("mine"))
    run = evaluate(benchmark, model, mode="thinking", samples=4, temperature=1.0, num_at_once=1)
    table = tabulate_repeats(run)
    assert table is not None
    assert table.rows[0] == ("Avg@4", "1", "75.0%", "1.4 - 99.8%")  # as that of the accuracy
    assert table.rows[0][3] in run.scorecard().split("### Replies")[0]
    letters = run.scorecard().split("### Letters")[1]
    assert "75.0% | 1.4 - 99.8% |" in letters


def test_free_answers_with_the_same_words_are_one_vote() -> None:
    said = iter(["Red", "red.", "the red", "blue", "blue"])
    model = Drawing(lambda prompt, decoding: f"<answer>{next(said)}</answer>")
    benchmark = Benchmark([make("one", options=(), answer_form="free_form", target="red")], Facts("mine"))
    run = evaluate(benchmark, model, mode="thinking", samples=5, temperature=1.0, num_at_once=1)
    table = tabulate_repeats(run)
    assert table is not None and table.rows[-1][:3] == ("majority vote", "1", "100.0%")


def test_boxes_have_no_vote() -> None:
    model = Drawing(lambda prompt, decoding: '[{"bbox_2d": [0, 0, 500, 500], "label": "sail"}]')
    gold = (Box(x1=0, y1=0, x2=500, y2=500),)
    samples = [make("one", options=(), answer_form="free_form", gold_boxes=gold)]
    run = evaluate(Benchmark(samples, Facts("mine", scored_by="box")), model, samples=2, temperature=1.0)
    table = tabulate_repeats(run)
    assert table is not None and [row[0] for row in table.rows] == ["Avg@2", "pass@2"]


def test_runs_that_asked_questions_otherwise_are_not_compared() -> None:
    model = Drawing(lambda prompt, decoding: "<answer>A</answer>")
    benchmark = Benchmark([make("one"), make("two")], Facts("mine"))
    once = evaluate(benchmark, model, mode="thinking")
    often = evaluate(benchmark, model, mode="thinking", samples=2, temperature=1.0)
    turned = evaluate(benchmark, model, mode="thinking", shuffles=2)
    with pytest.raises(StorageError, match=r"1 time in 1 order of the options, and .* 2 times in 1 order of the"):
        compare_runs([once, often])
    with pytest.raises(StorageError, match=r"2 times in 1 order of the options, and .* 1 time in 2 orders of the"):
        compare_runs([often, turned])
    assert compare_runs([often, often])[0][0].num_questions == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 0}, "`samples` is 0"),
        ({"shuffles": 1.5}, "`shuffles` is 1.5"),
        ({"temperature": -1}, "`temperature` is -1"),
        ({"temperature": True}, "`temperature` is True"),
        ({"temperature": 2.1}, "`temperature` is 2.1"),
        ({"samples": 2}, "without a temperature all replies"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_asked(changes: dict[str, float], message: str) -> None:
    model = Drawing(lambda prompt, decoding: "A")
    with pytest.raises(ConfigError, match=message):
        evaluate(Benchmark([make("one")], Facts("mine")), model, **changes)  # type: ignore[arg-type]
    assert model.decodings == []


def test_questions_are_counted_by_their_right_replies_and_positions_by_the_right_option() -> None:
    said = iter(["A", "A", "A", "?", "B", "C", "A", "A", "C", "C", "B", "B"])
    model = Drawing(lambda prompt, decoding: f"<answer>{next(said)}</answer>")
    samples = [make("one"), make("two"), make("three")]
    run = evaluate(Benchmark(samples, Facts("mine")), model, mode="thinking", samples=4, temperature=1.0, num_at_once=1)
    assert count_right(run) == [1, 0, 1, 1, 0]
    [table] = list_repeats(run, "Mine")
    assert table.title == "Replies to the same question: Mine"
    assert table.notes[-1] == "Questions with 0 to 4 right replies: 1, 0, 1, 1, 0."
    short = replace(run, rows=run.rows[1:])
    assert count_right(short) == [1, 0, 1, 0, 0]  # the first question lacks a reply
    assert list_repeats(evaluate(Benchmark(samples, Facts("mine")), Drawing(lambda *_: "A"), mode="direct")) == []


def test_with_several_orders_there_is_a_table_of_positions_whose_intervals_count_questions() -> None:
    model = Drawing(lambda prompt, decoding: "<answer>A</answer>")
    samples = [make(f"{k}") for k in range(4)]
    run = evaluate(
        Benchmark(samples, Facts("mine")), model, mode="thinking", shuffles=3, samples=2, temperature=1.0, num_at_once=1
    )
    _, positions = list_repeats(run, "Mine")
    assert positions.title == "Positions of the right option: Mine"
    first = positions.rows[0]
    asked = {row.facts.cluster for row in run.rows if row.trace.target == "A"}
    bounds = interval_of([row for row in run.rows if row.trace.target == "A"], "robust")
    assert int(first[1]) > len(asked) and first[-1] == show_interval(bounds) != show_interval(
        wilson(int(first[1]), int(first[1]))
    )
