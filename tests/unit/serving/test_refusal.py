"""What a client is told when it is to come back."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from p2r.serving.refusal import read_retry_after


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("2.6", 3), ("0", 1), ("-3", 1), ("9999", 60), ("", 1), ("soon", 1), ("nan", 1), ("inf", 1), ("a:b", 1)],
)
def test_the_seconds_of_a_header_are_read(text: str, seconds: int) -> None:
    assert read_retry_after(text) == seconds


def test_a_date_may_stand_for_them() -> None:
    assert 28 <= read_retry_after(formatdate(time.time() + 30, usegmt=True)) <= 30
    assert read_retry_after(formatdate(time.time() - 30, usegmt=True)) == 1
