"""Images that are written out as text: what a long text costs."""

from __future__ import annotations

import tracemalloc
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2r.images.unpack import unpack


def test_a_percent_encoded_image_takes_memory_of_its_own_size() -> None:
    text = b"data:image/png," + b"%41" * 1_000_000
    tracemalloc.start()
    try:
        assert unpack(text) == b"A" * 1_000_000
        assert tracemalloc.get_traced_memory()[1] < 6 * len(text)
    finally:
        tracemalloc.stop()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text("%41a", min_size=1, max_size=40))
def test_nothing_is_lost_between_blocks(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2r.images.unpack._BLOCK_BYTES", 5)
    assert unpack(b"data:x,%41" + text.encode()) == unquote_to_bytes(b"%41" + text.encode())
