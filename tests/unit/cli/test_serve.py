"""`p2r serve` before it serves: which model, under which name, with which keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2r.cli.guard import Misuse
from p2r.cli.serve import serve
from p2r.cli.served import KEYS_VARIABLE, look_at_server, name_of, plan_served, read_keys, read_spec
from p2r.dialogue import Decoding, Prompt
from p2r.errors import ConfigError, EndpointError
from tests.fakes import endpoint_server
from tests.fakes.endpoint_server import completion


@pytest.mark.parametrize(
    ("model", "upstream", "spec"),
    [
        (None, None, "nano"),
        ("nano-base", None, "nano-base"),
        ("p2r-4b", None, "hongxingli/P2R-4B"),
        ("vllm:org/name", None, "vllm:org/name"),
        ("http://host:8000#name", None, "http://host:8000/v1#name"),
        ("name", "http://host:8000", "http://host:8000/v1#name"),
        ("org/name", "HTTPS://host/v1/", "https://host/v1#org/name"),
    ],
)
def test_a_model_is_named_alone_or_at_a_server(model: str | None, upstream: str | None, spec: str) -> None:
    assert read_spec(model, upstream) == spec


def test_a_server_s_only_model_needs_no_name() -> None:
    with endpoint_server.serve(completion(), models=["one"]) as server:
        assert read_spec(None, server.url) == read_spec(server.url, None) == f"{server.url}#one"


@pytest.mark.parametrize(("model", "upstream"), [("http://a/v1#b", "http://a/v1"), ("b", "http://a/v1#b")])
def test_a_server_is_not_named_twice(model: str, upstream: str) -> None:
    with pytest.raises(Misuse, match="named twice"):
        read_spec(model, upstream)


def test_a_server_that_is_down_or_has_no_such_model_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    with endpoint_server.serve(completion(), models=["one"]) as server:
        look_at_server(f"{server.url}#one")
        assert caplog.text == ""
        look_at_server(f"{server.url}#two")
    assert f"{server.url} lists no model two; it has one" in caplog.text
    look_at_server(f"{server.url}#one")
    assert caplog.messages[-1].endswith("; requests fail until it answers")


def test_what_is_no_url_is_refused() -> None:
    with pytest.raises(ConfigError, match="not the URL of a server"):
        read_spec("m", "localhost:8000")


def test_clients_know_a_model_by_a_name_without_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    names = {
        "nano": "nano",
        "org/name": "org/name",
        "vllm:org/name": "org/name",
        "http://host/v1#org/name": "org/name",
        f"{folder}/": "my-model",
        f"vllm:{folder}": "my-model",
        "/nowhere/at/all": "all",
        "scripted:/secret/replies.json": "scripted",
    }
    assert {spec: name_of(spec) for spec in names} == names


def test_keys_come_from_a_file_and_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEYS_VARIABLE, raising=False)
    assert read_keys(None) == ()
    file = tmp_path / "keys"
    file.write_text("one\n\ntwo \n")
    assert read_keys(file) == ("one", "two")
    monkeypatch.setenv(KEYS_VARIABLE, "three, four")
    assert read_keys(file) == ("three", "four", "one", "two")


def test_a_file_without_keys_opens_to_nobody(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("\n")
    with pytest.raises(ConfigError, match="holds no key"):
        read_keys(file)
    file.write_text("# the key of nobody\n")
    with pytest.raises(ConfigError, match="holds no key"):
        read_keys(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_keys(tmp_path / "none")


def test_a_comment_in_a_file_of_keys_is_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEYS_VARIABLE, raising=False)
    file = tmp_path / "keys"
    file.write_bytes(b"\xef\xbb\xbfone\r\n# my key\r\n  # another\r\nsk-#2\r\n")
    assert read_keys(file) == ("one", "sk-#2")
    file.write_text("one two\n")
    with pytest.raises(ConfigError, match="has a line with a blank in it"):
        read_keys(file)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2r.cli.served.find_spec", lambda name: None if name == "fastapi" else object())
    with pytest.raises(ConfigError, match="needs fastapi") as raised:
        serve()
    assert "[serve]" in raised.value.hint


async def test_a_place_is_not_held_for_as_long_as_a_server_asks_for() -> None:
    busy = endpoint_server.Answer(429, "{}", (("retry-after", "50"),))
    with endpoint_server.serve(busy, models=["m"]) as server:
        spec = f"{server.url}#m"
        about = dict.fromkeys(["name", "perceiver_model", "profile", "perceiver_profile", "family", "frame"])
        about |= dict.fromkeys(["max_pixels", "device", "dtype", "engine_args"])
        with pytest.raises(ConfigError, match="in which frame m writes boxes"):
            plan_served(
                spec, **about, prompts="release", transport="auto", image_check="auto", num_at_once=8, timeout_s=9
            )()
        about["frame"] = "unit"
        served = plan_served(
            spec, **about, prompts="release", transport="auto", image_check="auto", num_at_once=8, timeout_s=9
        )()
        with pytest.raises(EndpointError):
            await served.model.complete(Prompt("reasoner", "", "Hi", (), ""), Decoding(max_new_tokens=9))
    assert len(server.chats) == 1
