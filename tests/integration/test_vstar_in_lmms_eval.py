"""Rows of V*, HR-Bench and MME-RealWorld, written by lmms-eval itself, are asked as `p2r eval` asks them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from p2r.benchmarks import load_benchmark
from p2r.benchmarks.needles import Needles
from p2r.benchmarks.needles.knobs import Knobs
from p2r.benchmarks.vstar_write import write_vstar_lmms
from p2r.integrations.lmms_wording import word_question
from p2r.prompts import question_text
from p2r.types import Sample
from tests.fakes import guest_tools
from tests.fakes.benchmark_files import hrbench_rows, mme_lmms_rows, vstar_lmms_rows, write_parquet, write_tsv
from tests.fakes.lmms_tasks import WRITERS

pytestmark = pytest.mark.slow

PROGRAM = """
import json, sys
from importlib import import_module
given = {"post_prompt": "\\nAnswer with the option's letter from the given choices directly."}
texts = []
for module, function, rows in json.load(sys.stdin):
    write = getattr(import_module(f"lmms_eval.tasks.{module}.utils"), function)
    texts.append([write(row, given) for row in rows])
print(json.dumps(texts))
"""
TASKS = {
    "vstar_bench": ("vstar_bench", "vstar_doc_to_text"),
    "hrbench4k": ("hrbench", "hrbench_doc_to_text"),
    "mmerealworld_lite": ("mme_realworld", "mme_realworld_doc_to_text"),
}


ROWS = {"vstar_bench": vstar_lmms_rows, "hrbench4k": hrbench_rows, "mmerealworld_lite": mme_lmms_rows}


@pytest.fixture(scope="module")
def needles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Needles in the layout of V*."""
    path = tmp_path_factory.mktemp("needles") / "test.parquet"
    write_vstar_lmms(list(Needles(seed=9, num_samples=6, knobs=Knobs(forms=("choice",)))), path)
    return path


@pytest.fixture(scope="module")
def texts(needles: Path) -> dict[str, list[str]]:
    """By task, and of the needles: the questions as lmms-eval's own functions write them."""
    import pyarrow.parquet as pq

    guest_tools.require("lmms_eval", "lmms_eval.models")
    all_rows = {task: make() for task, make in ROWS.items()}
    all_rows["needles"] = pq.read_table(needles, columns=["text"]).to_pylist()
    bare = [
        (
            *TASKS.get(task, TASKS["vstar_bench"]),
            [{name: value for name, value in row.items() if name not in ("image", "bytes")} for row in rows],
        )
        for task, rows in all_rows.items()
    ]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"PYTHONPATH": f"{guest_tools.GUESTS / 'lmms_eval'}", "HF_HUB_OFFLINE": "1", "PATH": ""},
        input=json.dumps(bare),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(all_rows, json.loads(done.stdout.splitlines()[-1]), strict=True))


def check(task: str, texts: list[str], samples: list[Sample]) -> None:
    assert len(texts) == len(samples) > 0
    for text, sample in zip(texts, samples, strict=True):
        worded = word_question(task, text)
        asked = Sample(id="q", image=sample.image, answer_form="choice", **worded._asdict())
        assert question_text(asked) == question_text(sample)
        assert asked.options == sample.options


@pytest.mark.parametrize("task", TASKS)
def test_rows_are_asked_as_p2r_eval_asks_them(task: str, texts: dict[str, list[str]], tmp_path: Path) -> None:
    rows = ROWS[task]()
    name, file = {
        "vstar_bench": ("vstar", write_parquet(tmp_path / "v.parquet", rows)),
        "hrbench4k": ("hrbench_4k", write_tsv(tmp_path / "4k.tsv", rows)),
        "mmerealworld_lite": ("mme_realworld_lite", write_parquet(tmp_path / "m.parquet", rows)),
    }[task]
    assert texts[task] == [WRITERS[task](row) for row in rows], "lmms-eval writes its questions in another way now"
    check(task, texts[task], list(load_benchmark(f"{name}:{file}")))


def test_needles_in_the_layout_of_vstar_are_asked_as_vstar_is(needles: Path, texts: dict[str, list[str]]) -> None:
    check("vstar_bench", texts["needles"], list(load_benchmark(f"vstar:{needles}")))
