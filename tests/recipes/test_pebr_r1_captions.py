"""Rows for PeBR-R1 on nano: right replies in sections, questions with key words, and nothing held out is trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

pytest.importorskip("torch")

from p2r.answers import extract_answer
from p2r.answers.sections import DESCRIPTION, find_section, has_all_sections
from p2r.benchmarks import load_benchmark
from p2r.benchmarks.base import Sieve
from p2r.benchmarks.layout import Source
from p2r.benchmarks.needles import to_sample
from p2r.boxes.parse import parse_boxes
from p2r.cli.app import app
from p2r.config import SftSettings
from p2r.errors import ConfigError
from p2r.images.budget import fit
from p2r.prompts import load_prompt_set
from p2r.training.rewards.built_in import answer_terms
from p2r.training.sft.demonstrations import read_demonstrations
from recipes.nano.pool import BUDGET
from recipes.pebr_r1.captions import (
    COUNTS,
    PROMPTS,
    SEEDS,
    draw_cases,
    list_key_words,
    main,
    write_file,
    write_reply,
    write_row,
)

NAMES = ("warm_up", "train", "held_out")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    for name, count in zip(NAMES, (10, 6, 4), strict=True):
        write_file(folder, name, [write_row(folder, name, index) for index in range(count)])
    return folder


def test_every_written_reply_is_right_and_names_all_there_is() -> None:
    for scene, question in draw_cases(5, 60):
        reply = write_reply(scene, question)
        assert has_all_sections(reply)
        assert extract_answer(reply, "free_form", ()).text == question.answer
        described = (find_section(reply, DESCRIPTION) or "").lower()
        assert all(word in described for word in list_key_words(scene))


def test_a_description_goes_from_left_to_right() -> None:
    for scene, question in draw_cases(6, 30):
        described = find_section(write_reply(scene, question), DESCRIPTION) or ""
        in_order = [f"{item.name}: {item.pattern}" for item in sorted(scene.objects, key=lambda item: item.x)]
        assert described == ", ".join(in_order)


@pytest.mark.parametrize("name", ["train", "held_out"])
def test_questions_are_read_with_their_key_words_and_families(rows: Path, name: str) -> None:
    benchmark = load_benchmark(str(rows / f"{name}.jsonl"))
    cases = list(draw_cases(SEEDS[name], len(benchmark)))
    for sample, (scene, question) in zip(benchmark, cases, strict=True):
        assert (sample.question, sample.target, sample.answer_form) == (question.text, question.answer, "free_form")
        assert (sample.category, sample.key_words) == (question.family, tuple(list_key_words(scene)))
        assert answer_terms(write_reply(scene, question), sample, 1)["keywords"] == 1.0
    done = CliRunner().invoke(app, ["check", str(rows / f"{name}.jsonl")])
    assert done.exit_code == 0, done.output
    assert "fit to be run" in done.output


def test_images_are_saved_as_nano_is_shown_them(rows: Path) -> None:
    for path in (rows / "images").iterdir():
        with Image.open(path) as image:
            assert image.size == (256, 256) or "warm_up-00009-" in path.name
            assert fit(image, BUDGET).size == image.size


def test_the_warm_up_has_replies_in_sections_and_of_both_roles(rows: Path) -> None:
    found = read_demonstrations(Source(rows / "warm_up.jsonl", Sieve()), SftSettings())
    assert len(found.rows) == 10 and not found.left_out and not found.bad
    *sections, boxes, answer = found.rows
    sectioned, release = load_prompt_set(PROMPTS), load_prompt_set("release")
    for row, case in zip(found.rows, draw_cases(SEEDS["warm_up"], 10), strict=True):
        sample, [(asked, _)] = to_sample(*case, ""), row.turns
        wording = release.perceiver if row is boxes else release.reasoner if row is answer else None
        assert asked == (wording or sectioned.reasoner_without_evidence)(sample).strip()
        assert row.system == release.system
        if row is boxes:
            assert parse_boxes(row.turns[0][1])[0] == sample.gold_boxes
        if row is answer:
            assert len(row.images) == 1 + len(sample.gold_boxes)
            assert extract_answer(row.turns[0][1], "free_form", ()).text == sample.target
    assert all(has_all_sections(row.turns[0][1]) and len(row.images) == 1 for row in sections)


def test_no_scene_is_in_two_files() -> None:
    seen: dict[object, str] = {}
    for name in NAMES:
        for scene, _ in draw_cases(SEEDS[name], min(COUNTS[name], 200)):
            assert seen.setdefault(scene, name) == name


def test_the_same_rows_come_again(rows: Path, tmp_path: Path) -> None:
    write_file(tmp_path, "train", [write_row(tmp_path, "train", index) for index in range(6)])
    assert (tmp_path / "train.jsonl").read_bytes() == (rows / "train.jsonl").read_bytes()
    image = "images/train-00003.png"
    assert (tmp_path / image).read_bytes() == (rows / image).read_bytes()


def test_no_rows_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["captions", "--out", str(tmp_path), "--train", "0"])
    with pytest.raises(ConfigError, match="there are no 0 rows"):
        main()
