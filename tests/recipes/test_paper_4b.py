"""The study at the paper's size, from its own file, with a tiny random model and a few rows in the real layouts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2r.models.local import backend  # noqa: F401  # first: it keeps a torchvision that does not fit out

# isort: split
import torch
from safetensors.torch import load_file, save_file

from tests.fakes import forked_jobs
from tests.fakes.paper_data import write_paper_data
from tests.fakes.processes import Fork
from tests.fakes.tiny_checkpoint import make_checkpoint

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "recipes" / "study" / "paper_4b.toml"
LONGEST_WAIT_S = 900.0
SMALL = [
    'set=["reward.judge=words", "rollout.max_new_tokens={ perceiver = 8, reasoner = 8 }", "partner.max_new_tokens=8"]',
    "arms.start.checkpoint=tiny",
    "num_processes=1",
]


def make_terse_model(folder: Path) -> None:
    """A tiny random Qwen3-VL that soon ends what it writes."""
    make_checkpoint(folder, max_position_embeddings=32768)
    weights = load_file(folder / "model.safetensors")
    end = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"][0]
    [name] = [name for name in weights if name.endswith("embed_tokens.weight")]
    torch.manual_seed(1)
    weights[name][end] = 2 * torch.randn(weights[name].shape[1]).to(weights[name].dtype)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def run_study(folder: Path, *flags: str) -> str:
    sets = [part for change in SMALL for part in ("--set", change)]
    process = Fork(forked_jobs.run_study, folder, str(STUDY), "--quick", *sets, *flags)
    stdout, stderr = process.communicate(timeout=LONGEST_WAIT_S)
    assert process.returncode == 0, stderr + stdout
    return stdout + stderr


@pytest.mark.slow
def test_the_study_at_the_papers_size_runs_to_its_page(tmp_path: Path) -> None:
    write_paper_data(tmp_path)
    make_terse_model(tmp_path / "tiny")
    planned = run_study(tmp_path, "--plan", "--tflops", "0.001")
    assert "0.001 TFLOP/s" in planned and "not on this machine" not in planned

    said = run_study(tmp_path)
    out = tmp_path / "runs" / "paper_4b-quick"
    assert "failed" not in said
    tables = json.loads((out / "tables.json").read_text(encoding="utf-8"))["tables"]
    by_title = {table["title"]: table for table in tables}
    for row in by_title["Claims"]["rows"]:
        assert row[-1] in ("holds", "fails", "undecided", "one seed only"), row
        assert row[2] != "-", row
    for title in ("High-resolution benchmarks (Table 1)", "Roles and their order (Figure 5)"):
        assert all(cell[0].isdigit() for row in by_title[title]["rows"] for cell in row[1:]), by_title[title]["rows"]
    page = (out / "study.html").read_text(encoding="utf-8")
    assert "Boxes of a rollout" in page and "MME-RealWorld-Lite" in page

    again = run_study(tmp_path, "--resume")
    assert "running" not in again
    finished = run_study(tmp_path, "--plan")
    assert "0 of 1" not in finished and "what ran" in finished
