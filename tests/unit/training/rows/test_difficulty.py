"""Pre-rollouts find rows that teach nothing; what they find is on disk as soon as it is known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("torch")

from p2r.config import DifficultySettings
from p2r.dialogue import Prompt
from p2r.errors import DataError, ImageError, StorageError
from p2r.runs.difficulty import CHUNK, RowDifficulty
from p2r.runs.training_log import read_rows
from p2r.training.groups import Group, Rollout
from p2r.training.lockstep import LockstepPartner
from p2r.training.rollout import Roller
from p2r.training.rows.difficulty import PreRolloutSettings, choose_rows, describe_rewards, measure_difficulty
from p2r.types import Sample
from tests.fakes.training import (
    BOX,
    OTHER_BOX,
    PROMPTS,
    RIGHT,
    WRONG,
    BatchScript,
    CountingImage,
    FakeActor,
    make_phase,
    make_recipe,
    make_sample,
)

SETTINGS = PreRolloutSettings(weights="w1", num_rows=4, num_rollouts=12, seed=0, recipe="r")


def say(prompt: Prompt, seed: int) -> str:
    right = "easy" in prompt.text or ("mixed" in prompt.text and seed % 2)
    return "<answer>B</answer>" if right else "<answer>A</answer>"


def make_rows(*names: str) -> list[Sample]:
    return [make_sample(name, question=f"{name}?") for name in names]


def make_roller(*changes: str) -> Roller:
    partner = LockstepPartner(BatchScript(lambda prompt: ""))
    phase = make_phase("answerer")
    return Roller(make_recipe(changes), phase, FakeActor(say), partner, PROMPTS, group_size=12, purpose="difficulty")


def describe(*rewards: float | None) -> RowDifficulty:
    rollouts = [Rollout((1,), True, "", None, reward, {}) for reward in rewards]
    return describe_rewards("row", Group(make_sample("row"), "perceiver", None, tuple(rollouts)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rewards", "is_alive", "mean", "variance"),
    [
        ((0.0, 1.0, 1.0, 0.0), True, 0.5, 0.25),
        ((1.0, 1.0, 1.0, 1.0), False, 1.0, 0.0),
        ((0.0, 0.0, 0.0, 0.0), False, 0.0, 0.0),
        ((1.5, 1.5, 1.5, 0.5), True, 1.25, 0.1875),  # a weighted sum, above 1
        ((0.5, 0.5, 0.5, 0.5), False, 0.5, 0.0),  # a constant term
        ((0.9, 0.9, 0.9, 0.9), False, 0.9, 0.0),
        ((0.1, 0.1, 0.1), False, 0.1, 0.0),  # whose sum is rounded
        ((0.0, 0.0, -0.5, -0.2), True, -0.175, 0.041875),  # a punishment
        ((-1.0, -1.0), False, -1.0, 0.0),
        ((None, 1.0, 0.0, None), True, 0.5, 0.25),
        ((None, 1.0, None, None), True, 1.0, None),  # one alone does not vary, and may be alive
        ((None, None), True, None, None),
    ],
)
def test_a_row_is_alive_when_its_rewards_vary(
    rewards: Sequence[float | None], is_alive: bool, mean: float | None, variance: float | None
) -> None:
    row = describe(*rewards)
    assert row.is_alive is is_alive
    assert row.mean == pytest.approx(mean) and row.variance == pytest.approx(variance)
    assert row.num_judged == sum(reward is not None for reward in rewards)


def test_a_row_that_failed_may_be_alive() -> None:
    assert describe_rewards("row", None).is_alive


async def test_rows_that_teach_nothing_are_left_out(tmp_path: Path) -> None:
    rows = make_rows("easy", "hard", "mixed1", "mixed2")
    measured = await measure_difficulty(make_roller(), rows, tmp_path, SETTINGS, on_progress=ignore)
    difficulty = {row.id: row for row in measured}
    assert [row.id for row in measured] == [row.id for row in rows]
    assert (difficulty["easy"].mean, difficulty["hard"].mean) == (1.0, 0.0)
    choice = choose_rows(rows, difficulty, DifficultySettings(rule="drop"), seed=0)
    assert [row.id for row in choice.rows] == ["mixed1", "mixed2"]
    assert (choice.num_left_out, choice.order.weights) == (2, None)
    with pytest.raises(DataError, match="each of 2 rows has rewards that are all alike in 4 rollouts"):
        choose_rows(rows[:2], difficulty, DifficultySettings(), seed=0)


def test_rows_are_weighted_by_the_variance_of_their_rewards_and_unknown_ones_by_the_largest() -> None:
    rows = make_rows("a", "b", "c", "d")
    measured = [describe(1.5, 0.5), describe(0.0, -0.5), describe(None, None), describe(3.0, 3.0)]
    difficulty = {row.id: each for row, each in zip(rows, measured, strict=True)}
    choice = choose_rows(rows, difficulty, DifficultySettings(rule="weight"), seed=0)
    assert [row.id for row in choice.rows] == ["a", "b", "c"]
    assert choice.order.weights == (0.25, 0.0625, 0.25)


async def test_a_finished_measurement_is_read_back_and_that_of_other_settings_refused(tmp_path: Path) -> None:
    rows, told = make_rows("easy", "mixed"), list[tuple[int, int]]()
    first = await measure_difficulty(make_roller(), rows, tmp_path, SETTINGS, on_progress=ignore)
    again = await measure_difficulty(
        None,  # type: ignore[arg-type]  # nothing is rolled out
        rows,
        tmp_path,
        SETTINGS,
        on_progress=lambda *progress: told.append(progress),
    )
    assert again == first and told == [(2, 2)]
    said = {"weights": "the weights of", "seed": "seed was 0, now 1", "recipe": "the rows, the sampling or the rewards"}
    for change in ({"weights": "w2"}, {"seed": 1}, {"recipe": "s"}):
        with pytest.raises(StorageError, match=f"holds another run: {said[next(iter(change))]}"):
            await measure_difficulty(
                make_roller(), rows, tmp_path, SETTINGS.model_copy(update=change), on_progress=ignore
            )


class KilledError(Exception):
    """In place of a kill."""


def ignore(done: int, total: int) -> None:
    """Not told to anybody."""


def count_calls(script: BatchScript, row: str) -> int:
    return sum(f"{row}?" in prompt for batch in script.batches for prompt in batch)


def look_by_seed(prompt: Prompt, seed: int) -> str:
    return BOX if seed % 3 else OTHER_BOX


def answer_by_prompt(prompt: Prompt) -> str:
    """Another answer to each image, so that a reply from a wrong memo would be found out."""
    image = hashlib.sha256(prompt.images[0].tobytes() + prompt.text.encode()).digest()
    return RIGHT if image[0] % 2 else WRONG


@pytest.mark.parametrize("after", [1, CHUNK, CHUNK + 5, 2 * CHUNK + 1])
async def test_a_killed_measurement_goes_on_as_if_nothing_had_happened(tmp_path: Path, after: int) -> None:
    """Killed while a row is written. The rows of whole chunks are not asked again; the partner's batches are equal."""
    rows = make_rows(*(f"row{number}" for number in range(2 * CHUNK + 9)))

    def make(script: BatchScript) -> Roller:
        return Roller(make_recipe(), make_phase(), FakeActor(look_by_seed), LockstepPartner(script), PROMPTS)

    undisturbed, before, later = (BatchScript(answer_by_prompt) for _ in range(3))
    told: list[int] = []
    whole = await measure_difficulty(
        make(undisturbed), rows, tmp_path / "whole", SETTINGS, on_progress=lambda done, _: told.append(done)
    )
    assert told == [0, CHUNK, 2 * CHUNK, len(rows)]
    await measure_difficulty(make(before), rows, tmp_path / "killed", SETTINGS, on_progress=ignore)
    path = tmp_path / "killed" / "rows.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == len(rows) and json.loads(lines[0])["id"] == "row0"
    path.write_bytes(b"".join(lines[:after]) + lines[after][:9])  # a cut line at the end
    assert await measure_difficulty(make(later), rows, tmp_path / "killed", SETTINGS, on_progress=ignore) == whole
    assert read_rows(path, RowDifficulty) == whole
    num_kept = after // CHUNK * CHUNK
    assert later.num_calls == sum(count_calls(undisturbed, row.id) for row in rows[num_kept:])
    assert later.batches == undisturbed.batches[len(undisturbed.batches) - len(later.batches) :]


async def test_an_interruption_keeps_the_chunks_that_are_done(tmp_path: Path) -> None:
    rows = make_rows(*(f"mixed{number}" for number in range(CHUNK + 3)))

    def stop(done: int, total: int) -> None:
        if done == CHUNK:
            raise KilledError

    with pytest.raises(KilledError):
        await measure_difficulty(make_roller(), rows, tmp_path, SETTINGS, on_progress=stop)
    assert len(read_rows(tmp_path / "rows.jsonl", RowDifficulty)) == CHUNK


async def test_right_answers_are_counted_beside_rewards(tmp_path: Path) -> None:
    rows = make_rows("easy", "hard", "mixed1")
    measured = await measure_difficulty(make_roller(), rows, tmp_path, SETTINGS, on_progress=ignore)
    assert [row.kind for row in measured] == ["easy", "hard", "medium"]
    assert [(row.num_rollouts, row.num_right + row.num_wrong) for row in measured] == [(12, 12)] * 3
    assert 0 < measured[2].num_right < 12


async def test_a_row_whose_rollouts_all_fail_is_not_hard(tmp_path: Path) -> None:
    fault = ImageError("boat.png cannot be read")
    failing = make_sample("failing", question="hard?", image=CountingImage(fault=fault, num_faults=99))
    unjudged = make_sample("unjudged", question="hard?", answer_form="number", options=(), target="no number")
    rows = [failing, unjudged, *make_rows("hard")]
    roller = make_roller("partner.max_error_rate=1.0")
    found = await measure_difficulty(roller, rows, tmp_path, SETTINGS, on_progress=ignore)
    assert [row.kind for row in found] == ["unjudged", "unjudged", "hard"]
    assert found[0].failure == "its image, its evidence, or its prompt failed" and found[2].failure == ""
    assert "no number" in found[1].failure


@pytest.mark.parametrize(("keep", "kept"), [("easy", ["easy"]), ("medium", ["mixed1", "mixed2"])])
async def test_rows_of_a_kind_are_kept(tmp_path: Path, keep: str, kept: list[str]) -> None:
    rows = make_rows("hard", "mixed1", "easy", "mixed2")
    measured = await measure_difficulty(make_roller(), rows, tmp_path, SETTINGS, on_progress=ignore)
    difficulty = {row.id: row for row in measured}
    choice = choose_rows(rows, difficulty, DifficultySettings.model_validate({"keep": keep}), seed=3)
    assert [row.id for row in choice.rows] == kept
    assert choice.num_left_out == len(rows) - len(kept)
    assert (choice.order.num_rows, choice.order.seed, choice.order.weights) == (len(kept), 3, None)


def test_no_row_of_the_kind_is_a_sentence() -> None:
    rows = make_rows("a", "b")
    hard = RowDifficulty(id="a", num_judged=8, mean=0.0, variance=0.0, num_rollouts=8, num_wrong=8)
    mixed = RowDifficulty(id="b", num_judged=8, mean=0.5, variance=0.25, num_rollouts=8, num_wrong=4, num_right=4)
    rule = DifficultySettings(keep="easy", num_rollouts=8)
    with pytest.raises(DataError) as caught:
        choose_rows(rows, {"a": hard, "b": mixed}, rule, seed=0)
    assert caught.value.message == "none of 2 rows is easy in 8 rollouts: 0 easy, 1 medium, 1 hard"
    assert caught.value.hint == (
        'in a new run, keep "medium" ones with data.difficulty.keep, or give other rows, or another model to start '
        "from; with model.source = RUN/PHASE it starts from a finished phase"
    )
    with pytest.raises(DataError) as caught:
        choose_rows(rows[:1], {"a": hard}, rule, seed=0)
    assert caught.value.hint.startswith("in a new run, give other rows, or another model to start from")
