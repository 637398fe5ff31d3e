"""What a served model is: from the server's root, from what is stated, or from its name, in that order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2r.errors import ConfigError, ModelError
from p2r.models import nano
from p2r.models.load import load_model, loading_of
from p2r.models.server.lookup import find_root, is_well
from p2r.models.server.model import EndpointModel
from p2r.models.server.profile import served_profile
from p2r.types import Frame
from tests.fakes.endpoint_server import Answer, serve
from tests.fakes.web_server import Page, serve_pages

NANO_MOST, FAMILY_MOST = 65536, 4096 * 32 * 32


def make_folder(folder: Path, family: str) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(f'{{"model_type": "{family}"}}')
    return str(folder)


def test_the_files_of_the_root_say_most(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_folder(tmp_path / "step-80", "qwen2_5_vl")
    assert served_profile("qwen3-vl", root=root).frame == "pixels"
    assert not caplog.records
    assert served_profile("qwen3-vl", root=root, stated="nano").frame == "pixels"
    assert f"the server says that it serves {root}, so the profile of nano is passed over" in caplog.text


def test_a_stated_profile_that_agrees_with_the_root_is_no_matter(caplog: pytest.LogCaptureFixture) -> None:
    profile = served_profile("mine", root=str(nano.CHECKPOINT), stated="nano")
    assert profile.budget.max_pixels == NANO_MOST
    assert not caplog.records


@pytest.mark.parametrize(
    ("root", "stated", "most", "frame"),
    [
        ("/models/of/another/machine", "nano", NANO_MOST, "per_mille"),
        ("/models/qwen2.5-vl-7b", "nano", NANO_MOST, "per_mille"),  # a name says less than files
        ("", "nano-base", NANO_MOST, "per_mille"),
        ("", str(nano.CHECKPOINT), NANO_MOST, "per_mille"),
        ("", "p2r-4b", FAMILY_MOST, "per_mille"),
        ("", "Qwen/Qwen2.5-VL-7B-Instruct", 4096 * 28 * 28, "pixels"),
        ("/data/p2r/qwen2.5-vl-7b", None, 4096 * 28 * 28, "pixels"),  # the last part of a path says most
        ("/models/qwen2.5-vl-7b", None, 4096 * 28 * 28, "pixels"),
        ("/models/step-80", None, FAMILY_MOST, "per_mille"),  # then the name, qwen3-vl
    ],
)
def test_what_is_known_best_is_taken(
    root: str, stated: str | None, most: int, frame: Frame, caplog: pytest.LogCaptureFixture
) -> None:
    profile = served_profile("my-qwen3-vl", root=root, stated=stated)
    assert (profile.budget.max_pixels, profile.frame) == (most, frame)
    assert not caplog.records


def test_a_stated_profile_that_is_no_known_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "qwen3-vl-empty").mkdir()
    other, absent = make_folder(tmp_path / "qwen3-vl-other", "llava"), str(tmp_path / "p2r" / "absent")
    for stated in ("nanoo", str(tmp_path), other, absent, "runs/p2r/absent", "~/p2r", str(tmp_path / "qwen3-vl-empty")):
        with pytest.raises(ConfigError, match="neither a checkpoint on this machine nor the name of a known model"):
            served_profile("m", stated=stated)


def test_files_that_cannot_be_read_are_told_only_of_a_stated_profile(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"cannot read .*config\.json"):
        served_profile("qwen3-vl", stated=str(tmp_path))
    assert served_profile("qwen3-vl", root=str(tmp_path)).family == "qwen3_vl"


def test_limits_of_the_user_hold_for_every_source() -> None:
    for root, stated in ((str(nano.CHECKPOINT), None), ("", "nano"), ("", None)):
        profile = served_profile("qwen3-vl", root=root, stated=stated, frame="unit", max_pixels=32768)
        assert (profile.frame, profile.budget.max_pixels) == ("unit", 32768)


def test_a_server_is_asked_what_it_serves() -> None:
    with serve(roots={"mine": str(nano.CHECKPOINT), "other": "/models/qwen2.5-vl"}) as server:
        assert EndpointModel.connect(f"{server.url}#mine").profile.budget.max_pixels == NANO_MOST
        assert EndpointModel.connect(f"{server.url}#other").profile.frame == "pixels"
        assert find_root(server.url, "third", "") == ""
    with serve(roots={"only": str(nano.CHECKPOINT)}) as server:
        assert load_model(server.url).profile.budget.max_pixels == NANO_MOST


def test_an_adapter_is_what_the_model_below_it_is() -> None:
    entries = [
        {"id": "base", "root": "Qwen/Qwen2.5-VL-7B-Instruct", "parent": None},
        {"id": "mine", "root": "/adapters/step-80", "parent": "base"},
        {"id": "other", "root": "/adapters/step-90", "parent": "Qwen/Qwen3.5-9B"},
    ]
    with serve_pages({"/v1/models": Page(json.dumps({"data": entries}).encode(), "application/json")}) as server:
        url = f"{server.url}/v1"
        assert find_root(url, "base", "") == find_root(url, "mine", "") == "Qwen/Qwen2.5-VL-7B-Instruct"
        assert find_root(url, "other", "") == "Qwen/Qwen3.5-9B"
        assert EndpointModel.connect(f"{url}#mine").profile.frame == "pixels"


@pytest.mark.parametrize("body", ["no JSON", "[]", "{}", '{"data": [{"id": "m"}]}', '{"data": ["m"]}', '{"data": 1}'])
def test_a_server_that_does_not_say_has_no_root(body: str) -> None:
    from tests.fakes.raw_server import serve_bytes

    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with serve_bytes((head + body).encode()) as server:
        assert find_root(server.url("http"), "m", "") == ""
    with serve(Answer()) as gone:
        pass
    assert find_root(gone.url, "m", "") == ""


def test_a_profile_is_stated_for_a_server_and_remembered() -> None:
    model = load_model("http://127.0.0.1:9/v1#mine", profile="nano")
    assert model.profile.budget.max_pixels == NANO_MOST
    assert loading_of(model).profile == "nano"
    with pytest.raises(ConfigError, match="`profile` is 'nano', but nano-base is not a server's URL"):
        load_model("nano-base", profile="nano")


def test_a_server_is_well_unless_it_says_otherwise_or_nobody_is_there() -> None:
    for status, well in ((200, True), (404, True), (503, False), (500, False)):
        with serve_pages({"/health": Page(b"x", "text/plain", status)}) as server:
            assert is_well(server.url, "key") is well
    assert is_well(server.url, "key") is False
    with serve_pages({"/health": Page(waits=True)}) as server:
        assert is_well(server.url, "key", 0.1) is None
