"""The page of evaluation runs: metrics, filters, and the images of its questions."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from p2r.evaluation.scoring import score_run
from p2r.images.load import FileImage, MemoryImage
from p2r.report.evaluation import gallery
from p2r.report.evaluation.page import build_report, write_lede
from p2r.report.evaluation.sections import Section
from p2r.runs.evaluation import RunSettings, make_run
from p2r.types import Box, Completion, EvidenceRecord, Failure, Perception, Sample, Trace
from tests.fakes.reports import (
    BUDGET,
    ELSEWHERE,
    GOLD,
    HEADLINE,
    Collector,
    answer_all,
    make_sample,
    make_section,
    make_trace,
)


@pytest.fixture(scope="module")
def html() -> str:
    samples = [make_sample(id) for id in "abcd"]
    return build_report([answer_all(samples, "BBAB", "AABA")], HEADLINE)


def test_the_report_is_well_formed_and_needs_nothing_else(html: str) -> None:
    page = Collector(html)
    assert page.open == []
    sources = [attributes.get("src") or attributes.get("href") or "" for _, attributes in page.tags]
    assert all(source.startswith(("data:image/webp;base64,", "#")) for source in sources if source)
    assert not re.search(r"https?://|@import|url\(", html)


def test_the_result_in_words_states_accuracy_interval_and_chance() -> None:
    samples = [make_sample(id) for id in "abcd"]
    lede = write_lede([answer_all(samples, "BBAB", "AABA")])
    assert lede.startswith(
        "needles: own boxes answers 75.0% of 4 questions correctly (95% interval 30.1 to 95.4), direct 25.0% of 4;"
    )
    assert lede.endswith("guessing reaches 50.0%.")


def test_the_table_shows_every_run_with_its_raw_counts_and_interval(html: str) -> None:
    assert "30.1 - 95.4%" in html
    assert "3 of 4" in html and "1 of 4" in html
    assert "own boxes and direct: no evidence of a difference: 4 of 4 samples differ, p 0.6250." in html


def test_categories_are_listed_with_their_own_counts(html: str) -> None:
    assert "n = 2, chance 50.0%" in html
    assert ">pair<" in html


def test_filters_count_their_questions_for_the_run_that_is_shown(html: str) -> None:
    flags = [(attributes["data-flags"] or "").split() for tag, attributes in Collector(html).tags if tag == "article"]
    own = [[flag.removeprefix("1:") for flag in found if flag.startswith("1:")] for found in flags]
    assert own == [["asked", "gained"], ["asked", "gained"], ["asked", "lost", "wrong"], ["asked", "gained"]]
    assert "Right where direct is wrong <span>3</span>" in html
    assert 'data-filter="missed"' not in html


def test_a_question_whose_boxes_miss_the_evidence_is_flagged() -> None:
    html = build_report([answer_all([make_sample("a")], "A", "A", (ELSEWHERE,))], HEADLINE)
    assert 'data-flags="0:asked 1:asked 1:missed"' in html


def test_a_question_on_which_scorers_disagree_is_flagged() -> None:
    sample = make_sample("a")
    untagged = make_trace(sample, letter="A", reply="The answer is A.", boxes=(GOLD,))
    html = build_report([make_section([sample], [make_trace(sample, letter="A")], [untagged])], HEADLINE)
    assert 'data-flags="0:asked 1:asked 1:differ"' in html


def test_boxes_of_every_run_that_looks_can_be_shown() -> None:
    sample = make_sample("a")
    section = make_section([sample], [make_trace(sample, letter="A")], [make_trace(sample, letter="A", boxes=(GOLD,))])
    other = score_run(
        make_run(
            [sample],
            [make_trace(sample, letter="A", boxes=(ELSEWHERE,))],
            RunSettings(benchmark="needles", mode="random"),
        )
    )
    three = Section("needles", (*section.runs, other), (*section.names, "random"), 1, section.images, budget=BUDGET)
    page = Collector(build_report([three], HEADLINE))
    boxes = {a["data-run"]: "hidden" in a for tag, a in page.tags if tag == "i" and "data-run" in a}
    assert boxes == {"1": False, "2": True}


def test_crops_are_shown_of_every_run_whose_boxes_a_model_chose() -> None:
    sample = make_sample("a")
    own = make_trace(sample, letter="A", boxes=(GOLD,))
    said = Completion(text="[]", finish_reason="stop", model="other")
    other = own.model_copy(update={"perception": Perception(source="model:other", boxes=(ELSEWHERE,), completion=said)})
    section = make_section([sample], [make_trace(sample, letter="A")], [own])
    more = [
        score_run(make_run([sample], [trace], RunSettings(benchmark="needles", mode=mode)))
        for trace, mode in ((other, "zoom"), (own, "oracle"))
    ]
    four = Section("needles", (*section.runs, *more), (*section.names, "zoom", "oracle"), 1, section.images)
    page = Collector(build_report([four], HEADLINE))
    crops = {a["data-run"]: "hidden" in a for tag, a in page.tags if tag == "figure" and a.get("class") == "crops"}
    assert crops == {"1": False, "2": True}


def test_several_benchmarks_share_one_gallery() -> None:
    first, second = (answer_all([make_sample(id)], "A", "A") for id in "ab")
    html = build_report([first, Section("vstar", second.runs, second.names, 1, second.images)], HEADLINE)
    names = [a["data-benchmark"] for tag, a in Collector(html).tags if tag == "article"]
    assert names == ["needles", "vstar"]
    assert "every benchmark" in html


def test_gold_and_own_boxes_are_drawn_in_per_cent(html: str) -> None:
    assert "left:10.0%;top:10.0%;width:20.0%;height:20.0%" in html
    assert 'class="box gold"' in html
    assert 'class="box own"' in html
    assert "--c:red" in html


def test_the_part_the_answer_was_read_from_is_marked(html: str) -> None:
    assert "&lt;answer&gt;<mark>A</mark>&lt;/answer&gt;" in html


def test_texts_from_models_cannot_break_the_page() -> None:
    samples = [make_sample("a", "<script>alert(1)</script>")]
    evil = Box(x1=1, y1=1, x2=500, y2=500, label='"><img src=x>')
    html = build_report([answer_all(samples, "A", "A", (evil,))], HEADLINE)
    assert "<script>alert" not in html
    assert "<img src=x>" not in html


def test_a_failed_question_says_why_and_is_not_called_wrong() -> None:
    sample = make_sample("a")
    failed = Trace(
        sample_id="a",
        image="a",
        question=sample.question,
        failure=Failure(stage="reason", kind="EndpointError", message="the server is gone"),
    )
    html = build_report([make_section([sample], [make_trace(sample, letter="A")], [failed])], HEADLINE)
    assert "the server is gone" in html
    assert 'class="mark failed"' in html
    assert 'class="mark wrong"' not in html
    assert 'data-flags="0:asked 1:asked 1:failed"' in html


def test_a_question_whose_image_is_gone_says_so(tmp_path: Path) -> None:
    sample = Sample(id="a", image=FileImage(tmp_path / "gone.png"), question="What?")
    trace = make_trace(sample, letter="A")
    assert "there is no file" in build_report([make_section([sample], [trace], [trace])], HEADLINE)


def test_a_run_without_boxes_says_that_there_was_no_second_look() -> None:
    assert "no box, no second look" in build_report([answer_all([make_sample("a")], "A", "A", ())], HEADLINE)


def test_questions_are_drawn_up_to_a_limit_but_all_are_counted() -> None:
    samples = [make_sample(id) for id in "abcd"]
    html = build_report([answer_all(samples, "AAAA", "AAAA")], HEADLINE, max_cards=2)
    assert html.count("<article") == 2
    assert "<small>drawn evenly from 4</small>" in html
    assert "4 of 4" in html


def test_the_image_one_look_shows_has_the_size_of_the_budget() -> None:
    html = build_report([answer_all([make_sample("a")], "A", "A")], HEADLINE)
    assert "288 × 192 pixels" in html


def test_a_report_keeps_its_size_by_smaller_images_and_shorter_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "FRAME_BYTES", 42_000)
    noise = Image.effect_noise((256, 192), 80).convert("RGB")
    samples = [replace(make_sample(f"n{k}"), image=MemoryImage(noise, f"n{k}")) for k in range(2)]
    replies = ["because " * 5300 + "<answer>A</answer>", "<answer>A</answer>"]
    direct = [make_trace(sample, reply=reply) for sample, reply in zip(samples, replies, strict=True)]
    own = [make_trace(sample, boxes=(GOLD,), image_wh=noise.size) for sample in samples]
    section = make_section(samples, direct, own, budget=None)
    whole, small = (build_report([section], HEADLINE, max_bytes=most) for most in (1_000_000, 95_000))
    assert len(whole) > 110_000 and "characters left out" not in whole
    assert len(small) <= 95_000 and "characters left out" in small
    assert whole.count("data:image/webp") == small.count("data:image/webp") == 4


def test_crops_are_cut_by_the_rectangles_that_the_trace_holds() -> None:
    sample = make_sample("a")
    record = EvidenceRecord(image_wh=(640, 480), crops=((10, 20, 110, 70),), annotated=True)
    own = make_trace(sample, boxes=(GOLD,)).model_copy(update={"evidence": record})
    assert "</b> 100 × 50 pixels" in build_report([make_section([sample], [make_trace(sample)], [own])], HEADLINE)


def test_an_image_of_another_size_is_not_shown_as_the_one_that_was_asked_about() -> None:
    sample = make_sample("a")
    own = make_trace(sample, boxes=(GOLD,), image_wh=(64, 48))
    html = build_report([make_section([sample], [make_trace(sample)], [own])], HEADLINE)
    assert "is 640 x 480 pixels, but the trace is about one of 64 x 48" in html and "data:image" not in html


def test_the_page_opens_with_the_example_and_shows_such_questions_first() -> None:
    samples = [make_sample(id) for id in "abcd"]
    section = answer_all(samples, "BBAB", "AABA")
    html = build_report([section], HEADLINE, example="b")
    example = html[html.index('<section class="example"') : html.index("<main>")]
    assert example.index("</h3>") < example.index("data:image/webp") < example.index("One of 3 questions")
    assert "One of 3 questions that own boxes gets right and direct does not; 1 went the other way, of 4." in example
    assert [">direct<" in example, ">own boxes<" in example] == [True, True]
    assert 'data-filter="gained" aria-pressed="true"' in html
    assert html.count("<article") == 4
    assert Collector(html).open == []


def test_the_example_shows_the_first_run_and_the_one_whose_boxes_are_shown() -> None:
    samples = [make_sample("a")]
    section = answer_all(samples, "B", "A")
    settings = RunSettings(benchmark="needles", mode="random")
    other = score_run(make_run(samples, [make_trace(samples[0])], settings))
    three = replace(section, runs=(*section.runs, other), names=(*section.names, "random"))
    html = build_report([three], HEADLINE, example="a")
    example = html[html.index('<section class="example"') : html.index("<main>")]
    assert example.count('<th scope="row">') == 2 and "random" not in example
    assert '<th scope="row">random</th>' in html


def test_without_an_example_all_questions_are_shown(html: str) -> None:
    assert '<section class="example"' not in html
    assert 'data-filter="asked" aria-pressed="true"' in html


def test_the_accuracy_follows_the_name_before_the_chart_that_a_phone_hides(html: str) -> None:
    row = html[html.index('<th scope="row">direct<small>') :]
    assert row.index("25.0%") < row.index('<td class="axis">')


def test_a_label_that_the_question_does_not_name_is_explained_beside_the_boxes() -> None:
    boxes = tuple(GOLD.model_copy(update={"label": label}) for label in ("sail", "mast", "oar"))
    html = build_report([answer_all([make_sample("a")], "B", "A", boxes)], HEADLINE)
    assert "“mast”, “oar” are not in the question: a label is the perceiver&#39;s own word" in html
    assert "are not in the question" not in build_report([answer_all([make_sample("a")], "B", "A")], HEADLINE)


def test_paper_shows_a_few_questions_and_says_so() -> None:
    samples = [make_sample(f"a{k}") for k in range(8)]
    html = build_report([answer_all(samples, "B" * 8, "A" * 8)], HEADLINE)
    assert html.count('<article class="card printed"') == 6
    assert "On paper: 6 of 8 questions" in html


def test_a_question_without_a_readable_answer_has_a_filter() -> None:
    html = build_report([answer_all([make_sample("a")], "A", "A")], HEADLINE)
    assert "No readable answer" not in html
    section = make_section(
        [make_sample("a")], [make_trace(make_sample("a"))], [make_trace(make_sample("a"), letter=None, reply="Hm.")]
    )
    html = build_report([section], HEADLINE)
    assert 'data-flags="0:asked 1:asked 1:lost 1:wrong 1:missed 1:unread"' in html
    assert "No readable answer <span>1</span>" in html
