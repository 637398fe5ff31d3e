import pytest

from p2r.errors import P2RError, excerpt, mask_secrets, reason_of


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
