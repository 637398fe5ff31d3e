import pytest

from p2r.errors import excerpt


@pytest.mark.parametrize(
    ("value", "shown"),
    [("short", "'short'"), (None, "None"), ([1, 2], "[1, 2]"), ("a" * 10, "'aaaaaaaaaa'"), ("b" * 11, "'bbbbbbb...'")],
)
def test_a_message_quotes_a_value_and_leaves_out_what_is_too_long(value: object, shown: str) -> None:
    assert excerpt(value, 10) == shown


def test_the_end_of_a_text_can_be_kept_in_place_of_its_beginning() -> None:
    assert excerpt("thought, then no", 10, keeps_end=True) == "'...then no'"
    assert excerpt(list(range(9)), 10) == "[0, 1, ..."
