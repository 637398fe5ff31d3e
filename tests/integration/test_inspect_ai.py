"""The real `inspect` command over Needles: walks, verdicts, failures, and what its log holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from p2r.benchmarks.needles import Needles
from p2r.types import Trace
from tests.fakes import guest_tools

pytestmark = pytest.mark.slow

Log = dict[str, Any]
BOXES = '[{"bbox_2d": [400, 400, 600, 600], "label": "it"}]'
NUM_SAMPLES = 6


@pytest.fixture(autouse=True)
def inspect_is_there() -> None:
    guest_tools.require("inspect_ai", "inspect_ai")


def inspect(here: Path, *arguments: str) -> tuple[str, list[Log]]:
    """What the command said, and its logs, the oldest first."""
    settings = {"INSPECT_LOG_DIR": "logs", "INSPECT_LOG_FORMAT": "json", "INSPECT_DISPLAY": "plain"}
    done = guest_tools.run("inspect_ai", *arguments, cwd=here, **settings)
    paths = sorted((here / "logs").glob("*.json")) if (here / "logs").is_dir() else []
    return done.stdout, [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def inspect_needles(here: Path, *arguments: str) -> tuple[str, list[Log]]:
    return inspect(here, "eval", "p2r/needles", "-T", f"num_samples={NUM_SAMPLES}", *arguments)


def write_script(here: Path, reasoner: str | list[str]) -> str:
    (here / "replies.json").write_text(json.dumps({"perceiver": BOXES, "reasoner": reasoner}))
    return f"model=scripted:{here / 'replies.json'}"


def metrics_of(log: Log) -> dict[str, float]:
    return {name: metric["value"] for name, metric in log["results"]["scores"][0]["metrics"].items()}


def test_nano_walks_and_is_judged_as_by_p2r(tmp_path: Path) -> None:
    said, (log,) = inspect_needles(tmp_path)
    assert log["status"] == "success", said
    traces = [Trace.model_validate(sample["metadata"]["trace"]) for sample in log["samples"]]
    assert all(trace.boxes and trace.evidence and trace.evidence.crops for trace in traces)
    right = [sample["scores"]["verdict"]["value"] == "C" for sample in log["samples"]]
    for sample, trace, is_right, needle in zip(
        log["samples"], traces, right, Needles(num_samples=NUM_SAMPLES), strict=True
    ):
        assert sample["id"] == needle.id and sample["target"] == needle.target
        assert len(sample["metadata"]["gold_boxes"]) == len(needle.gold_boxes)
        assert sample["output"]["completion"] == (trace.reasoning and trace.reasoning.text)
        given = trace.answer and (trace.answer.letter or trace.answer.text)
        assert is_right == (given == needle.target)
    assert metrics_of(log)["accuracy"] == pytest.approx(sum(right) / NUM_SAMPLES)
    assert {"attribute", "relation", "pair"} <= metrics_of(log).keys()


def test_failed_walk_is_not_scored_and_a_retry_asks_only_those(tmp_path: Path) -> None:
    letter = Needles(num_samples=NUM_SAMPLES)[3].target
    argument = write_script(tmp_path, [f"<answer>{letter}</answer>"] * 4)
    said, (log,) = inspect_needles(tmp_path, "-T", argument, "--no-fail-on-error", "--max-samples", "1")
    failed = [sample for sample in log["samples"] if sample.get("error")]
    assert len(failed) == 2, said
    assert all("used up" in sample["error"]["message"] and not sample.get("scores") for sample in failed)
    assert all(sample["metadata"]["trace"]["failure"]["stage"] == "reason" for sample in failed)
    assert log["results"]["scores"][0]["scored_samples"] == 4
    assert metrics_of(log)["accuracy"] == pytest.approx(1 / 4)

    write_script(tmp_path, ["<answer>Z</answer>"] * 2)
    first = next((tmp_path / "logs").glob("*.json"))
    said, logs = inspect(tmp_path, "eval-retry", str(first))
    assert logs[-1]["results"]["scores"][0]["scored_samples"] == NUM_SAMPLES, said
    assert metrics_of(logs[-1])["accuracy"] == pytest.approx(1 / 6)


def test_too_many_failures_end_the_run(tmp_path: Path) -> None:
    said, (log,) = inspect_needles(tmp_path, "-T", write_script(tmp_path, []))
    assert log["status"] == "error", said


def test_answer_that_cannot_be_judged_is_unscored(tmp_path: Path) -> None:
    (tmp_path / "questions.jsonl").write_text(
        '{"id": "a", "image": "a.png", "question": "How many?", "answer_form": "number", "target": "2"}\n'
        '{"id": "b", "image": "a.png", "question": "How many?", "answer_form": "number", "target": "a few"}\n'
    )
    next(iter(Needles(num_samples=1))).image.load().resize((64, 64)).save(tmp_path / "a.png")
    argument = write_script(tmp_path, "<answer>2</answer>")
    said, (log,) = inspect(
        tmp_path, "eval", "p2r/benchmark", "-T", f"spec=folder:{tmp_path / 'questions.jsonl'}", "-T", argument
    )
    assert log["status"] == "success", said
    assert log["results"]["scores"][0]["scored_samples"] == 1
    assert log["results"]["scores"][0]["unscored_samples"] == 1
    assert metrics_of(log)["accuracy"] == 1.0
    assert "not a number" in log["samples"][1]["scores"]["verdict"]["explanation"]


def test_bad_argument_is_one_sentence(tmp_path: Path) -> None:
    said, logs = inspect_needles(tmp_path, "-T", "mode=sideways", "-T", write_script(tmp_path, ""))
    assert "there is no mode 'sideways'" in said and "Traceback" not in said
    assert not logs
    said, logs = inspect_needles(tmp_path, "-T", "profile=p2r-4b", "-T", write_script(tmp_path, ""))
    assert "`profile` is 'p2r-4b', but scripted:" in said and "Traceback" not in said
    assert not logs
