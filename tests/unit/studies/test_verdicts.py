"""From answers on disk to values, estimates and verdicts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from p2r.errors import StorageError
from p2r.runs.evaluation import SAMPLES_FILE
from p2r.runs.store import SETTINGS_FILE, TRACES_FILE
from p2r.statistics import Estimate
from p2r.studies.cells import StudyCell
from p2r.studies.claims import StudyClaim
from p2r.studies.measure import Reader
from p2r.studies.study import Study
from p2r.studies.verdicts import JudgedClaim, find_p_value, find_verdict, judge_claims
from p2r.types import Box
from tests.fakes.studies import make_study, write_answers

NUM = 200
AWAY = Box(x1=600, y1=600, x2=900, y2=900)


def some(share: float, seed: int = 0) -> list[bool | None]:
    """Right answers to this share of the questions; a larger share contains a smaller one."""
    order = np.random.default_rng(7).permutation(NUM)
    noise = np.random.default_rng(seed + 1).random(NUM) < 0.02
    return [bool((place < share * NUM) ^ flip) for place, flip in zip(order, noise, strict=True)]


def judge(study: Study) -> dict[str, JudgedClaim]:
    return {each.claim.name: each for each in judge_claims(study, Reader(study))}


def test_a_clear_gain_holds_and_a_clear_loss_fails(tmp_path: Path) -> None:
    more = """
[[claims]]
name = "loss"
says = "Training lowers accuracy."
evaluation = "fresh"
plus = [{ arm = "both" }]
minus = [{ arm = "start" }]
expects = "less"

[[claims]]
name = "by a lot"
says = "Training adds more than 22 points."
evaluation = "fresh"
plus = [{ arm = "both" }]
minus = [{ arm = "start" }]
margin = 0.22
"""
    study = make_study(tmp_path, more)
    write_answers(study, "start", None, some(0.6))
    for seed in (0, 1, 2):
        write_answers(study, "both", seed, some(0.8, seed))
    judged = judge(study)
    found = judged["training"].estimate
    assert found is not None
    assert found.mean == pytest.approx(0.2, abs=0.03)
    assert (found.num_seeds, found.num_questions) == (3, NUM)
    assert {name: each.verdict for name, each in judged.items()} == {
        "training": "holds", "loss": "fails", "by a lot": "undecided",
    }  # fmt: skip
    assert [name for name, _ in judged["training"].seed_p_values] == ["0", "1", "2"]
    assert all(p < 1e-4 for _, p in judged["training"].seed_p_values)
    p, holm = judged["training"].p_value, judged["training"].p_corrected
    assert p is not None and holm is not None
    assert holm >= p


def test_a_run_that_lacks_answers_is_not_there_yet(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    write_answers(study, "start", None, some(0.6))
    for seed in (0, 1, 2):
        write_answers(study, "both", seed, some(0.8, seed))
    [path] = (study.out / "answers" / "fresh" / "both" / "seed-1").rglob(TRACES_FILE)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    judged = judge(study)["training"]
    assert judged.is_preliminary and judged.estimate is not None
    assert [name for name, _ in judged.seed_p_values] == ["0", "2"] and judged.estimate.num_seeds == 2
    path.write_text("".join(lines))
    assert not judge(study)["training"].is_preliminary


@pytest.mark.parametrize(
    ("expects", "margin", "mean", "verdict"),
    [
        ("more", 0.0, 1.0, "undecided"), ("less", 0.0, 1.0, "undecided"), ("alike", 0.1, 1.0, "undecided"),
        ("alike", 0.1, -1.95, "undecided"), ("less", 0.3, -2.0, "undecided"), ("alike", 1.5, 1.0, "holds"),
        ("more", 0.0, 9.0, "holds"), ("less", 0.0, 9.0, "fails"), ("alike", 0.1, 9.0, "fails"),
        ("more", 0.3, -9.0, "fails"), ("less", 0.3, -9.0, "holds"), ("alike", 0.1, -9.0, "fails"),
        ("more", 9.0, 3.0, "fails"), ("less", 9.0, -3.0, "fails"), ("less", 9.0, 3.0, "fails"),
    ],
)  # fmt: skip
def test_nothing_is_decided_that_the_interval_leaves_open(
    expects: str, margin: float, mean: float, verdict: str
) -> None:
    found = Estimate(mean, 3, 9, 1.0, np.linspace(-2.0, 2.0, 101))
    said = {"name": "x", "says": "x", "evaluation": "fresh", "expects": expects, "margin": margin}
    claim = StudyClaim.model_validate({**said, "plus": [{"arm": "both"}]})
    assert find_verdict(claim, found, 0.04) == verdict
    assert find_verdict(claim, found, 0.05) == find_verdict(claim, found, 0.06) == "undecided"
    is_within = expects == "alike" and verdict == "holds"
    sign = -1 if expects == "less" or (expects == "alike" and mean < 0) else 1
    expected = found.lies_within(margin) if is_within else found.differs_from(sign * margin)
    assert find_p_value(claim, found) == expected


def test_seeds_that_disagree_leave_it_undecided_though_each_is_clear(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    write_answers(study, "start", None, some(0.6))
    for seed, share in enumerate((0.45, 0.75, 0.85)):
        write_answers(study, "both", seed, some(share, seed))
    judged = judge(study)["training"]
    assert judged.verdict == "undecided"
    assert all(p < 0.001 for _, p in judged.seed_p_values)


ALIKE = """
[[claims]]
name = "alike"
says = "Training costs nothing."
evaluation = "fresh"
plus = [{ arm = "both" }]
minus = [{ arm = "start" }]
expects = "alike"
margin = 0.1
"""


@pytest.mark.parametrize(("share", "verdict"), [(0.6, "holds"), (0.9, "fails"), (0.68, "undecided")])
def test_alike_is_shown_within_its_margin(tmp_path: Path, share: float, verdict: str) -> None:
    study = make_study(tmp_path, ALIKE)
    write_answers(study, "start", None, some(0.6))
    for seed in (0, 1, 2):
        write_answers(study, "both", seed, some(share, seed))
    assert judge(study)["alike"].verdict == verdict


def test_a_study_that_has_only_begun_says_so(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    assert judge(study)["training"].verdict == "not measured yet"
    write_answers(study, "start", None, some(0.3))
    write_answers(study, "both", 1, some(0.9))
    judged = judge(study)["training"]
    assert judged.is_preliminary
    assert judged.estimate is not None
    assert judged.estimate.num_seeds == 1
    assert judged.p_corrected is not None and judged.p_corrected < 0.01
    assert judged.verdict == "one seed only"


def test_a_difference_of_differences_and_a_slope(tmp_path: Path) -> None:
    more = """
[[claims]]
name = "interaction"
says = "Training helps two looks more than one."
evaluation = "fresh"
plus = [{ arm = "both" }, { arm = "start", mode = "direct" }]
minus = [{ arm = "start" }, { arm = "both", mode = "direct" }]
per = 2
"""
    study = make_study(tmp_path, more)
    for arm, seeds, two, one in (("start", (None,), 0.5, 0.3), ("both", (0, 1, 2), 0.9, 0.4)):
        for seed in seeds:
            write_answers(study, arm, seed, some(two, seed or 0))
            write_answers(study, arm, seed, some(one, seed or 0), mode="direct")
    found = judge(study)["interaction"].estimate
    assert found is not None
    assert found.mean == pytest.approx((0.4 - 0.1) / 2, abs=0.02)
    assert judge(study)["interaction"].seed_p_values == ()


def test_cells_with_the_same_questions_are_paired_in_whatever_words_they_are_asked(tmp_path: Path) -> None:
    more = """
[evaluations.reworded]
benchmark = "needles"
num = 40
seed = 9000
prompts = "paper"

[[claims]]
name = "wording"
says = "It does not hang on the wording."
plus = [{ arm = "both", evaluation = "reworded" }]
minus = [{ arm = "both", evaluation = "fresh" }]
"""
    study = make_study(tmp_path, more)
    for seed in (0, 1, 2):
        write_answers(study, "both", seed, some(0.6, seed))
        write_answers(study, "both", seed, some(0.7, seed), evaluation="reworded")
    judged = judge(study)["wording"]
    assert judged.estimate is not None
    assert judged.estimate.num_questions == NUM, "the same questions count once"
    assert len(judged.seed_p_values) == 3


def test_failed_questions_are_neither_right_nor_wrong(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    write_answers(study, "start", None, [True, None, False, True])
    values = Reader(study).values_of(StudyCell(evaluation="fresh", arm="start"))
    assert values.num_failed == 1
    assert np.nanmean(values.values_SQ) == pytest.approx(2 / 3)
    assert values.chance == 0.5


FAILURE = {"stage": "reason", "kind": "EndpointError", "message": "the server has gone"}


@pytest.mark.parametrize(
    ("change", "measures"),
    [
        ({"failure": FAILURE}, ("accuracy", "hit rate", "IoU", "boxes", "box size", "tokens", "place")),
        ({"reasoning": None, "verdict": None}, ("accuracy",)),
        ({"perception": None}, ("hit rate", "in crops", "IoU", "boxes", "box size")),
    ],
)
def test_what_is_not_known_of_a_question_is_not_counted(
    tmp_path: Path, change: dict[str, object], measures: tuple[str, ...]
) -> None:
    study = make_study(tmp_path)
    write_answers(study, "start", None, [True, True])
    [path] = (study.out / "answers").rglob(TRACES_FILE)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in (rows[0], rows[1] | change)), encoding="utf-8")
    reader = Reader(study)
    for measure in measures:
        cell = StudyCell.model_validate({"evaluation": "fresh", "arm": "start", "measure": measure})
        assert np.isnan(reader.values_of(cell).values_SQ).tolist() == [[False, True]], measure


def test_an_arm_of_which_a_seed_failed_everywhere_is_not_measured(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    write_answers(study, "start", None, [True, False])
    write_answers(study, "both", 0, [True, True])
    write_answers(study, "both", 1, [None, None])
    judged = judge(study)["training"]
    assert (judged.estimate, judged.verdict, judged.seed_p_values) == (None, "not measured yet", ())


def test_measures_of_boxes_and_tokens(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    write_answers(study, "start", None, [True, False], boxes={1: (AWAY, AWAY)})
    write_answers(study, "start", None, [True, False], mode="direct")
    reader = Reader(study)

    def values(measure: str, mode: str = "p2r") -> list[float]:
        cell = StudyCell.model_validate({"evaluation": "fresh", "arm": "start", "measure": measure, "mode": mode})
        return reader.values_of(cell).values_SQ[0].tolist()

    assert values("accuracy") == [1.0, 0.0]
    assert values("hit rate") == [1.0, 0.0]
    assert values("in crops") == [1.0, 0.0]
    assert values("IoU") == [1.0, 0.0]
    assert values("boxes") == [1.0, 2.0]
    assert [values(miss) for miss in ("format", "spelling", "place", "reading")] == [[0, 0], [0, 0], [0, 1], [0, 0]]
    assert values("reading", "direct") == [0.0, 1.0]
    assert np.isnan(values("place", "direct")).all(), "a mode that does not look is in no wrong place"
    assert values("box size") == pytest.approx([0.04, 0.09])
    assert values("tokens") == [100.0, 100.0]
    assert np.isnan(values("hit rate", "direct")).all(), "a mode that does not look has no hits"


def test_a_category_is_a_part_of_the_questions(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    write_answers(study, "start", None, [True, False, True], categories=["pair", "pair", "relation"])
    values = Reader(study).values_of(StudyCell(evaluation="fresh", arm="start", category="pair"))
    assert values.values_SQ.tolist() == [[1.0, 0.0]]


def test_the_chance_of_a_cell_is_that_of_its_own_questions_and_only_of_answers(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    categories, chances = ["pair", "pair", "relation", "relation"], [0.2, 0.4, 0.5, 0.5]
    write_answers(study, "start", None, [True] * 4, categories=categories, chances=chances)
    reader = Reader(study)
    assert reader.values_of(StudyCell(evaluation="fresh", arm="start", category="pair")).chance == pytest.approx(0.3)
    assert reader.values_of(StudyCell(evaluation="fresh", arm="start", measure="hit rate")).chance is None


def test_questions_of_two_categories_are_not_paired(tmp_path: Path) -> None:
    changes = ["claims.0.category=pair", "claims.0.minus=[{arm='both', category='relation'}]"]
    study = make_study(tmp_path, changes=changes)
    for seed in (0, 1, 2):
        write_answers(study, "both", seed, [True, True, False, True], categories=["pair", "relation"] * 2)
    found = judge(study)["training"].estimate
    assert found is not None
    assert (found.mean, found.num_questions) == (-0.5, 4)


def test_a_question_without_gold_boxes_is_neither_a_hit_nor_a_miss(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    write_answers(study, "start", None, [True, False], without_gold=(1,))
    reader = Reader(study)
    for measure in ("hit rate", "in crops", "IoU", "place", "reading"):
        cell = StudyCell.model_validate({"evaluation": "fresh", "arm": "start", "measure": measure})
        assert np.isnan(reader.values_of(cell).values_SQ).tolist() == [[False, True]], measure


def test_cells_share_seeds_where_one_training_gave_their_checkpoints(tmp_path: Path) -> None:
    more = """
[arms.other]
recipe = "nano"

[[tables]]
title = "Pairs"
evaluation = "fresh"
rows = [{ name = "x", arm = "start", perceiver = "first" }, { name = "y", arm = "other", perceiver = "start" }]
columns = [{ name = "accuracy" }]
"""
    study = make_study(tmp_path, more)
    pairs = (
        ("both", None),
        ("first", None),
        ("other", None),
        ("start", "first"),
        ("other", "start"),
        ("other", "both"),
    )
    for arm, perceiver in pairs:
        for seed in (0, 1):
            write_answers(study, arm, seed, [True], perceiver=perceiver)
    reader = Reader(study)

    def find_training(arm: str, perceiver: str | None) -> str:
        return reader.values_of(StudyCell(evaluation="fresh", arm=arm, perceiver=perceiver)).as_part(1.0).arm

    both, first, other, looks_only, answers_only, mixed = (find_training(*pair) for pair in pairs)
    assert both == first == looks_only
    assert other == answers_only
    assert len({both, other, mixed}) == 3


def test_an_arm_with_other_seeds_so_far_in_another_mode_is_compared_as_if_it_were_another(tmp_path: Path) -> None:
    study = make_study(tmp_path, changes=["claims.0.minus=[{arm='both', mode='direct'}]"])
    for seed in (0, 1):
        write_answers(study, "both", seed, [True, True, False, True])
    write_answers(study, "both", 0, [True, False, False, False], mode="direct")
    judged = judge(study)["training"]
    assert judged.is_preliminary and judged.estimate is not None
    assert (judged.estimate.mean, judged.estimate.num_seeds) == (0.5, 1)


@pytest.mark.parametrize(("measure", "span"), [("boxes", 2.0), ("tokens", 50.0), ("accuracy", 1.0), ("IoU", 1.0)])
def test_counts_differ_by_what_was_seen_and_shares_by_at_most_1(tmp_path: Path, measure: str, span: float) -> None:
    study = make_study(tmp_path)
    write_answers(study, "both", 0, [True, True], boxes={1: (AWAY,) * 3}, num_tokens=100)
    write_answers(study, "both", 2, [True, True], num_tokens=150)
    cell = StudyCell.model_validate({"evaluation": "fresh", "arm": "both", "measure": measure})
    assert Reader(study).values_of(cell).as_part(1.0).span == span


def test_holm_corrects_over_all_claims(tmp_path: Path) -> None:
    others = "".join(
        f"\n[[claims]]\nname = 'c{k}'\nsays = 'x'\nevaluation = 'fresh'\nplus = [{{ arm = 'both' }}]\n"
        "minus = [{ arm = 'start' }]\n"
        for k in range(9)
    )
    study = make_study(tmp_path, others)
    write_answers(study, "start", None, some(0.6))
    for seed in (0, 1, 2):
        write_answers(study, "both", seed, some(0.66 + 0.01 * seed, seed))
    judged = judge(study)["training"]
    assert judged.p_value is not None and judged.p_corrected is not None
    assert judged.p_corrected == pytest.approx(min(1.0, 10 * judged.p_value))
    assert judged.p_value < 0.05
    assert judged.verdict == "undecided"


def test_phases_of_one_arm_share_its_seeds(tmp_path: Path) -> None:
    more = """
[[claims]]
name = "second phase"
says = "The second phase helps."
evaluation = "fresh"
plus = [{ arm = "both" }]
minus = [{ arm = "first" }]
"""
    study = make_study(tmp_path, more)
    write_answers(study, "start", None, some(0.6))
    for seed, share in enumerate((0.5, 0.7, 0.85)):
        write_answers(study, "first", seed, some(share, seed))
        write_answers(study, "both", seed, some(share + 0.1, seed))
    judged = judge(study)["second phase"]
    assert judged.estimate is not None
    assert judged.estimate.interval.low > 0
    assert judged.verdict == "holds"


def test_one_seed_decides_nothing_however_little_it_differs(tmp_path: Path) -> None:
    study = make_study(tmp_path, changes=["seeds=[1]"])
    write_answers(study, "start", None, some(0.6))
    write_answers(study, "both", 1, some(0.6))
    judged = judge(study)["training"]
    assert judged.p_corrected is not None and judged.p_corrected > 0.05
    assert judged.verdict == "one seed only"


def test_what_was_not_trained_is_decided_without_seeds(tmp_path: Path) -> None:
    changes = ["claims.0.plus=[{arm='start'}]", "claims.0.minus=[{arm='start', mode='direct'}]"]
    study = make_study(tmp_path, changes=changes)
    write_answers(study, "start", None, some(0.9))
    write_answers(study, "start", None, some(0.3), mode="direct")
    judged = judge(study)["training"]
    assert judged.estimate is not None and judged.estimate.num_seeds == 0
    assert judged.verdict == "holds"
    assert [name for name, _ in judged.seed_p_values] == [""]


def test_rotations_of_a_question_are_one_trial_of_the_exact_test_of_a_seed(tmp_path: Path) -> None:
    study = make_study(tmp_path, changes=["seeds=[0, 1]"])
    rotations = [f"q{place // 4}" for place in range(16)]
    write_answers(study, "start", None, [False] * 16, clusters=rotations)
    for seed in (0, 1):
        write_answers(study, "both", seed, [True] * 16, clusters=rotations)
    assert judge(study)["training"].seed_p_values == (("0", 2 / 2**4), ("1", 2 / 2**4))


def test_questions_that_failed_on_either_side_are_no_trials_of_the_exact_test(tmp_path: Path) -> None:
    study = make_study(tmp_path, changes=["seeds=[0, 1]"])
    write_answers(study, "start", None, [None, False, False, False, False])
    for seed in (0, 1):
        write_answers(study, "both", seed, [True, None, True, True, True])
    assert judge(study)["training"].seed_p_values == (("0", 2 / 2**3), ("1", 2 / 2**3))


@pytest.mark.parametrize(
    "minus",
    ["evaluation = 'other'", "evaluation = 'fresh', category = 'pair'", "evaluation = 'fresh', measure = 'hit rate'"],
)
def test_no_exact_test_compares_other_questions_or_other_measures(tmp_path: Path, minus: str) -> None:
    other = "\n[evaluations.other]\nbenchmark = 'needles'\nnum = 40\nseed = 9001\n"
    claim = "\n[[claims]]\nname = 'x'\nsays = 'x'\nplus = [{ arm = 'both', evaluation = 'fresh' }]\n"
    claim += f"minus = [{{ arm = 'start', {minus} }}]\n"
    study = make_study(tmp_path, other + claim)
    for evaluation in ("fresh", "other"):
        write_answers(study, "start", None, [True, False] * 4, evaluation=evaluation, categories=["pair"] * 8)
    for seed in (0, 1, 2):
        write_answers(study, "both", seed, [True] * 8, categories=["pair"] * 8)
    judged = judge(study)["x"]
    assert judged.estimate is not None
    assert judged.seed_p_values == ()


def test_a_list_of_questions_that_was_cut_off_is_told_by_its_length(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    write_answers(study, "start", None, [True, False])
    write_answers(study, "both", 1, [True, False])
    [path] = (study.out / "answers" / "fresh" / "both").rglob(SAMPLES_FILE)
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    with pytest.raises(StorageError, match=r"lists \d questions?, and .* lists \d of the same: samples.jsonl of one"):
        judge(study)


def test_answers_to_questions_of_other_names_are_not_mixed(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    write_answers(study, "start", None, [True, False])
    write_answers(study, "both", 1, [True, False])
    [path] = (study.out / "answers" / "fresh" / "both").rglob(SAMPLES_FILE)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(f"{json.dumps(row | {'sample_id': row['sample_id'] + 'b'})}\n" for row in rows))
    with pytest.raises(StorageError, match=r"holds answers to other questions than"):
        judge(study)


def test_answers_to_two_sets_of_questions_are_not_mixed(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    write_answers(study, "start", None, [True, False])
    write_answers(study, "both", 1, [True, False])
    for arm, seed, fingerprint in (("start", None, "aa"), ("both", 1, "aa"), ("both", 1, "bb")):
        place = next(study.out.glob(f"answers/fresh/{arm}/{'seed-1/' if seed else ''}needles/p2r")) / SETTINGS_FILE
        known = json.loads(place.read_text(encoding="utf-8"))
        place.write_text(json.dumps(known | {"benchmark_fingerprint": fingerprint}), encoding="utf-8")
        if fingerprint == "bb":
            with pytest.raises(StorageError, match=r"holds answers to other questions than .*both"):
                judge(study)
        else:
            judge(study)
