"""The page of `p2r serve` as people use it: in a hurry, on a phone, in any language, with servers that fail."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from p2r import P2R
from p2r.errors import ModelError
from p2r.serving.settings import Limits
from tests.fakes.browser import Browser, Page, launch
from tests.fakes.served_page import (
    QUESTION,
    Watched,
    ask,
    begin,
    choose,
    draw_photo,
    expect,
    measure,
    visit,
    wait_until,
)

pytestmark = pytest.mark.slow

Route = Any
"""Playwright's, a request of the page."""
OPTIONS = ["a fish, large", "a star"]
ASK = "**/v1/chat/completions"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launch() as browser:
        yield browser


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_photo(tmp_path_factory.mktemp("photos") / "boat.png")


def drag(page: Page, *points: tuple[float, float]) -> None:
    """Move the pressed pointer along points, parts of the image's width and height."""
    image = page.locator("#full").bounding_box()
    for number, (x, y) in enumerate(points):
        page.mouse.move(image["x"] + x * image["width"], image["y"] + y * image["height"], steps=3)
        if number == 0:
            page.mouse.down()
    page.mouse.up()


def hold(page: Page, pattern: str) -> list[Route]:
    """Keep the page's requests of one kind from the server; give them."""
    held: list[Route] = []

    def keep(route: Route) -> None:
        held.append(route)

    page.route(pattern, keep)
    return held


def reply_with(page: Page, reply: Mapping[str, object]) -> None:
    """Reply in the server's place."""

    def fulfill(route: Route) -> None:
        route.fulfill(**reply)

    page.route(ASK, fulfill)


def find_style(page: Page, selector: str, name: str) -> str:
    return page.evaluate("([what, name]) => getComputedStyle(document.querySelector(what))[name]", [selector, name])


def test_answers_to_choose_from_give_the_answer_of_p2r_ask(browser: Browser, photo: Path) -> None:
    replies = "<think>It is a star.</think><answer>B</answer>"
    model, offline = Watched(reply=replies), Watched(reply=replies)
    answer = str(P2R(offline).ask(photo, QUESTION, options=OPTIONS).answer)
    with visit(browser, model) as page:
        choose(page, photo)
        options = page.get_by_label("Answers to choose from, if any, one a line")
        options.fill("a fish, large\n\n a star \n")
        turn = ask(page)
        expect(turn.locator(".own .answer")).to_have_text(answer)
        assert answer == "B. a star"
        assert [(each.role, each.text) for each in model.asked] == [(each.role, each.text) for each in offline.asked]
        expect(turn.locator(".given")).to_have_text("a fish, large · a star")
        expect(options).to_have_value("")
        page.get_by_role("button", name="Correct the boxes").click()
        page.get_by_role("button", name="Ask with these boxes").click()  # the same question, with its options
        expect(page.locator(".turn .own .answer")).to_have_text([answer, answer])
        assert model.asked[-1].text == offline.asked[-1].text
        page.get_by_label("Compare with one look").check()
        options.fill("a star\na fish")
        turn = ask(page, "And what is below it?")
        expect(turn.locator(".direct .answer")).to_have_text("B. a fish")
        assert [each.text for each in model.asked[-1].turns if each.role == "assistant"] == [answer, answer]
        page.get_by_label("Model").select_option("m")
        expect(options).to_be_disabled()
        options.evaluate("each => (each.value = 'a fish')")
        expect(ask(page).locator(".given")).to_be_hidden()
        page.get_by_role("button", name="Draw boxes").click()
        page.get_by_role("button", name="Add a box").click()
        turn = ask(page, "And here?")
        expect(turn.locator(".own h3")).to_have_text("two looks")
        expect(turn.locator(".given")).to_be_hidden()


def test_a_failed_question_and_its_options_can_be_sent_again(browser: Browser, photo: Path) -> None:
    model = Watched()
    model.error = ModelError("gone")
    with visit(browser, model) as page:
        choose(page, photo)
        page.get_by_label("Answers to choose from").fill("a\nb")
        page.get_by_role("button", name="Draw boxes").click()
        drag(page, (0.2, 0.2), (0.4, 0.5))
        turn = ask(page)
        expect(turn.get_by_role("alert")).to_have_text("The model failed; the server's log says why.")
        expect(turn.locator(".own")).to_be_hidden()
        expect(page.get_by_label("Answers to choose from")).to_have_value("a\nb")
        expect(page.locator("#stage .box")).to_have_count(1)
        page.get_by_role("button", name="Correct the boxes").click()
        model.error = None
        expect(ask(page).locator(".look .state")).to_have_text("Your boxes")


def test_what_is_drawn_is_what_is_asked_with_and_earlier_questions_are_kept(browser: Browser, photo: Path) -> None:
    model = Watched()
    with visit(browser, model) as page:
        choose(page, photo)
        ask(page, "What is this?")
        ask(page)
        page.get_by_role("button", name="Correct the boxes").click()
        drag(page, (0.2, 0.25), (0.3, 0.3))  # the model's box
        page.get_by_label("Your question").fill(QUESTION)
        page.keyboard.press("Enter")
        turn = page.locator(".turn").first
        expect(turn.locator(".look .state")).to_have_text("Your boxes")
        expect(turn.locator(".own .answer")).to_have_text("a star")
        expect(turn.locator(".boxes li")).to_have_text("sail x 160–320, y 100–180")
        turns = model.asked[-1].turns
        assert [each.role for each in turns] == ["user", "assistant", "user"]  # its own first answer is left out
        assert turns[0].text == "What is this?"
        page.get_by_role("button", name="Correct the boxes").click()
        page.get_by_role("button", name="Ask", exact=True).click()  # without a new question, the last one again
        expect(page.locator(".turn h2")).to_have_text([QUESTION, QUESTION, QUESTION, "What is this?"])
        expect(page.locator(".turn").first.locator(".own .answer")).to_have_text("a star")
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.locator("#problem")).to_have_text("Write a question first.")
        page.get_by_role("button", name="Correct the boxes").click()
        page.get_by_role("button", name="Remove all").click()
        page.get_by_role("button", name="Ask with these boxes").click()
        expect(page.locator("#problem")).to_have_text("Draw a box first.")


def test_boxes_are_drawn_from_outside_and_from_edge_to_edge_and_clicks_draw_none(browser: Browser, photo: Path) -> None:
    with visit(browser) as page:
        choose(page, photo)
        page.get_by_role("button", name="Draw boxes").click()
        drag(page, (0.3, 0.3), (0.303, 0.302))
        expect(page.locator(".editable")).to_have_count(0)
        drag(page, (0.8, 0.9), (1.2, 1.4))
        assert measure(page, ".editable") == pytest.approx([800, 900, 1000, 1000], abs=4)
        drag(page, (0.5, 0.1), (0.5, 0.6))  # of no width
        page.set_viewport_size({"width": 600, "height": 400})
        page.evaluate("scrollTo({ top: 0, behavior: 'instant' })")
        page.wait_for_function("() => document.getElementById('full').clientWidth < 500")
        drag(page, (1.05, 0.1), (1.07, 0.6))  # all of it beside the image
        page.set_viewport_size({"width": 1200, "height": 800})
        page.wait_for_function("() => document.getElementById('full').clientWidth > 550")
        boxes = page.locator(".editable")
        expect(boxes).to_have_count(3)
        assert all(boxes.nth(number).bounding_box()["width"] > 0 for number in range(3))
        for _ in range(6):
            page.get_by_role("button", name="Zoom in").click()
        drag(page, (0.45, 0.5), (0.452, 0.504))  # small on the image, large on the screen
        expect(boxes).to_have_count(4)
        turn = ask(page)
        expect(turn.locator(".boxes li")).to_have_count(4)
        expect(turn.locator(".own .answer")).to_have_text("a star")


def test_more_boxes_than_a_request_may_have_are_refused_and_stay(browser: Browser, photo: Path) -> None:
    many = [{"bbox_2d": [10 * number, 10, 10 * number + 9, 100]} for number in range(64)]
    with visit(browser, Watched(json.dumps(many))) as page:
        choose(page, photo)
        ask(page)
        page.get_by_role("button", name="Correct the boxes").click()
        page.get_by_role("button", name="Add a box").click()
        page.get_by_role("button", name="Ask with these boxes").click()
        expect(page.locator("#problem")).to_have_text("65 boxes are drawn: a question takes 64 at most.")
        page.keyboard.press("Tab")
        page.locator(".editable").last.press("Delete")
        page.get_by_role("button", name="Ask with these boxes").click()
        expect(page.locator(".turn").first.locator(".look .state")).to_have_text("Your boxes")


def test_on_a_phone_boxes_are_seen_and_drawn_by_touch(browser: Browser, photo: Path) -> None:
    with visit(browser, has_touch=True, is_mobile=True) as page:
        page.set_viewport_size({"width": 375, "height": 667})
        choose(page, photo)
        ask(page)
        page.get_by_role("button", name="Correct the boxes").tap()
        expect(page.locator(".editable")).to_be_visible()
        assert measure(page, ".editable") == pytest.approx([100, 200, 300, 400], abs=2)
        page.evaluate("document.getElementById('view').scrollIntoView({ behavior: 'instant' })")
        image, touch = page.locator("#full").bounding_box(), page.context.new_cdp_session(page)
        for kind, part in (("touchStart", 0.5), ("touchMove", 0.6), ("touchMove", 0.8)):
            x, y = image["x"] + part * image["width"], image["y"] + part * image["height"]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        expect(page.locator(".editable")).to_have_count(2)
        assert measure(page, ".editable:last-child") == pytest.approx([500, 500, 800, 800], abs=8)
        middle, y = image["x"] + image["width"] / 2, image["y"] + image["height"] / 2
        for kind, apart in (
            ("touchStart", 30),
            ("touchMove", 45),
            ("touchMove", 60),
        ):  # two fingers zoom, and draw nothing
            points = [{"x": middle + side * apart, "y": y, "id": max(side, 0)} for side in (-1, 1)]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        page.wait_for_function("() => document.getElementById('full').clientWidth > 600")
        expect(page.locator(".editable")).to_have_count(2)


def test_a_double_click_asks_once_and_stops_nothing(browser: Browser, photo: Path) -> None:
    model = Watched()
    model.may_look.clear()
    with visit(browser, model) as page:
        choose(page, photo)
        page.get_by_label("Your question").fill(QUESTION)
        page.get_by_role("button", name="Ask", exact=True).dblclick()
        page.get_by_label("Your question").fill("And then?")
        page.keyboard.press("Enter")  # it waits for the first
        expect(page.locator("#stop")).to_be_visible()
        model.may_look.set()
        expect(page.locator(".turn .own .answer")).to_have_text("a star")
        expect(page.get_by_label("Your question")).to_have_value("And then?")


def test_two_quick_questions_before_the_models_are_known_are_one(browser: Browser, photo: Path) -> None:
    with visit(browser) as page:
        choose(page, photo)
        expect(page.locator("#model option")).to_have_count(6)
        held = hold(page, "**/v1/models")
        page.reload()
        choose(page, photo)
        page.get_by_label("Your question").fill(QUESTION)
        for _ in range(2):
            page.keyboard.press("Enter")
        wait_until(page, lambda: len(held) >= 3)
        for route in held:
            route.continue_()
        expect(page.locator(".turn .own .answer")).to_have_text("a star")
        expect(page.locator(".turn")).to_have_count(1)


def test_the_page_stays_where_a_reader_has_scrolled_when_the_answer_comes(browser: Browser, photo: Path) -> None:
    model = Watched()
    with visit(browser, model, has_touch=True, is_mobile=True) as page:
        page.set_viewport_size({"width": 375, "height": 500})
        choose(page, photo)
        model.may_answer.clear()
        page.get_by_label("Your question").fill(QUESTION)
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.locator(".turn .boxes li")).to_have_count(1)
        page.evaluate("scrollTo({ top: document.body.scrollHeight, behavior: 'instant' })")
        before = page.evaluate("scrollY")
        assert page.locator("#go").evaluate("each => each.parentElement.getBoundingClientRect().bottom") < 0
        model.may_answer.set()
        expect(page.locator(".turn .own .answer")).to_have_text("a star")
        expect(page.get_by_role("button", name="Ask", exact=True)).to_be_focused()
        assert page.evaluate("scrollY") >= before


def test_a_problem_is_in_sight_on_a_phone(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with visit(browser, has_touch=True, is_mobile=True) as page:
        page.set_viewport_size({"width": 375, "height": 500})
        page.locator("#choose").set_input_files(tmp_path / "notes.txt")
        expect(page.locator("#problem")).to_have_text(re.compile("^notes.txt is not an image"))
        expect(page.locator("#problem")).to_be_in_viewport()


def test_another_image_can_be_thought_better_of(browser: Browser, photo: Path) -> None:
    with visit(browser) as page:
        expect(page.get_by_role("button", name="Back to the image")).to_be_hidden()
        choose(page, photo)
        page.get_by_role("button", name="Another image").click()
        expect(page.locator("#choose")).to_be_focused()
        page.get_by_role("button", name="Back to the image").click()
        expect(page.locator("#full")).to_be_visible()
        page.get_by_role("button", name="Another image").click()
        expect(ask(page).locator(".own .answer")).to_have_text("a star")  # about the image that it shows again
        expect(page.locator("#full")).to_be_visible()


def test_a_new_image_in_the_middle_of_an_answer_begins_anew(browser: Browser, photo: Path, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    model = Watched()
    with visit(browser, model) as page:
        choose(page, photo)
        fresh = page.get_by_label("Your question").get_attribute("placeholder")
        ask(page)
        model.may_answer.clear()
        num_asked = len(model.asked_as("reasoner"))
        page.get_by_label("Your question").fill("And now?")
        page.keyboard.press("Enter")
        expect(page.locator(".turn")).to_have_count(2)
        wait_until(page, lambda: len(model.asked_as("reasoner")) > num_asked)
        page.locator("#choose").set_input_files(tmp_path / "red.png")
        expect(page.locator("#facts")).to_have_text("red.png, 40 × 30 pixels")
        expect(page.locator(".turn")).to_have_count(0)
        expect(page.locator("#stage .box")).to_have_count(0)
        expect(page.locator("#stop")).to_be_hidden()
        expect(page.get_by_label("Your question")).to_have_attribute("placeholder", fresh)
        wait_until(page, lambda: model.num_cancelled > 0)
        model.may_answer.set()
        expect(ask(page).locator(".own .answer")).to_have_text("a star")
        assert [each.role for each in model.asked[-1].turns] == ["user"]


def test_of_two_images_the_one_chosen_last_is_shown(browser: Browser, photo: Path, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    with visit(browser) as page:
        page.evaluate(
            """() => {
              const decode = HTMLImageElement.prototype.decode;
              const first = new Promise((resolve) => (window.release = resolve));
              HTMLImageElement.prototype.decode = function () {
                HTMLImageElement.prototype.decode = decode;
                return first.then(() => decode.call(this));
              };
            }"""
        )
        page.locator("#choose").set_input_files(tmp_path / "red.png")
        page.wait_for_function("() => !String(HTMLImageElement.prototype.decode).includes('first')")
        choose(page, photo)
        page.evaluate("release()")
        page.wait_for_timeout(300)
        expect(page.locator("#facts")).to_have_text("boat.png, 800 × 400 pixels")


@pytest.mark.parametrize(
    ("mode", "heading"),
    [
        ("p2r/m", "Two looks"),
        ("m", "As it is"),
        ("m:direct", "One look, at once"),
        ("m:thinking", "One look, step by step"),
        ("m:tools", "Zooms as it likes"),
    ],
)
def test_a_card_says_how_it_was_asked(mode: str, heading: str, browser: Browser, photo: Path) -> None:
    with visit(browser) as page:
        choose(page, photo)
        page.get_by_label("Model").select_option(mode)
        turn = ask(page)
        assert turn.locator(".own h3").inner_text().lower() == heading.lower()
        assert turn.locator(".look").is_visible() == (mode == "p2r/m")
        assert turn.get_by_role("button", name="Boxes on the image").is_visible() == (mode == "p2r/m")
        if mode not in ("m", "p2r/m"):
            turn.get_by_text("Prompts and replies").click()
            assert turn.locator("dt").all_inner_texts() == ["Asked", "Reply"]


def test_a_reply_without_words_is_said_to_be_none(browser: Browser, photo: Path) -> None:
    with visit(browser, Watched(reply="")) as page:
        choose(page, photo)
        expect(ask(page).locator(".own .answer")).to_have_text("No answer")
        ask(page, "And now?")
        expect(page.locator(".turn")).to_have_count(2)


def test_texts_run_in_the_direction_of_their_language(browser: Browser, photo: Path) -> None:
    arabic = "ما هو مكتوب على الشراع؟"
    look = json.dumps([{"bbox_2d": [100, 200, 300, 400], "label": arabic}])
    with visit(browser, Watched(look, f"<think>{arabic}</think><answer>{arabic}</answer>")) as page:
        choose(page, photo)
        page.get_by_label("Your question").fill(arabic)
        assert find_style(page, "#question", "direction") == "rtl"
        turn = ask(page, arabic)
        expect(turn.locator(".own .answer")).to_have_text(arabic)
        turn.get_by_text("Prompts and replies").click()
        for place in (".turn h2", ".own .answer", ".thought", ".boxes b", "#stage .box span"):
            assert find_style(page, place, "direction") == "rtl", place
        assert find_style(page, "dd", "direction") == "ltr"  # it begins in English
        expect(ask(page, "帆上有什么?").get_by_role("heading", level=2)).to_have_text("帆上有什么?")
        assert find_style(page, ".turn h2", "direction") == "ltr"


def test_a_name_without_spaces_stays_within_its_column(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / ("long_name_" * 20 + ".png")
    Image.new("RGB", (40, 30), "red").save(path)
    with visit(browser, has_touch=True, is_mobile=True) as page:
        page.set_viewport_size({"width": 320, "height": 600})
        page.locator("#choose").set_input_files(path)
        expect(page.locator("#facts")).to_have_text(f"{path.name}, 40 × 30 pixels")
        assert page.evaluate("document.documentElement.scrollWidth") == 320
        ask(page, "why" * 200)
        assert page.evaluate("document.documentElement.scrollWidth") == 320
        right = page.evaluate(
            "Math.max(...[...document.querySelectorAll('form *')].map((e) => e.getBoundingClientRect().right))"
        )
        assert right <= 304


def test_what_is_transparent_is_white_as_the_model_sees_it(browser: Browser, tmp_path: Path) -> None:
    Image.new("RGBA", (40, 30), (0, 0, 0, 0)).save(tmp_path / "boat.png")
    model = Watched()
    with visit(browser, model, color_scheme="dark") as page:
        page.locator("#choose").set_input_files(tmp_path / "boat.png")
        expect(page.locator("#full")).to_be_visible()
        ask(page)
        assert model.asked[0].images[0].getpixel((0, 0)) == (255, 255, 255)
        assert find_style(page, "#full", "backgroundColor") == "rgb(255, 255, 255)"


def test_a_photo_held_upright_has_its_boxes_where_they_are_seen(browser: Browser, tmp_path: Path) -> None:
    image, exif = Image.new("RGB", (400, 200), "white"), Image.Exif()
    image.paste("red", (0, 0, 100, 100))
    exif[0x0112] = 6  # to be turned by a quarter to the right
    image.save(tmp_path / "photo.jpg", exif=exif)
    model = Watched()
    with visit(browser, model) as page:
        page.locator("#photo").set_input_files(tmp_path / "photo.jpg")
        expect(page.locator("#facts")).to_have_text("photo.jpg, 200 × 400 pixels")
        expect(ask(page).locator(".boxes li")).to_have_text("sail x 20–60, y 80–160")
        seen = model.asked[0].images[0]
        pixel: Any = seen.getpixel((seen.width - 9, 9))
        assert seen.width < seen.height and pixel[1] < 60  # the red corner is on the right


def test_boxes_keep_their_colors_where_a_person_chose_all_others(browser: Browser, photo: Path) -> None:
    with visit(browser, forced_colors="active") as page:
        choose(page, photo)
        ask(page)
        assert find_style(page, "#stage .box", "borderTopColor") == "rgb(255, 0, 0)"
        assert find_style(page, ".crops img", "borderTopColor") == "rgb(255, 0, 0)"
        assert find_style(page, ".see", "backgroundColor") != find_style(page, ".save", "backgroundColor")


def test_on_paper_are_the_answers_without_the_controls(browser: Browser, photo: Path) -> None:
    with visit(browser) as page:
        choose(page, photo)
        turn = ask(page)
        expect(turn.locator("dd").first).to_be_hidden()
        for _ in range(5):
            page.get_by_role("button", name="Zoom in").click()
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        expect(turn.locator("dd").first).to_be_visible()
        expect(turn.locator(".own .answer")).to_be_visible()
        for control in ("#ask", "#tools", ".turn .buttons"):
            expect(page.locator(control)).to_be_hidden()
        assert page.locator("#view").evaluate("each => each.clientWidth == document.getElementById('full').clientWidth")
        assert measure(page, "#stage .box") == pytest.approx([100, 200, 300, 400], abs=2)
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        expect(turn.locator("dd").first).to_be_hidden()


def send(*chunks: object, end: str = "data: [DONE]\n\n") -> dict[str, str]:
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + end
    return {"content_type": "text/event-stream", "body": body}


LOOKED = {
    "choices": [{"delta": {"content": ""}}],
    "p2r": {
        "stage": "look",
        "state": "found",
        "boxes": [{"label": "sail", "pixels": [80, 80, 240, 160], "per_mille": [100, 200, 300, 400]}],
    },
}


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (send(LOOKED, end=""), "The reply broke off before its end."),
        (
            send(LOOKED, {"error": {"message": "the model's server sent no answer"}}),
            "The model's server sent no answer.",
        ),
        (send(LOOKED, {"error": {}}), "The model failed."),
        ({"status": 502, "json": {"error": {"message": "no server answers"}}}, "No server answers."),
        ({"status": 503, "body": "<html>"}, "The server replied with status 503."),
    ],
)
def test_a_server_that_fails_in_either_stage_is_quoted(
    reply: Mapping[str, object], said: str, browser: Browser, photo: Path
) -> None:
    with visit(browser) as page:
        choose(page, photo)
        reply_with(page, reply)
        turn = ask(page)
        expect(turn.get_by_role("alert")).to_have_text(said)
        assert "…" not in turn.inner_text()  # nothing seems to go on
        expect(page.get_by_label("Your question")).to_have_value(QUESTION)
        page.unroute(ASK)
        expect(ask(page).locator(".own .answer")).to_have_text("a star")


def test_chunks_without_choices_are_read(browser: Browser, photo: Path) -> None:
    with visit(browser) as page:
        choose(page, photo)
        page.get_by_label("Model").select_option("m")
        usage = {"usage": {"total_tokens": 1234}}
        reply_with(page, send({"choices": [{"delta": {"content": "a boat"}}]}, {}, usage))
        turn = ask(page)
        expect(turn.locator(".own .answer")).to_have_text("a boat")
        expect(turn.locator(".own .cost")).to_have_text(re.compile("1,234 tokens$"))


def test_a_full_server_says_so(browser: Browser, photo: Path) -> None:
    model = Watched()
    model.may_look.clear()
    with visit(browser, model, limits=Limits(num_at_once=1, num_waiting=0)) as page:
        choose(page, photo)
        page.get_by_label("Compare with one look").check()
        page.get_by_label("Your question").fill(QUESTION)
        page.keyboard.press("Enter")
        expect(page.locator(".turn .direct .cost")).to_have_text("Too many requests are waiting.")
        model.may_look.set()
        expect(page.locator(".turn .own .answer")).to_have_text("a star")


def test_leaving_the_page_ends_the_work(browser: Browser, photo: Path) -> None:
    model = Watched()
    model.may_answer.clear()
    with visit(browser, model) as page:
        begin(page, photo, model)
        expect(page.locator(".turn .boxes li")).to_have_count(1)
        page.reload()
        wait_until(page, lambda: model.num_cancelled > 0)
        model.may_answer.set()
        expect(page.locator(".turn")).to_have_count(0)
        choose(page, photo)
        expect(ask(page).locator(".own .answer")).to_have_text("a star")


def test_the_evidence_is_written_once_while_it_is_waited_for(browser: Browser, photo: Path) -> None:
    with visit(browser) as page:
        choose(page, photo)
        turn, asked = ask(page), hold(page, "**/v1/evidence")
        save = turn.locator(".save")
        save.click()
        expect(save).to_have_text("Writing the evidence …")
        save.click()
        assert len(asked) == 1
        asked[0].fulfill(status=429, json={"error": {"message": "too many wait"}})
        expect(page.locator("#problem")).to_have_text("Too many wait.")
        expect(save).to_have_text("Download the evidence")
