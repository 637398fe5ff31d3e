import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from p2r.errors import ImageError, StorageError
from p2r.evaluation.metrics import Run
from p2r.pixels import FileImage, MemoryImage
from p2r.report.build import Story, build_report, write_report
from p2r.report.files import save_trace
from p2r.report.notebook import render_text, show
from p2r.report.pictures import embed
from p2r.types import Answer, Box, Budget, Completion, EvidenceRecord, Failure, Perception, Sample, Trace, Verdict

BUDGET = Budget(factor=32, min_pixels=1024, max_pixels=64 * 1024)
GOLD = Box(x1=100, y1=100, x2=300, y2=300, label="sail")
ELSEWHERE = Box(x1=700, y1=700, x2=900, y2=900, label="mast")
STORY = Story("One look, or two?", "own boxes", "direct", BUDGET, (("Model", "scripted"),), "Made by hand.")


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
        perception=Perception(source="test", boxes=boxes),
        evidence=EvidenceRecord(image_wh=(640, 480), annotated=bool(boxes)),
        reasoning=Completion(text=text, finish_reason="stop", model="scripted"),
        answer=Answer(text=letter, letter=letter, span=span),
        verdict=Verdict(correct=letter == "A", score=float(letter == "A"), judge="choice"),
    )


def make_runs(samples: list[Sample], direct: str, own: str, boxes: tuple[Box, ...] = (GOLD,)) -> list[Run]:
    return [
        Run("direct", tuple(make_trace(s, letter=d) for s, d in zip(samples, direct, strict=True)), looks=False),
        Run("own boxes", tuple(make_trace(s, letter=o, boxes=boxes) for s, o in zip(samples, own, strict=True))),
    ]


@pytest.fixture
def html() -> str:
    samples = [make_sample(id) for id in "abcd"]
    return build_report(samples, make_runs(samples, "BBAB", "AABA"), STORY)


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


def test_the_headline_states_the_figures_and_not_more(html: str) -> None:
    assert "answers 25.0% of 4 questions" in html
    assert "it answers 75.0%" in html
    assert "Blind guessing reaches 50.0%" in html


def test_the_table_shows_every_run_with_its_interval(html: str) -> None:
    assert "30.1 – 95.4" in html
    assert html.count('class="dot"') == 2


def test_families_are_listed_with_their_own_counts(html: str) -> None:
    assert "n = 2, chance 50.0%" in html
    assert ">pair<" in html


def test_filters_count_their_questions(html: str) -> None:
    flags = [attributes["data-flags"] for tag, attributes in Collector(html).tags if tag == "article"]
    assert flags == ["gained", "gained", "lost wrong", "gained"]
    assert "Own boxes right, direct wrong <span>3</span>" in html
    assert 'data-filter="missed"' not in html


def test_a_question_whose_boxes_miss_the_evidence_is_flagged() -> None:
    samples = [make_sample("a")]
    html = build_report(samples, make_runs(samples, "A", "A", (ELSEWHERE,)), STORY)
    assert 'data-flags="missed"' in html


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
    runs = make_runs(samples, "A", "A", (evil,))
    html = build_report(samples, runs, STORY)
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
    runs = [Run("direct", (make_trace(sample, letter="A"),), looks=False), Run("own boxes", (failed,))]
    html = build_report([sample], runs, STORY)
    assert "the server is gone" in html
    assert 'class="mark failed"' in html
    assert 'class="mark wrong"' not in html
    assert 'data-flags="failed"' in html


def test_a_picture_that_is_gone_leaves_the_card_readable(tmp_path: Path) -> None:
    sample = Sample(id="a", image=FileImage(tmp_path / "gone.png"), question="What?")
    trace = make_trace(sample, letter="A")
    html = build_report([sample], [Run("direct", (trace,), looks=False), Run("own boxes", (trace,))], STORY)
    assert "there is no file" in html


def test_a_run_without_boxes_says_that_there_was_no_second_look() -> None:
    samples = [make_sample("a")]
    assert "no box, no second look" in build_report(samples, make_runs(samples, "A", "A", ()), STORY)


def test_only_so_many_cards_are_drawn_but_all_are_counted() -> None:
    samples = [make_sample(id) for id in "abcd"]
    html = build_report(samples, make_runs(samples, "AAAA", "AAAA"), STORY, max_cards=2)
    assert html.count("<article") == 2
    assert "<small>of 4</small>" in html


def test_the_picture_one_look_shows_has_the_size_of_the_budget() -> None:
    sample = make_sample("a")
    html = build_report([sample], make_runs([sample], "A", "A"), STORY)
    assert "288 × 192 pixels" in html


def test_embedded_pictures_shrink_and_never_grow() -> None:
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
        write_report(tmp_path / "taken" / "report.html", "<html></html>")
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


def test_a_notebook_shows_the_picture_from_the_file_the_trace_names(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.new("RGB", (320, 240)).save(path)
    trace = make_trace(make_sample("a"), letter="A", boxes=(GOLD,)).model_copy(update={"image": str(path)})
    html = show(trace)._repr_html_()
    assert Collector(html).open == []
    assert "data:image/webp" in html
    assert "A. a star" in html


def test_a_notebook_without_the_picture_says_how_to_give_it() -> None:
    trace = make_trace(make_sample("a"), letter="A")
    assert "show(trace, image=...)" in show(trace).html
    assert "data:image/webp" in show(trace, image=make_sample("a").image).html


def test_a_trace_as_text_has_boxes_in_pixels() -> None:
    text = render_text(make_trace(make_sample("a"), letter="A", boxes=(GOLD,)))
    assert "answer:   A. a star" in text
    assert "box:      (64, 48, 192, 144) px sail" in text
    assert repr(show(make_trace(make_sample("a"), letter=None))).startswith(
        "question: What is on the sail?\nanswer:   no"
    )


def test_a_broken_picture_is_reported_by_save(tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        save_trace(tmp_path, make_trace(make_sample("a"), letter="A"), FileImage(tmp_path / "gone.png"))
