import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from p2r.dialogue import Budget
from p2r.errors import ImageError, StorageError
from p2r.evaluation.scoring import score_run
from p2r.evidence import plan_crops
from p2r.images.load import FileImage, MemoryImage
from p2r.report.evaluation.page import build_report, write_lede
from p2r.report.evaluation.sections import Section
from p2r.report.kit.embed import embed
from p2r.report.kit.page import Headline, write_page
from p2r.report.kit.trace_view import view_reply
from p2r.report.trace import save_trace, show
from p2r.runs.evaluation import make_run
from p2r.types import Answer, Box, Completion, Failure, Perception, Sample, Trace, Verdict

BUDGET = Budget(factor=32, min_pixels=1024, max_pixels=64 * 1024)
GOLD = Box(x1=100, y1=100, x2=300, y2=300, label="sail")
ELSEWHERE = Box(x1=700, y1=700, x2=900, y2=900, label="mast")
HEADLINE = Headline("One look, or two?", "It answers more.", (("Model", "scripted"),), "Made by hand.")


def make_sample(id: str, question: str = "What is on the sail?") -> Sample:
    return Sample(
        id=id,
        image=MemoryImage(Image.new("RGB", (640, 480), "navy"), id),
        question=question,
        options=("a star", "a fish"),
        answer_form="choice",
        target="A",
        gold_boxes=(GOLD,),
        category="attribute" if id in "ab" else "pair",
        chance=0.5,
    )


def make_trace(sample: Sample, *, letter: str | None, boxes: tuple[Box, ...] = (), reply: str | None = None) -> Trace:
    text = reply if reply is not None else f"<answer>{letter}</answer>"
    span = (text.index(letter), text.index(letter) + 1) if letter and letter in text else None
    return Trace(
        sample_id=sample.id,
        image=sample.image.uri,
        question=sample.question,
        options=sample.options,
        answer_form=sample.answer_form,
        target=sample.target,
        perception=Perception(source="test", boxes=boxes),
        evidence=plan_crops((640, 480), boxes),
        reasoning=Completion(text=text, finish_reason="stop", model="scripted"),
        answer=Answer(text=letter, letter=letter, span=span),
        verdict=Verdict(correct=letter == "A", score=float(letter == "A"), judge="choice"),
    )


def make_section(
    samples: list[Sample],
    direct: list[Trace],
    own: list[Trace],
    *,
    budget: Budget | None = BUDGET,
    benchmark: str = "needles",
) -> Section:
    """Two runs of the same samples, of which the second looks."""
    by_mode = {"direct": direct, "p2r": own}
    runs = [
        score_run(make_run(samples, traces, {"benchmark": benchmark, "mode": mode}, wall_s=2.0))
        for mode, traces in by_mode.items()
    ]
    images = {sample.id: sample.image for sample in samples}
    return Section(benchmark, tuple(runs), ("direct", "own boxes"), 1, images, budget=budget)


def answer_all(samples: list[Sample], direct: str, own: str, boxes: tuple[Box, ...] = (GOLD,)) -> Section:
    return make_section(
        samples,
        [make_trace(s, letter=d) for s, d in zip(samples, direct, strict=True)],
        [make_trace(s, letter=o, boxes=boxes) for s, o in zip(samples, own, strict=True)],
    )


@pytest.fixture
def html() -> str:
    samples = [make_sample(id) for id in "abcd"]
    return build_report([answer_all(samples, "BBAB", "AABA")], HEADLINE)


class Collector(HTMLParser):
    """Every tag with its attributes, and the texts of one tag."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_is_well_formed_and_needs_nothing_else(html: str) -> None:
    page = Collector(html)
    assert page.open == []
    sources = [attributes.get("src") or attributes.get("href") or "" for _, attributes in page.tags]
    assert all(source.startswith(("data:image/webp;base64,", "#")) for source in sources if source)
    assert not re.search(r"https?://|@import|url\(", html)


def test_the_result_in_words_states_the_figures_and_not_more() -> None:
    samples = [make_sample(id) for id in "abcd"]
    lede = write_lede([answer_all(samples, "BBAB", "AABA")])
    assert lede.startswith(
        "needles: own boxes answers 75.0% of 4 questions correctly (95% interval 30.1 to 95.4), direct 25.0% of 4;"
    )
    assert lede.endswith("guessing reaches 50.0%.")


def test_the_table_shows_every_run_with_its_raw_counts_and_interval(html: str) -> None:
    assert "30.1 - 95.4%" in html
    assert "3 of 4" in html and "1 of 4" in html
    assert "own boxes and direct: no evidence of a difference: 4 of 4 samples differ." in html


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
            [sample], [make_trace(sample, letter="A", boxes=(ELSEWHERE,))], {"benchmark": "needles", "mode": "random"}
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
        score_run(make_run([sample], [trace], {"benchmark": "needles", "mode": mode}))
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


def test_a_image_that_is_gone_leaves_the_card_readable(tmp_path: Path) -> None:
    sample = Sample(id="a", image=FileImage(tmp_path / "gone.png"), question="What?")
    trace = make_trace(sample, letter="A")
    assert "there is no file" in build_report([make_section([sample], [trace], [trace])], HEADLINE)


def test_a_run_without_boxes_says_that_there_was_no_second_look() -> None:
    assert "no box, no second look" in build_report([answer_all([make_sample("a")], "A", "A", ())], HEADLINE)


def test_only_so_many_cards_are_drawn_but_all_are_counted() -> None:
    samples = [make_sample(id) for id in "abcd"]
    html = build_report([answer_all(samples, "AAAA", "AAAA")], HEADLINE, max_cards=2)
    assert html.count("<article") == 2
    assert "<small>drawn evenly from 4</small>" in html
    assert "4 of 4" in html


def test_the_image_one_look_shows_has_the_size_of_the_budget() -> None:
    html = build_report([answer_all([make_sample("a")], "A", "A")], HEADLINE)
    assert "288 × 192 pixels" in html


def test_a_report_keeps_its_size_by_smaller_images_and_shorter_replies() -> None:
    noise = Image.effect_noise((640, 480), 80).convert("RGB")
    samples = [replace(make_sample(f"n{k}"), image=MemoryImage(noise, f"n{k}")) for k in range(4)]
    direct = [make_trace(sample, letter="A", reply="because " * 1000 + "<answer>A</answer>") for sample in samples]
    own = [make_trace(sample, letter="A", boxes=(GOLD,)) for sample in samples]
    section = make_section(samples, direct, own)
    whole, small = (len(build_report([section], HEADLINE, max_bytes=most)) for most in (30_000_000, 400_000))
    assert whole > 450_000
    assert small <= 400_000


def test_of_a_reply_that_is_too_long_the_answer_stays() -> None:
    trace = make_trace(make_sample("a"), letter=None, reply="so " * 1000 + "<answer>A</answer>" + " well" * 1000)
    start = 3000 + len("<answer>")
    answered = trace.model_copy(update={"answer": Answer(text="A", letter="A", span=(start, start + 1))})
    reply = view_reply(answered, max_chars=200)
    assert reply.span == "A"
    assert reply.before.endswith("<answer>") and reply.after.startswith("</answer>")
    assert "characters left out" in reply.before
    assert len(reply.before) < 260


def test_embedded_images_shrink_and_never_grow() -> None:
    large, small = (
        embed(Image.new("RGB", (2000, 1000)), max_side_px=500),
        embed(Image.new("L", (20, 9)), max_side_px=500),
    )
    assert (large.width, large.height, large.full_width, large.full_height) == (500, 250, 2000, 1000)
    assert (small.width, small.height) == (20, 9)
    assert embed(Image.new("RGB", (2000, 1)), max_side_px=500).height == 1


def test_a_report_that_cannot_be_written_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match="cannot be written") as caught:
        write_page(tmp_path / "taken" / "report.html", "<html></html>")
    assert caught.value.hint


def test_a_trace_is_saved_as_files(tmp_path: Path) -> None:
    sample = make_sample("a")
    trace = make_trace(sample, letter="A", boxes=(GOLD, ELSEWHERE))
    paths = save_trace(tmp_path / "out", trace, sample.image)
    assert [path.name for path in paths] == ["annotated.png", "crop_1.png", "crop_2.png", "trace.json"]
    assert Trace.model_validate_json((tmp_path / "out" / "trace.json").read_text()) == trace
    assert Image.open(tmp_path / "out" / "annotated.png").size == (640, 480)


def test_files_of_an_earlier_question_do_not_stay_behind(tmp_path: Path) -> None:
    sample = make_sample("a")
    save_trace(tmp_path, make_trace(sample, letter="A", boxes=(GOLD, ELSEWHERE)), sample.image)
    save_trace(tmp_path, make_trace(sample, letter="A"), sample.image)
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json"]


def test_a_disk_that_is_full_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    sample = make_sample("a")
    with pytest.raises(StorageError, match="no space left on device"):
        save_trace(tmp_path, make_trace(sample, letter="A", boxes=(GOLD,)), sample.image)


def test_a_notebook_shows_the_image_from_the_file_the_trace_names(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.new("RGB", (640, 480)).save(path)
    trace = make_trace(make_sample("a"), letter="A", boxes=(GOLD,)).model_copy(update={"image": str(path)})
    html = show(trace)._repr_html_()
    assert Collector(html).open == []
    assert "data:image/webp" in html
    assert "A. a star" in html


def test_a_notebook_without_the_image_says_how_to_give_it() -> None:
    trace = make_trace(make_sample("a"), letter="A")
    assert "show(trace, image=...)" in show(trace).html
    assert "data:image/webp" in show(trace, image=make_sample("a").image).html


def test_a_trace_as_text_has_boxes_in_pixels() -> None:
    text = repr(show(make_trace(make_sample("a"), letter="A", boxes=(GOLD,))))
    assert "answer     A. a star" in text
    assert "looked at  x 64-192, y 48-144 px  sail  (crop 1)" in text
    assert repr(show(make_trace(make_sample("a"), letter=None))).startswith(
        "question   What is on the sail?\nanswer     no answer\n"
    )


def test_a_broken_image_is_reported_by_save(tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        save_trace(tmp_path, make_trace(make_sample("a"), letter="A"), FileImage(tmp_path / "gone.png"))
