"""The page of questions that `p2r ask` answered."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

from PIL import Image

from p2r.report.asked.page import build_asked_report, find_image, write_counts
from p2r.report.kit.saved_image import SavedImage
from p2r.report.trace import save_trace
from p2r.runs.asked import AskedPlace, AskedQuestions
from p2r.types import Answer, Completion, Failure, Trace, Verdict
from tests.fakes.reports import BUDGET, GOLD, Collector, make_sample, make_trace

IMAGE = make_sample("a").image


def ask(*ids: str, **changes: object) -> list[Trace]:
    """Traces of questions whose right answer nobody knows."""
    traces = [make_trace(make_sample(id), boxes=(GOLD,)) for id in ids]
    return [trace.model_copy(update={"target": None, "verdict": None, **changes}) for trace in traces]


def build(*traces: Trace, name: str = "photos") -> str:
    place = AskedPlace(working_directory="/nowhere", budget=BUDGET)
    images = {trace.sample_id: IMAGE for trace in traces}
    return build_asked_report([AskedQuestions(name, tuple(traces), place=place)], images=images)


def test_the_page_of_one_question_has_its_image_boxes_crops_reply_and_cost() -> None:
    html = build(*ask("a"))
    page = Collector(html)
    assert page.open == []
    assert html.count("<article") == 1
    assert "<h1>What is on the sail?</h1>" in html and '<p class="lede">A. a star</p>' in html
    alts = [attributes.get("alt") or "" for tag, attributes in page.tags if tag == "img"]
    assert alts == [
        "The whole image as the model sees it",
        "The whole image with the boxes",
        "Crop 1 (sail) as one look shows it",
        "Crop 1 (sail) as the second look shows it",
    ]
    assert "&lt;answer&gt;<mark>A</mark>&lt;/answer&gt;" in html
    assert "Cost: 0 visual tokens" in html
    sources = [attributes.get("src") or attributes.get("href") or "" for _, attributes in page.tags]
    assert all(source.startswith(("data:image/webp;base64,", "#")) for source in sources if source)


def test_an_answer_that_nobody_judged_has_no_mark_and_one_with_a_target_has() -> None:
    assert 'class="mark' not in build(*ask("a"))
    assert 'class="mark right"' in build(make_trace(make_sample("a"), boxes=(GOLD,)))


def test_a_batch_counts_failures_and_unread_replies_apart() -> None:
    failed = Trace(
        sample_id="f",
        image="f.png",
        question="What?",
        failure=Failure(stage="image", kind="ImageError", message="empty"),
    )
    unread = ask("u", answer=Answer(text=None), reasoning=Completion(text="Hm.", finish_reason="length", model="m"))
    traces = [*ask("a", "b"), failed, *unread]
    html = build(*traces)
    assert "2 of 4 questions answered, 1 without a readable answer, 1 failed." in html
    assert "No readable answer <span>1</span>" in html and "Failed <span>1</span>" in html
    assert "The reply was cut off at the token limit." in html
    assert "<h1>photos</h1>" in html


def test_the_counts_say_the_accuracy_only_where_targets_are_known() -> None:
    right = make_trace(make_sample("a"))
    wrong = right.model_copy(update={"verdict": Verdict(correct=False, score=0.0, judge="choice")})
    assert write_counts([right]).endswith("100.0% right: 1 of 1 with a target (95% interval 20.7 to 100.0%).")
    assert "50.0% right: 1 of 2 with a target" in write_counts([right, wrong, *ask("a")])
    assert write_counts(ask("a")) == "1 of 1 question answered."


def test_relative_images_begin_where_the_command_was_called(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    IMAGE.load().save(tmp_path / "photos" / "a.png")
    (trace,) = ask("a", image="photos/a.png")
    place = AskedPlace(working_directory=str(tmp_path))
    found = find_image(AskedQuestions("x", (trace,), place=place), trace)
    assert found is not None and found.load().size == (640, 480)
    assert find_image(AskedQuestions("x", (trace,)), trace) is None


def test_an_image_that_is_gone_is_replaced_by_what_was_saved(tmp_path: Path) -> None:
    (trace,) = ask("a", image="gone.png")
    save_trace(tmp_path, trace, IMAGE)
    Image.new("RGB", trace.evidence.crops[0][2:], "red").save(tmp_path / "crop_1.png")  # type: ignore[union-attr]
    place = AskedPlace(working_directory="/nowhere", budget=BUDGET)
    group = AskedQuestions("x", (trace,), place=place, saved={"a": tmp_path})
    assert find_image(group, trace) == SavedImage(tmp_path)
    html = build_asked_report([group])
    annotated, crop = (
        Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r"data:image/webp;base64,([^\"]+)", html)
    )
    red, green, blue = crop.convert("RGB").getpixel((crop.width // 2, crop.height // 2))  # type: ignore[misc]
    assert red > 200 and green < 50 and blue < 50, "the saved crop, not one cut out of the annotated image"
    assert annotated.size == (640, 480)
    assert "this is its saved copy, with the boxes drawn on it" in html
    other = trace.model_copy(update={"question": "Who?"})
    assert find_image(group, other) is None, "these are the images of another question"


def test_folders_of_questions_are_named_on_the_cards() -> None:
    groups = [AskedQuestions(name, tuple(ask("a"))) for name in ("runs/one", "runs/two")]
    html = build_asked_report(groups, images={"a": IMAGE}, problems=["left out runs/three: it is broken"])
    assert "every folder" in html and "left out runs/three: it is broken" in html
    assert [a["data-benchmark"] for tag, a in Collector(html).tags if tag == "article"] == ["runs/one", "runs/two"]
