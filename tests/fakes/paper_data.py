"""The data of the paper's studies as they are passed around, a few rows of each, in a folder `data`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.fakes.benchmark_files import (
    MME_CATEGORIES,
    MME_OPTIONS,
    hrbench_rows,
    make_bytes,
    write_parquet,
    write_reasonseg,
    write_vstar,
)


def write_paper_data(folder: Path) -> None:
    """Write V*, HR-Bench, MME-RealWorld-Lite, ReasonSeg and P2R-10k into `folder`/data."""
    data = folder / "data"
    write_vstar(data / "vstar_bench", num_attributes=2, num_relations=1)
    for resolution in ("4k", "8k"):
        write_parquet(data / f"hr_bench_{resolution}.parquet", hrbench_rows(1))
    write_mme(data)
    write_reasonseg(data / "ReasonSeg" / "val")
    write_p2r10k(data / "P2R-10k")


def write_mme(folder: Path, num_rows: int = 3) -> None:
    """MME-RealWorld-Lite as its authors release it: a JSON file, and images in a folder."""
    rows: list[dict[str, str | list[str]]] = []
    for number in range(num_rows):
        image = folder / "mme_images" / "scenes" / f"{number}.jpg"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(make_bytes(number))
        task, _, subtask = MME_CATEGORIES[number % len(MME_CATEGORIES)].partition("/")
        rows.append(
            {
                "Question_id": f"{task}/{number}",
                "Image": f"scenes/{number}.jpg",
                "Text": f"What is the color of truck {number}?",
                "Question Type": "Multiple Choice",
                "Answer choices": MME_OPTIONS,
                "Ground truth": "B",
                "Category": "color",
                "Subtask": subtask,
                "Task": task,
            }
        )
    (folder / "MME_RealWorld_Lite.json").write_text(json.dumps(rows), encoding="utf-8")


def write_p2r10k(folder: Path, num_rows: int = 6) -> None:
    """Rows of P2R-10k with a choice, a number and a free answer in turns."""
    (folder / "images").mkdir(parents=True)
    targets = [
        ("What colour is it?\nA. red\nB. blue", "B", "mca"),
        ("How many?", "3", "na"),
        ("What is it?", "kite", ""),
    ]
    rows: list[dict[str, object]] = []
    for number in range(num_rows):
        (folder / "images" / f"{number}.jpg").write_bytes(make_bytes(number))
        question, target, form = targets[number % len(targets)]
        rows.append(
            {
                "prompt": [{"role": "user", "content": f"<image>\n{question}"}],
                "images": [f"images/{number}.jpg"],
                "data_source": "deepeyes",
                "reward_model": {"style": "rule", "ground_truth": target},
                "extra_info": {"answer_form": form} if form else {},
            }
        )
    (folder / "train.json").write_text(json.dumps(rows), encoding="utf-8")
