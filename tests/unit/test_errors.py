import pytest

from p2r.errors import excerpt, reason_of


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
