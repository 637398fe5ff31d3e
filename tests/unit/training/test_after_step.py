"""Which probe is the best."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from p2r.training.after_step import is_better


def test_the_best_probe_is_the_first_of_the_highest_accuracy() -> None:
    assert is_better(0.6, best=0.5) and not is_better(0.5, best=0.6)
    assert not is_better(0.5, best=0.5)
    assert is_better(0.0, best=None)
    assert not is_better(None, best=None) and not is_better(None, best=0.5)
