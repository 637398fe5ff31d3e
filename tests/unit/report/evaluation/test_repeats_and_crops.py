"""The page of runs that asked each question several times, and of runs that showed the data's own crops."""

from __future__ import annotations

import re
from base64 import b64decode
from io import BytesIO
from typing import cast

from PIL import Image

from p2r.evaluation.scoring import score_run
from p2r.images.load import MemoryImage
from p2r.modes import Mode
from p2r.report.evaluation.gallery import QuestionView, view_questions
from p2r.report.evaluation.page import build_report, write_lede
from p2r.report.evaluation.sections import Section
from p2r.runs.evaluation import RunSettings, make_run
from tests.fakes.reports import HEADLINE, answer_all, make_sample, make_trace
from tests.fakes.systems import ask


def repeat(letters: str, num: int) -> Section:
    run = ask("vstar", letters, num=num, mode="thinking", samples=len(letters) // num, temperature=1.0)
    return Section("vstar", (run,), ("Mine",), 0, {})


def test_several_replies_to_a_question_have_a_section_with_a_picture() -> None:
    html = build_report([repeat("AAAB" * 3 + "BBBB", 4)], HEADLINE)
    assert "<h3>Several replies to each question</h3>" in html
    assert "Replies to the same question: Mine" in html and "majority vote" in html
    assert 'aria-label="Questions with 0 to 4 right replies: 1, 0, 0, 3, 0"' in html
    assert [f'title="{k} of 4 right: {n}"' in html for k, n in enumerate((1, 0, 0, 3, 0))] == [True] * 5
    assert "height:64.0px" in html and "height:21.3px" in html
    assert "Mine answers 56.2% of 4 questions, asked 4 times each, correctly" in write_lede(
        [repeat("AAAB" * 3 + "BBBB", 4)]
    )
    assert "Several replies" not in build_report([answer_all([make_sample("a")], "A", "B")], HEADLINE)


def test_many_replies_have_a_picture_without_numbers_in_the_way() -> None:
    html = build_report([repeat("AB" * 16, 2)], HEADLINE)
    picture = html.partition('<figure class="spread"')[2].partition("</figure>")[0]
    assert picture.count("<i ") == 17 and picture.count("<small>") == 0
    assert re.findall(r"<span>(\d+)</span>", picture) == ["0", "16"]


def test_runs_of_unlike_numbers_of_replies_are_named_and_not_paired() -> None:
    several, one = repeat("AAAB" * 4, 4).runs[0], ask("vstar", "AABB")
    html = build_report([Section("vstar", (several, one), ("Mine", "Once"), 0, {})], HEADLINE)
    assert "Once is not compared with Mine: it has 1 reply to each question, not 4." in html


def pair_with_crop(*modes: Mode) -> Section:
    """A question whose image is blue, and whose crop is red."""
    sample = make_sample("a")
    crop = Image.new("RGB", (80, 40), "red")
    runs = [
        score_run(
            make_run(
                [sample],
                [make_trace(sample, image_wh=(80, 40) if mode == "paired-crop" else (640, 480))],
                RunSettings(benchmark="zoombench", mode=mode),
            )
        )
        for mode in modes
    ]
    return Section("zoombench", tuple(runs), modes, len(modes) - 1, {"a": sample.image}, crops={"a": MemoryImage(crop)})


def list_colors(question: QuestionView) -> tuple[list[str], list[str]]:
    """The colors of the whole image, and of the crops."""
    assert question.evidence is not None, question.problem
    crops = [crop.after.uri for run in question.evidence.runs for crop in run.crops]
    return [name_color(question.evidence.full.uri)], [name_color(uri) for uri in crops]


def name_color(uri: str) -> str:
    image = Image.open(BytesIO(b64decode(uri.partition(",")[2]))).convert("RGB")
    red, _, blue = cast("tuple[int, int, int]", image.getpixel((5, 5)))
    return "red" if red > blue else "blue"


def test_a_run_of_paired_crops_shows_the_crop_that_its_model_saw() -> None:
    [alone] = view_questions([pair_with_crop("paired-crop")], ["paired-crop"])
    assert list_colors(alone) == (["red"], [])
    assert alone.evidence is not None and not alone.evidence.has_gold
    assert alone.evidence.remark == "the data's own crop, in place of the image"
    [both] = view_questions([pair_with_crop("direct", "paired-crop")], ["direct", "paired-crop"])
    assert list_colors(both) == (["blue"], ["red"])
    assert both.evidence is not None and both.evidence.has_gold and not both.evidence.remark
    html = build_report([pair_with_crop("direct", "paired-crop")], HEADLINE)
    assert "In place of the image, for paired-crop</b> the data's own crop, 80 × 40 pixels" in html
