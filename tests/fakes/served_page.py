"""The page of `p2r serve` in front of the real server and a model that is watched, and what a person does with it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image

from p2r.dialogue import Decoding, Prompt
from p2r.errors import ModelError
from p2r.models.scripted import ScriptedModel
from p2r.serving.settings import Access, Limits
from p2r.types import Completion
from tests.fakes.browser import Browser, Locator, Page, open_page
from tests.fakes.served import ANSWER, BOX, serve

QUESTION = "What is on the sail?"


class Watched(ScriptedModel):
    """A model that keeps what it was asked, waits where a test wants to see what the page shows, and streams.

    The model as it is, asked without a prompt of p2r's, sees a fish.
    """

    def __init__(self, look: str = BOX, reply: str = ANSWER) -> None:
        super().__init__({"perceiver": look, "reasoner": lambda prompt: reply if prompt.fingerprint else "a fish"})
        self.asked: list[Prompt] = []
        self.may_look, self.may_answer = threading.Event(), threading.Event()
        self.may_look.set()
        self.may_answer.set()
        self.num_cancelled = 0
        self.error: ModelError | None = None

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        self.asked.append(prompt)
        gate = self.may_look if prompt.role == "perceiver" else self.may_answer
        try:
            while not gate.is_set():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return await super().complete(prompt, decoding)

    async def stream(self, prompt: Prompt, decoding: Decoding, on_text: Callable[[str], None]) -> Completion:
        completion = await self.complete(prompt, decoding)
        for letter in completion.text:
            on_text(letter)
        return completion

    def asked_as(self, role: str) -> list[Prompt]:
        return [prompt for prompt in self.asked if prompt.role == role]


def draw_photo(path: Path) -> Path:
    """Write the image that most tests ask about."""
    Image.effect_mandelbrot((800, 400), (-2, -1, 1, 1), 40).convert("RGB").save(path)
    return path


@contextmanager
def visit(
    browser: Browser, model: Watched | None = None, key: str = "", limits: Limits | None = None, **settings: object
) -> Generator[Page]:
    """Open the page of a server of its own."""
    access = Access(keys=(key,) if key else ())
    with (
        serve(model or Watched(), access=access, limits=limits) as served,
        open_page(browser, served.url, **settings) as page,
    ):
        yield page


def expect(thing: Locator) -> Locator:
    """Playwright's assertions, which wait."""
    asserting: Any = import_module("playwright.sync_api")
    asserting.expect.set_options(timeout=30_000)
    return asserting.expect(thing)


def wait_until(page: Page, is_so: Callable[[], bool]) -> None:
    """Let the page go on until something is so in this process. Fails after half a minute."""
    for _ in range(3000):
        if is_so():
            return
        page.wait_for_timeout(10)
    raise AssertionError("it was not so in 30 seconds")


def choose(page: Page, photo: Path) -> None:
    page.locator("#choose").set_input_files(photo)
    expect(page.locator("#facts")).to_have_text("boat.png, 800 × 400 pixels")


def begin(page: Page, photo: Path, model: Watched) -> None:
    """Ask by keyboard, and return when the model has looked and is asked for the answer."""
    choose(page, photo)
    page.get_by_label("Your question").fill(QUESTION)
    page.keyboard.press("Enter")
    wait_until(page, lambda: bool(model.asked_as("reasoner")))


def ask(page: Page, question: str = QUESTION) -> Locator:
    """Ask, and give the card of the question when it has its answer or its error."""
    page.get_by_label("Your question").fill(question)
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator("#stop")).to_be_hidden()
    return page.locator(".turn").first


def measure(page: Page, selector: str) -> list[float]:
    """Left, top, right, bottom of an element, per mille of the image; both at one moment, since pages scroll."""
    return page.evaluate(
        """(selector) => {
          const image = document.getElementById("full").getBoundingClientRect();
          const box = document.querySelector(selector).getBoundingClientRect();
          return [(box.left - image.left) / image.width, (box.top - image.top) / image.height,
            (box.right - image.left) / image.width, (box.bottom - image.top) / image.height].map((part) => 1000 * part);
        }""",
        selector,
    )
