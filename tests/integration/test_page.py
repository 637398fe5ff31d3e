"""The page of `p2r serve` in a real browser: by keyboard, pointer and touch, in front of the real server."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p2r.benchmarks.needles import Needles
from p2r.errors import ModelError
from p2r.models.load import load_model
from p2r.serving.page import EXAMPLES
from tests.fakes.browser import Browser, launch, open_page
from tests.fakes.served import ANSWER, BOX, Reply, data_url, serve, show, user
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launch() as browser:
        yield browser


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_photo(tmp_path_factory.mktemp("photos") / "boat.png")


def test_a_question_is_asked_by_keyboard_alone_and_both_stages_are_seen(browser: Browser, photo: Path) -> None:
    model = Watched()
    model.may_look.clear()
    model.may_answer.clear()
    with visit(browser, model) as page:
        with page.expect_file_chooser() as chosen:
            page.keyboard.press("Tab")
            expect(page.locator("#choose")).to_be_focused()
            page.keyboard.press("Enter")
        chosen.value.set_files(photo)
        expect(page.get_by_label("Your question")).to_be_focused()
        page.keyboard.type(QUESTION)
        page.keyboard.press("Enter")
        status, turn = page.get_by_role("status"), page.locator(".turn")
        expect(status).to_have_text("Looking.")
        expect(turn.locator(".look .state")).to_have_text("Looking …")
        assert page.locator("#stage .box").count() == 0
        model.may_look.set()
        expect(status).to_have_text("Looked: 1 box. Reading.")
        expect(turn.locator(".boxes li")).to_have_text("sail x 80–240, y 80–160")
        expect(page.locator("#stage .box span")).to_have_text("sail")
        assert measure(page, "#stage .box") == pytest.approx([100, 200, 300, 400], abs=1)
        assert measure(page, "#stage .box span")[3] == pytest.approx(200, abs=12)  # above it, where there is room
        assert turn.locator(".crops li").count() == 0
        model.may_answer.set()
        expect(status).to_have_text("Answer: a star")
        expect(turn.locator(".own .answer")).to_have_text("a star")
        expect(turn.locator(".own .cost")).to_have_text(re.compile(r"^\d+(\.\d)? s · [\d,]+ tokens$"))
        expect(turn.locator(".thought")).to_have_text("It is a star.")
        expect(turn.get_by_role("img", name="Crop 1 (sail), 320 by 160 pixels")).to_be_visible()
        turn.get_by_text("Prompts and replies").focus()
        page.keyboard.press("Enter")
        said = turn.locator("dd").all_inner_texts()
        assert "Locate the key visual evidence" in said[0] and "highlighted and cropped" in said[2]
        assert [said[1], said[3]] == [BOX, ANSWER]


def test_the_image_is_zoomed_and_moved_and_its_boxes_with_it(browser: Browser, photo: Path) -> None:
    with visit(browser) as page:
        choose(page, photo)
        ask(page)
        place = measure(page, "#stage .box")
        width = page.locator("#full").bounding_box()["width"]

        def zoom() -> float:
            assert measure(page, "#stage .box") == pytest.approx(place, abs=1.5)
            return page.locator("#full").bounding_box()["width"] / width

        page.locator("#view").focus()
        page.keyboard.press("+")
        assert zoom() == pytest.approx(1.4, abs=0.01)
        left = page.locator("#full").bounding_box()["x"]
        page.keyboard.press("ArrowRight")
        assert page.locator("#full").bounding_box()["x"] < left
        page.keyboard.press("0")
        assert zoom() == pytest.approx(1)
        page.get_by_role("button", name="Zoom in").click()
        page.get_by_role("button", name="Zoom in").click()
        page.get_by_role("button", name="Zoom out").click()
        assert zoom() == pytest.approx(1.4, abs=0.01)
        page.get_by_role("button", name="Whole image").click()
        box = page.locator("#stage .box").bounding_box()
        page.mouse.move(box["x"], box["y"])
        page.mouse.wheel(0, -150)
        page.wait_for_function("width => document.getElementById('full').clientWidth > 1.3 * width", arg=width)
        after = page.locator("#stage .box").bounding_box()
        assert (after["x"], after["y"]) == pytest.approx((box["x"], box["y"]), abs=2)  # what is under the pointer stays
        page.mouse.down()
        page.mouse.move(box["x"] - 60, box["y"] - 40, steps=3)
        page.mouse.up()
        moved = page.locator("#stage .box").bounding_box()
        assert (moved["x"], moved["y"]) == pytest.approx((after["x"] - 60, after["y"] - 40), abs=2)


def test_a_follow_up_needs_no_second_upload_and_knows_what_was_said(browser: Browser, photo: Path) -> None:
    model = Watched()
    with visit(browser, model) as page:
        choose(page, photo)
        ask(page)
        expect(page.get_by_label("Your question")).to_have_value("")
        ask(page, "And what color is it?")
        expect(page.locator(".turn")).to_have_count(2)
        turns = model.asked[-1].turns
        assert [turn.role for turn in turns] == ["user", "assistant", "user"]
        assert (turns[0].text, turns[1].text) == (QUESTION, "a star")
        assert "And what color is it?" in turns[2].text and len(turns[2].images) == 2
        page.get_by_label("Keep earlier questions in mind").uncheck()
        ask(page, "And how large?")
        assert [turn.role for turn in model.asked[-1].turns] == ["user"]
        first = page.locator(".turn").last
        expect(first.get_by_role("button", name="Boxes on the image")).to_have_attribute("aria-pressed", "false")
        first.get_by_role("button", name="Boxes on the image").click()
        expect(first.get_by_role("button", name="Boxes on the image")).to_have_attribute("aria-pressed", "true")


def test_a_box_is_drawn_by_hand_and_asked_with(browser: Browser, photo: Path) -> None:
    model = Watched()
    with visit(browser, model) as page:
        choose(page, photo)
        page.get_by_role("button", name="Draw boxes").click()
        image = page.locator("#full").bounding_box()
        page.mouse.move(image["x"] + 0.5 * image["width"], image["y"] + 0.9 * image["height"])
        page.mouse.down()
        page.mouse.move(image["x"] + 0.75 * image["width"], image["y"] + 0.25 * image["height"], steps=4)
        page.mouse.up()
        assert measure(page, ".editable") == pytest.approx([500, 250, 750, 900], abs=4)
        page.get_by_label("Your question").fill(QUESTION)
        page.get_by_role("button", name="Ask with these boxes").click()
        turn = page.locator(".turn")
        expect(turn.locator(".own .answer")).to_have_text("a star")
        expect(turn.locator(".look .state")).to_have_text("Your boxes")
        assert model.asked_as("perceiver") == []
        assert [image.size for image in model.asked_as("reasoner")[0].images] == [(800, 384), (352, 352)]


def test_boxes_of_the_model_are_corrected_by_keyboard(browser: Browser, photo: Path) -> None:
    model = Watched()
    with visit(browser, model) as page:
        choose(page, photo)
        ask(page)
        page.get_by_role("button", name="Correct the boxes").press("Enter")
        expect(page.get_by_role("button", name="Add a box")).to_be_focused()
        box = page.get_by_role("group", name=re.compile("^sail 1 of 1"))
        box.focus()
        for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Shift+ArrowRight", "Shift+ArrowDown"):
            page.keyboard.press(key)
        said = "sail 1 of 1: 12 to 33 per cent from the left, 21 to 42 from the top"
        expect(page.get_by_role("status")).to_have_text(said)
        page.get_by_role("button", name="Add a box").press("Enter")
        expect(page.get_by_role("group", name=re.compile("^Box 2 of 2: 33 to 67 per cent"))).to_be_focused()
        page.keyboard.press("Delete")
        expect(page.get_by_role("status")).to_have_text("Box removed.")
        expect(page.locator(".editable")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.locator(".editable")).to_have_count(0)
        expect(page.locator("#stage .box")).to_have_count(1)
        page.get_by_role("button", name="Correct the boxes").press("Enter")
        for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
            page.get_by_role("group", name=re.compile("^sail 1 of 1")).press(key)
        page.get_by_role("button", name="Ask with these boxes").press("Enter")  # the same question again
        expect(page.locator(".turn")).to_have_count(2)
        turn = page.locator(".turn").first
        expect(turn.locator(".boxes li")).to_have_text("sail x 96–256, y 84–164")
        expect(turn.get_by_role("heading", name=QUESTION)).to_be_visible()
        assert len(model.asked_as("perceiver")) == 1


def test_one_look_is_shown_beside_two(browser: Browser, photo: Path) -> None:
    with visit(browser) as page:
        choose(page, photo)
        page.get_by_label("Compare with one look").check()
        turn = ask(page)
        expect(turn.locator(".own .answer")).to_have_text("a star")
        expect(turn.locator(".direct .answer")).to_have_text("a fish")
        page.get_by_label("Model").select_option("m")
        turn = ask(page)
        expect(turn.locator(".own .answer")).to_have_text("a fish")
        expect(turn.locator(".stages")).to_be_hidden()
        options = page.get_by_label("Model").locator("option").all_inner_texts()
        assert options[0] == "p2r/m (two looks)" and len(options) == 6


ATTACK = "<img src=x onerror=\"alert('in')\"><script>alert('in')</script>"


def test_what_a_model_or_a_person_writes_stays_text(browser: Browser, photo: Path) -> None:
    look = json.dumps([{"bbox_2d": [100, 200, 300, 400], "label": ATTACK}])
    with visit(browser, Watched(look, f"<think>{ATTACK}</think><answer>{ATTACK}</answer>")) as page:
        choose(page, photo)
        turn = ask(page, ATTACK)
        for place in ("h2", ".own .answer", ".thought", ".boxes b"):
            expect(turn.locator(place)).to_have_text(ATTACK)
        expect(page.locator("#stage .box span")).to_have_text(ATTACK)
        assert page.locator('img[src="x"], .turn script').count() == 0


def test_even_a_hole_in_the_page_would_run_no_script(browser: Browser) -> None:
    """The policy is the second wall: what sets HTML, or loads from elsewhere, is refused by the browser."""
    with visit(browser) as page:
        for attempt in ("body.innerHTML = '<b>x</b>'", "createElement('script').text = 'alert(1)'"):
            assert (
                page.evaluate(f"() => {{ try {{ document.{attempt} }} catch (error) {{ return error.name }} }}")
                == "TypeError"
            )
        blocked = page.evaluate(
            """async () => {
              const told = new Promise((resolve) => addEventListener("securitypolicyviolation", resolve));
              fetch("http://localhost:1/").catch(() => {});
              return (await told).effectiveDirective;
            }"""
        )
        assert blocked == "connect-src"


def test_the_evidence_is_downloaded_as_a_page_of_its_own(browser: Browser, photo: Path, tmp_path: Path) -> None:
    with visit(browser) as page:
        choose(page, photo)
        turn = ask(page)
        with page.expect_download() as download:
            turn.get_by_role("button", name="Download the evidence").click()
        assert download.value.suggested_filename == "evidence.html"
        download.value.save_as(tmp_path / "evidence.html")
    with open_page(browser, (tmp_path / "evidence.html").as_uri(), offline=True) as evidence:
        expect(evidence.get_by_role("heading", name=QUESTION).first).to_be_visible()
        assert evidence.locator("figure.looked .box").count() == 1
        assert evidence.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")


def test_errors_are_one_clear_sentence(browser: Browser, photo: Path, tmp_path: Path) -> None:
    model = Watched()
    model.error = ModelError("the weights in /secret are gone")
    (tmp_path / "notes.png").write_text("no image")
    with visit(browser, model) as page:
        alert = page.locator("#problem")
        page.get_by_label("Your question").fill(QUESTION)
        page.keyboard.press("Enter")
        expect(alert).to_have_text("Choose an image first.")
        page.locator("#choose").set_input_files(tmp_path / "notes.png")
        expect(alert).to_have_text("notes.png is not an image that this browser can show: save it as PNG or JPEG.")
        choose(page, photo)
        expect(alert).to_be_hidden()
        turn = ask(page)
        expect(turn.get_by_role("alert")).to_have_text("The model failed; the server's log says why.")
        expect(page.get_by_label("Your question")).to_have_value(QUESTION)
        page.context.set_offline(True)
        turn = ask(page)
        expect(turn.get_by_role("alert")).to_have_text("The server cannot be reached.")


def test_a_question_can_be_stopped_and_its_work_ends(browser: Browser, photo: Path) -> None:
    model = Watched()
    model.may_answer.clear()
    with visit(browser, model) as page:
        begin(page, photo, model)
        expect(page.locator(".turn .boxes li")).to_have_count(1)
        page.get_by_role("button", name="Stop").press("Enter")
        expect(page.locator(".turn .problem")).to_have_text("Stopped.")
        expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()
        wait_until(page, lambda: model.num_cancelled > 0)


def test_a_key_is_asked_for_and_kept_in_memory_alone(browser: Browser, photo: Path) -> None:
    with visit(browser, key="schlüssel-1") as page:
        field = page.get_by_label("This server asks for a key")
        expect(field).to_be_focused()
        field.fill("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#problem")).to_have_text(re.compile("^Incorrect API key provided"))
        field.fill("schlüssel-1")
        page.keyboard.press("Enter")
        expect(field).to_be_hidden()
        expect(page.locator("#problem")).to_be_hidden()
        choose(page, photo)
        expect(ask(page).locator(".own .answer")).to_have_text("a star")
        kept = page.evaluate("[document.cookie, localStorage.length, sessionStorage.length, location.href]")
        assert kept[:3] == ["", 0, 0] and "schl" not in kept[3]
        assert field.input_value() == ""


@pytest.mark.parametrize("how", ["paste", "drop"])
def test_an_image_is_pasted_or_dropped(how: str, browser: Browser, photo: Path) -> None:
    with visit(browser) as page:
        page.evaluate(
            """([how, data]) => {
              const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0)), files = new DataTransfer();
              files.items.add(new File([bytes], "boat.png", { type: "image/png" }));
              const event = how === "paste" ? new ClipboardEvent(how, { clipboardData: files, bubbles: true })
                : new DragEvent(how, { dataTransfer: files, bubbles: true });
              document.body.dispatchEvent(event);
            }""",
            [how, base64.b64encode(photo.read_bytes()).decode()],
        )
        expect(page.locator("#facts")).to_have_text("boat.png, 800 × 400 pixels")


def test_an_example_comes_with_its_question(browser: Browser) -> None:
    with visit(browser) as page:
        page.get_by_role("button", name="What pattern is on the purple bar?").click()
        expect(page.get_by_role("button", name="Ask", exact=True)).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator(".turn .own .answer")).to_have_text("a star")
        expect(page.get_by_role("button", name="Ask", exact=True)).to_be_focused()


WIDEST = "Math.max(...[...document.querySelectorAll('body *')].map((each) => each.getBoundingClientRect().right))"


def test_it_fits_a_phone_and_is_pinched(browser: Browser, photo: Path) -> None:
    with visit(browser, has_touch=True, is_mobile=True) as page:
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.locator("#photo").get_attribute("capture") == "environment"
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        choose(page, photo)
        page.get_by_label("Compare with one look").check()
        page.get_by_role("button", name="Draw boxes").tap()
        page.get_by_role("button", name="Cancel").tap()
        ask(page)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert page.evaluate(WIDEST) <= 360
        small = page.evaluate(
            "[...document.querySelectorAll('button')].filter((each) => each.offsetParent && each.offsetHeight < 32)"
            ".map((each) => each.textContent)"
        )
        assert small == []
        page.locator("#view").scroll_into_view_if_needed()
        box, touch = page.locator("#view").bounding_box(), page.context.new_cdp_session(page)
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

        def send(kind: str, *apart: float) -> None:
            points = [{"x": x + side * gap, "y": y, "id": int(side > 0)} for gap in apart for side in (-1, 1)]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        before = page.locator("#full").bounding_box()["width"]
        send("touchStart", 30)
        for gap in (40, 50, 60):
            send("touchMove", gap)
        send("touchEnd")
        page.wait_for_function("before => document.getElementById('full').clientWidth > 1.9 * before", arg=before)


CONTRASTS = """() => {
  const read = (color) => color.match(/[\\d.]+/g).map(Number);
  const linear = (value) => (value /= 255) <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = ([red, green, blue]) => 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const color = read(getComputedStyle(element).backgroundColor);
      if (color[3] !== 0) return color;
    }
  };
  const texts = [...document.querySelectorAll("body *")].filter((each) => each.offsetParent
    && [...each.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())
    && !each.closest(".unseen, #stage, option"));
  return texts.map((each) => {
    const [one, other] = [light(read(getComputedStyle(each).color)), light(ground(each))];
    return [each.textContent.trim().slice(0, 30), (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05)];
  });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_in_light_and_in_dark(scheme: str, browser: Browser, photo: Path) -> None:
    with visit(browser, color_scheme=scheme, reduced_motion="reduce") as page:
        texts = page.evaluate(CONTRASTS)
        choose(page, photo)
        page.get_by_label("Compare with one look").check()
        ask(page).get_by_text("Prompts and replies").click()
        page.get_by_role("button", name="Correct the boxes").click()
        texts += page.evaluate(CONTRASTS)
        assert len(texts) > 40
        assert [text for text, contrast in texts if contrast < 4.5] == []
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert dark == ("rgb(15, 18, 21)" if scheme == "dark" else "rgb(247, 246, 243)")
        assert page.evaluate("getComputedStyle(document.getElementById('edit')).transitionDuration") == "0s"


def test_a_screen_reader_finds_a_name_for_everything_that_has_the_focus(browser: Browser, photo: Path) -> None:
    with visit(browser) as page:
        reader = page.context.new_cdp_session(page)

        def find_nameless() -> list[str]:
            nodes = reader.send("Accessibility.getFullAXTree")["nodes"]
            named, nameless = 0, list[str]()
            for node in nodes:
                is_focusable = {"name": "focusable", "value": {"type": "booleanOrUndefined", "value": True}}
                if node.get("ignored") or is_focusable not in node.get("properties", []):
                    continue
                role, name = node["role"]["value"], node.get("name", {}).get("value", "")
                named += bool(name)
                nameless += [] if name or role == "RootWebArea" else [role]
            assert named > 5
            return nameless

        assert find_nameless() == []
        choose(page, photo)
        ask(page)
        page.get_by_role("button", name="Correct the boxes").click()
        assert find_nameless() == []


def read_content(reply: Reply) -> str:
    choices: Any = reply.body["choices"]
    return choices[0]["message"]["content"]


def test_the_small_model_answers_the_examples_in_two_looks_and_not_in_one() -> None:
    needles = [Needles(num_samples=index + 1)[index] for index in EXAMPLES]
    with serve(load_model("nano")) as served:
        assert "p2r serve --model p2r-4b" in served.ask("/").text  # it says that it knows nothing else
        for needle in needles:
            message = user(needle.question, show(data_url(needle.image.load())))
            two, one = (read_content(served.chat(message, model=model)) for model in ("p2r/m", "m"))
            assert two == needle.target != one
    with serve() as served:
        assert "p2r serve --model" not in served.ask("/").text
