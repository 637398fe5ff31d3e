from pathlib import Path

import pytest

from p2r import errors
from p2r.errors import P2RError, count_nouns, excerpt, install_hint, mask_secrets, reason_of


@pytest.mark.parametrize(
    ("value", "shown"),
    [("short", "'short'"), (None, "None"), ([1, 2], "[1, 2]"), ("a" * 10, "'aaaaaaaaaa'"), ("b" * 11, "'bbbbbbb...'")],
)
def test_a_message_quotes_a_value_and_leaves_out_what_is_too_long(value: object, shown: str) -> None:
    assert excerpt(value, 10) == shown


def test_the_end_of_a_text_can_be_kept_in_place_of_its_beginning() -> None:
    assert excerpt("thought, then no", 10, keeps_end=True) == "'...then no'"
    assert excerpt(list(range(9)), 10) == "[0, 1, ..."


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError(2, "No such file or directory", "a.json"), "no such file or directory"),
        (ConnectionRefusedError(111, "Connection refused"), "connection refused"),
        (UnicodeDecodeError("utf-8", b"\x89", 0, 1, "invalid start byte"), "it is not text in UTF-8"),
        (ValueError("Expecting value: line 1"), "expecting value: line 1"),
        (OSError(), "OSError"),
    ],
)
def test_the_reason_of_a_fault_has_neither_numbers_nor_paths(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:secret@host:8000/v1#m", "http://***@host:8000/v1#m"),
        ("https://hf_abc@host/v1", "https://***@host/v1"),
        ("cannot reach http://user:p@ss@host/v1: gone", "cannot reach http://***@host/v1: gone"),
        ('{"model": "HTTPS://u:s@h/v1?api_key=k1&n=2#m"}', '{"model": "HTTPS://***@h/v1?api_key=***&n=2#m"}'),
        ("https://h/a.png?X-Amz-Signature=abc&X-Amz-Date=1", "https://h/a.png?X-Amz-Signature=***&X-Amz-Date=1"),
        ("https://h/v1?access_token=t&sig=s", "https://h/v1?access_token=***&sig=***"),
        ("http://host/v1/a@b?top=1", "http://host/v1/a@b?top=1"),
        ("see https://host/a and write to me@host.org", "see https://host/a and write to me@host.org"),
        ("token=abc without a URL", "token=abc without a URL"),
    ],
)
def test_secrets_in_urls_are_masked(text: str, shown: str) -> None:
    assert mask_secrets(text) == shown
    assert mask_secrets(shown) == shown
    assert str(P2RError(text, hint=text)) == f"{shown}\nhint: {shown}"
    assert P2RError(text).args == (shown,)


class Installed:
    """What pip keeps of an installation."""

    def __init__(self, origin: str | None) -> None:
        self._origin = origin

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self._origin


@pytest.mark.parametrize(
    ("origin", "hint"),
    [
        (None, "pip install 'perceive-to-reason[local]'"),
        ('{"url": "file:///a/p2r", "dir_info": {}}', "pip install 'perceive-to-reason[local] @ file:///a/p2r'"),
        (
            '{"url": "https://me:secret@host/p2r.git", "vcs_info": {"vcs": "git", "commit_id": "1"}}',
            "pip install 'perceive-to-reason[local] @ git+https://***@host/p2r.git'",
        ),
    ],
)
def test_an_installation_is_extended_from_where_it_came(
    monkeypatch: pytest.MonkeyPatch, origin: str | None, hint: str
) -> None:
    monkeypatch.setattr(errors, "__file__", "/usr/lib/python3/site-packages/p2r/errors.py")
    monkeypatch.setattr("importlib.metadata.distribution", lambda _: Installed(origin))
    assert install_hint("local") == hint


def test_a_clone_is_extended_in_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "src" / "p2r" / "errors.py"))
    assert install_hint("train") == f"pip install '{tmp_path}[train]'"
    monkeypatch.chdir(tmp_path)
    assert install_hint("train") == "pip install '.[train]'"


def test_no_other_place_says_how_to_install_an_extra() -> None:
    sources = Path(errors.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if "perceive-to-reason[" in path.read_text(encoding="utf-8")] == ["errors.py"]


def test_a_counted_noun_agrees_with_its_number() -> None:
    assert [count_nouns(count, "image") for count in (0, 1, 2, 1200)] == [
        "0 images",
        "1 image",
        "2 images",
        "1,200 images",
    ]
    assert [count_nouns(count, "box has", "boxes have") for count in (1, 2)] == ["1 box has", "2 boxes have"]
