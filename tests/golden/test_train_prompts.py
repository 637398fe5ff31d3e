"""The release's training differs from its evaluation in a few words, which a set of one's own supplies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from p2r.images.load import MemoryImage
from p2r.prompts import load_prompt_set
from p2r.types import Sample
from tests.golden.rows import make_background, read_rows

ROWS = [row for row in read_rows("train_prompts_authors") if row["fn"].startswith("_build")]
TRAINING_FREE_FORM = (
    "Provide your detailed reasoning between the <think> </think> tags, and then provide your text answer "
    "within the <answer> </answer> tags.\n"
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_training_prompt_is_the_prompt_without_evidence(row: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "base.txt").write_text("release")
    (tmp_path / "answer_free_form.txt").write_text(TRAINING_FREE_FORM)
    prompts = load_prompt_set(tmp_path)
    image = MemoryImage(make_background(8, 8))
    sample = Sample("0", image, row["args"]["question"], answer_form=row["args"]["answer_form"])
    system, user = row["expected"]
    assert system["content"] == prompts.system
    assert user["content"] == "<image>\n" + prompts.reasoner_without_evidence(sample)
