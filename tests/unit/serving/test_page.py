"""The page at `/`: its files, what a browser lets them do, and who may load them."""

from __future__ import annotations

import http.client
import re
import urllib.request
from collections.abc import Iterator

import pytest

from p2r.benchmarks.needles import Needles
from p2r.images.load import decode_image
from p2r.report.kit.page import read_template
from p2r.serving.page import EXAMPLES, FILES, FOLDER, PAGE_PATHS
from p2r.serving.settings import Access
from tests.fakes.served import Served, serve

SCRIPTS = sorted(FOLDER.glob("*.js"))


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serve(access=Access(keys=("sk-1",))) as served:
        yield served


def fetch(served: Served, path: str) -> http.client.HTTPResponse:
    return urllib.request.urlopen(f"{served.url}{path}", timeout=60)


def test_the_page_and_its_files_need_no_key_and_nothing_else_opens(served: Served) -> None:
    for path in PAGE_PATHS:
        assert fetch(served, path).status == 200, path
    for path in ("/v1/models", "/page/", "/page/page.html.j2", "/page/..%2fapp.py", "/metrics", "/openapi.json"):
        assert served.ask(path).status == 401, path


def test_the_page_and_its_files_are_for_pages_of_this_server_alone(served: Served) -> None:
    for path in ("/", "/page/page.js"):
        assert served.ask(path, headers={"Host": "evil.example"}).status == 403
        assert served.ask(path, headers={"Origin": "https://evil.example"}).status == 403


def test_a_browser_may_run_and_load_only_what_this_server_sends(served: Served) -> None:
    for path in ("/", "/page/page.js", "/page/example-1.png"):
        headers = fetch(served, path).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy.pop("img-src") == "'self' blob: data:"
        assert {policy.pop(name) for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
        assert policy.pop("require-trusted-types-for") == "'script'"
        assert policy.keys() == {"default-src", "frame-ancestors", "form-action", "base-uri", "trusted-types"}
        assert set(policy.values()) == {"'none'"}
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
        assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-cache"  # after an update, a browser must not run the old files


def test_the_page_obeys_its_own_policy(served: Served) -> None:
    page = fetch(served, "/").read().decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|https?://", page)
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", page, re.DOTALL)
    assert scripts == [(' src="/page/print.js" defer', ""), (' type="module" src="/page/page.js"', "")]
    for script in SCRIPTS:
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script.read_text()), (
            script
        )
    named = {f"/page/{name}" for script in SCRIPTS for name in re.findall(r'from "\./(.+?)"', script.read_text())}
    assert named | set(re.findall(r'(?:src|href|data-url)="(/[^"]*)"', page)) == PAGE_PATHS - {"/"}


def test_every_file_is_sent(served: Served) -> None:
    assert {path.name for path in FOLDER.iterdir()} - {"page.html.j2"} <= set(FILES)
    assert b".p2r .box.own" in fetch(served, "/page/kit.css").read()


def test_what_can_be_used_has_a_name(served: Served) -> None:
    page = fetch(served, "/").read().decode()
    for control in re.findall(r"<(?:input|textarea|select)\b[^>]*>", page):
        name = re.search(r'id="([\w-]+)"', control)
        assert name, control
        label = re.search(rf'<label[^>]*for="{name[1]}"|<label[^>]*>[^<]*<[^>]*id="{name[1]}"', page)
        assert label, control
    assert '<html lang="en">' in page and 'role="status"' in page and 'role="alert"' in page


def test_the_examples_are_needles_with_their_questions(served: Served) -> None:
    page = fetch(served, "/").read().decode()
    needles = Needles(num_samples=10)
    for number, index in enumerate(EXAMPLES, start=1):
        url = f"/page/example-{number}.png"
        assert f'data-url="{url}" data-question="{needles[index].question}"' in page
        image = decode_image(fetch(served, url).read(), url)
        assert image.tobytes() == needles[index].image.load().tobytes()


def test_the_page_means_by_a_class_what_reports_mean_by_it() -> None:
    """Reports hide some of theirs on phones."""
    styles = "".join(map(read_template, ("report.css", "evidence.css")))
    page = (FOLDER / "page.html.j2").read_text() + "".join(script.read_text() for script in SCRIPTS)
    mine = re.findall(r'class(?:Name)?(?:=|: )"([^"]+)"|classList\.\w+\("([\w-]+)"', page)
    shared = {name for names in mine for name in " ".join(names).split()} & set(re.findall(r"\.([a-z][\w-]*)", styles))
    looks = {"page", "eyebrow", "lede", "note", "problem", "primary", "unseen", "answer", "cost", "crops"}
    assert shared == looks | {"p2r", "box", "own", "low", "end", "pixels"}


def test_a_file_that_is_not_there_is_named_so() -> None:
    with serve() as served:
        assert served.ask("/page/page.py").status == served.ask("/page/page.html.j2").status == 404


def test_a_head_request_is_answered(served: Served) -> None:
    connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=20)
    connection.request("HEAD", "/")
    reply = connection.getresponse()
    assert (reply.status, reply.read()) == (200, b"")
