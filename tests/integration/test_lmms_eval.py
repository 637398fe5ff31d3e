"""The real `lmms_eval` command with p2r as its model, over a task of Needles in lmms-eval's own format."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from p2r.benchmarks.needles import Needles
from p2r.prompts import question_text
from p2r.runs.store import read_traces
from tests.fakes import guest_tools

pytestmark = pytest.mark.slow

CLOSING = "Answer with the option's letter from the given choices directly."
BOXES = '[{"bbox_2d": [400, 400, 600, 600], "label": "it"}]'
NUM_SAMPLES = 6

TASK = """
task: {task}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {rows}
test_split: test
output_type: generate_until
doc_to_visual: !function functions.{task}
doc_to_text: !function functions.doc_to_text
doc_to_target: target
process_results: !function functions.process_results
generation_kwargs:
  max_new_tokens: 16
  temperature: 0
metric_list:
  - metric: right
    aggregation: mean
    higher_is_better: true
lmms_eval_specific_kwargs:
  default:
    post_prompt: "\\n{closing}"
"""
FUNCTIONS = """
from PIL import Image

def one_image(doc):
    return [Image.open(doc["image"])]

def two_images(doc):
    return one_image(doc) * 2

def doc_to_text(doc, lmms_eval_specific_kwargs):
    return doc["text"] + (lmms_eval_specific_kwargs["post_prompt"] if "A." in doc["text"] else "")

def process_results(doc, results):
    return {"right": float(results[0] == doc["target"])}
"""


@dataclass(frozen=True)
class Run:
    """What one call of lmms-eval said and wrote; without a result it was stopped."""

    said: str
    right: float | None
    samples: list[dict[str, Any]]

    @property
    def replies(self) -> list[str]:
        return [sample["filtered_resps"] for sample in self.samples]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    guest_tools.require("lmms_eval", "lmms_eval.models")
    (tmp_path / "tasks").mkdir()
    rows: list[dict[str, str | None]] = []
    for number, sample in enumerate(Needles(num_samples=NUM_SAMPLES)):
        path = tmp_path / f"{number}.png"
        sample.image.load().save(path)
        rows.append({"text": question_text(sample), "image": str(path), "target": sample.target})
    path = tmp_path / "needles.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for task in ("one_image", "two_images"):
        (tmp_path / "tasks" / f"{task}.yaml").write_text(TASK.format(task=task, rows=path, closing=CLOSING))
    (tmp_path / "tasks" / "functions.py").write_text(FUNCTIONS)
    return tmp_path


def make_arguments(*model_args: str, task: str = "one_image", out: str = "out") -> list[str]:
    named = ("--model", "p2r", "--model_args", ",".join(model_args), "--tasks", task, "--include_path", "tasks")
    return [*named, "--output_path", out, "--log_samples"]


def lmms_eval(here: Path, *model_args: str, out: str = "out") -> Run:
    done = guest_tools.run("lmms_eval", *make_arguments(*model_args, out=out), cwd=here)
    results = list((here / out).rglob("*_results.json"))
    if not results:
        return Run(done.stdout, None, [])
    lines = next((here / out).rglob("*_samples_*.jsonl")).read_text().splitlines()
    return Run(
        done.stdout,
        json.loads(results[0].read_text())["results"]["one_image"]["right,none"],
        sorted(map(json.loads, lines), key=lambda sample: sample["doc_id"]),
    )


def write_script(here: Path, reasoner: str | list[str]) -> str:
    path = here / "replies.json"
    path.write_text(json.dumps({"perceiver": BOXES, "reasoner": reasoner}))
    return f"model=scripted:{path}"


def test_nano_walks_and_lmms_eval_scores_what_was_read(here: Path) -> None:
    run = lmms_eval(here, "model=nano", "out=run")
    assert len(run.replies) == NUM_SAMPLES, run.said
    traces = {trace.sample_id: trace for trace in read_traces(here / "run" / "traces.jsonl")}
    needles = Needles(num_samples=NUM_SAMPLES)
    for number, (reply, needle) in enumerate(zip(run.replies, needles, strict=True)):
        trace = traces[f"one_image/test/{number}"]
        assert trace.evidence and trace.evidence.image_wh == needle.image.load().size
        assert trace.answer and reply == (trace.answer.letter or trace.answer.text)
        assert trace.options == needle.options
        assert trace.question == question_text(needle)
        assert run.samples[number]["token_counts"][0]["output_tokens"] > 0
    right = [reply == needle.target for reply, needle in zip(run.replies, needles, strict=True)]
    assert run.right == pytest.approx(sum(right) / NUM_SAMPLES)


def test_failure_stops_the_run_and_the_same_command_goes_on(here: Path) -> None:
    model = write_script(here, ["<answer>B</answer>"] * 4)
    run = lmms_eval(here, model, "out=run", "num_at_once=1")
    assert run.right is None
    assert "1 of 6 questions failed" in run.said and "used up" in run.said and "the same command resumes" in run.said
    run = lmms_eval(here, model, "out=run", "num_at_once=1")
    assert "4 of 6 questions are answered already" in run.said
    assert run.replies == ["B"] * NUM_SAMPLES


def test_allowed_failure_is_an_empty_reply_and_is_said(here: Path) -> None:
    run = lmms_eval(
        here, write_script(here, ["<answer>B</answer>"] * 4), "out=run", "closing=keep", "num_at_once=1", "max_failed=2"
    )
    assert run.replies == ["B"] * 4 + [""] * 2
    assert "2 of 6 questions failed" in run.said and "counts them wrong" in run.said
    questions = {trace.sample_id: trace.question for trace in read_traces(here / "run" / "traces.jsonl")}
    assert questions["one_image/test/3"].endswith(f"\n{CLOSING}")


RUN_EACH = """
import json, os, runpy, sys
import lmms_eval.__main__, lmms_eval.evaluator
for number, arguments in enumerate(json.loads(sys.argv[1])):
    if os.fork():
        os.wait()
        continue
    said = os.open(f"{number}.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv = ["lmms_eval", *arguments]
    runpy.run_module("lmms_eval", run_name="__main__")
    sys.exit()
"""
"""Commands in forks of one process, because what takes long is to import lmms-eval."""


def test_what_cannot_be_asked_is_refused(here: Path) -> None:
    """A task with two images, a mode that needs gold boxes, and the profile of what is no server."""
    model = write_script(here, "B")
    commands = [
        make_arguments(model, task="two_images", out="0"),
        make_arguments(model, "mode=oracle", out="1"),
        make_arguments(model, "profile=p2r-4b", out="2"),
    ]
    done = guest_tools.run_python("lmms_eval", "-c", RUN_EACH, json.dumps(commands), cwd=here)
    assert done.returncode == 0, done.stdout
    two, oracle, profile = ((here / f"{number}.txt").read_text() for number in range(3))
    assert "p2r looks at one image" in two
    assert "cannot be answered in the mode 'oracle'" in oracle
    assert "`profile` is 'p2r-4b', but scripted:" in profile
    assert not [path for number in range(3) for path in (here / str(number)).rglob("*_results.json")]
