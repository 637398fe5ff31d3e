"""Check that two states of the code give the same results: record traces, scores, losses and weights, compare records.

    python -m benchmarks.same_results record before.json
    python -m benchmarks.same_results compare before.json after.json

What is recorded: Needles in six modes with nano (every trace and every score), the readings of the golden fixtures, and
five steps of both phases of PRA-GRPO and of the control `joint` (metrics, probes, rollouts and the weights' hashes).
Times are left out. Everything runs through the command, or through `p2r.answers` and `p2r.boxes`, so the script runs on
any state of the code that has them. It takes a few minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
MODES = ("direct", "thinking", "random", "p2r", "oracle", "shuffled")
LEFT_OUT = frozenset({"seconds", "timing", "reason", "reworded"})
"""Fields that are left out: times, explanations in words, and what a server did not take. A fingerprint of a rollout
covers times, so it is left out too."""
SMALL = (
    "data.num_rows=64",
    "rollout.prompts_per_step=4",
    "rollout.group_size=4",
    "probe.num=12",
    "probe.every=5",
    "checkpoint.every=5",
)
RUNS: Mapping[str, tuple[str, ...]] = {
    "alternating": ('schedule=[{role="perceiver",steps=5,lr=1.2e-4},{role="reasoner",steps=5,lr=2e-5}]',),
    "joint": (
        'control="joint"',
        'schedule=[{role="perceiver",steps=2,lr=1e-4},{role="reasoner",steps=1,lr=1e-4}]',
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    record = actions.add_parser("record", help="run everything and write what came out")
    record.add_argument("out", type=Path)
    compare = actions.add_parser("compare", help="compare two records; exits with 1 when they differ")
    compare.add_argument("before", type=Path)
    compare.add_argument("after", type=Path)
    args = parser.parse_args()
    if args.action == "record":
        args.out.write_text(json.dumps(record_all(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(f"wrote {args.out}")
    else:
        before, after = (json.loads(path.read_text(encoding="utf-8")) for path in (args.before, args.after))
        sys.exit(compare_records(before, after))


def record_all() -> dict[str, JsonValue]:
    """Every result by name; a hash where it is long."""
    results: dict[str, JsonValue] = {}
    with tempfile.TemporaryDirectory(prefix="p2r-same-") as folder:
        results |= _record_evaluation(Path(folder) / "eval")
        results |= _record_fixtures()
        for name, settings in RUNS.items():
            results |= _record_training(Path(folder) / name, name, settings)
    return results


def compare_records(before: Mapping[str, JsonValue], after: Mapping[str, JsonValue]) -> int:
    """Print what differs, and how much was compared; 0 when nothing differs."""
    differing = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    for name in differing:
        print(f"differs: {name}\n  before: {before.get(name)}\n  after:  {after.get(name)}")
    groups = sorted({name.partition("/")[0] for name in before})
    for group in groups:
        names = [name for name in before if name.partition("/")[0] == group]
        same = sum(before[name] == after.get(name) for name in names)
        print(f"{group}: {same} of {len(names)} results are identical")
    return 1 if differing else 0


def _record_evaluation(out: Path) -> dict[str, JsonValue]:
    modes = [part for mode in MODES for part in ("--mode", mode)]
    _run("eval", "needles", "--limit", "60", "--seed", "7", *modes, "--out", str(out))
    results: dict[str, JsonValue] = {}
    for mode in MODES:
        folder = out / "needles" / mode
        for line in (folder / "traces.jsonl").read_text(encoding="utf-8").splitlines():
            trace = json.loads(line)
            results[f"traces/{mode}/{trace['sample_id']}"] = _hash(_strip(trace))
        _run("score", str(folder))
        tables = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["tables"]
        for place, table in enumerate(tables[:-1]):  # the last one is of seconds
            numbers = [[cell for cell in row if re.search(r"\d", cell)] for row in table["rows"]]
            results[f"scores/{mode}/{place}"] = numbers
    return results


def _record_fixtures() -> dict[str, JsonValue]:
    from p2r.answers import extract_answer
    from p2r.boxes import RELEASE, ROBUST, parse_boxes

    results: dict[str, JsonValue] = {}
    for path in sorted(GOLDEN.glob("answers_*.jsonl")):
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            reply, options = str(row.get("response", row.get("reply", ""))), row.get("options") or {}
            texts = tuple(options.values()) if isinstance(options, dict) else tuple(options)
            for scorer in ("robust", "release", "mme_official"):
                form = "choice" if texts else "free_form"
                read = extract_answer(reply, form, texts, scorer=scorer)
                results[f"answers/{path.stem}/{row['id']}/{scorer}"] = [read.text, read.letter, read.rule]
    for row in map(json.loads, (GOLDEN / "bbox_parse_authors.jsonl").read_text(encoding="utf-8").splitlines()):
        for name, rules in (("release", RELEASE), ("robust", ROBUST)):
            found = parse_boxes(row["text"], rules=rules)
            results[f"boxes/{row['id']}/{name}"] = _hash(
                [repr(found[0]), repr(found[1].model_copy(update={"reason": ""}))]
            )
    return results


def _record_training(out: Path, name: str, settings: tuple[str, ...]) -> dict[str, JsonValue]:
    changes = [part for setting in (*SMALL, *settings, f"out={json.dumps(str(out))}") for part in ("--set", setting)]
    _run("train", str(ROOT / "recipes" / "nano" / "pra_grpo.toml"), *changes)
    results: dict[str, JsonValue] = {}
    for log in ("metrics", "probes", "rollouts"):
        for place, line in enumerate((out / f"{log}.jsonl").read_text(encoding="utf-8").splitlines()):
            row = _strip(json.loads(line), *(("fingerprint",) if log == "rollouts" else ()))
            results[f"{log}/{name}/{place}"] = row if log == "metrics" else _hash(row)
    for path in sorted(out.glob("[0-9]-*/model.safetensors")):
        results[f"weights/{name}/{path.parent.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return results


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "p2r", *arguments], check=True, stdout=subprocess.DEVNULL)


def _strip(value: JsonValue, *names: str) -> JsonValue:
    """`value` without the keys that are left out, and without `names`."""
    if isinstance(value, dict):
        kept = {key: part for key, part in value.items() if key not in LEFT_OUT and key not in names}
        return {key: _strip(part, *names) for key, part in kept.items()}
    return [_strip(part, *names) for part in value] if isinstance(value, list) else value


def _hash(value: JsonValue) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


if __name__ == "__main__":
    main()
