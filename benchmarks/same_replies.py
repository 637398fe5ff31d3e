"""Compare what nano replies in this process with what it replies in other engines, on the same needles, in mode p2r.

    python -m benchmarks.same_replies [--limit 100]
    python -m benchmarks.same_replies --url http://localhost:8000/v1 --name "vLLM 0.32.0, float32"
    python -m benchmarks.same_replies --vllm

Without --url, nano is exported to GGUF and served by llama.cpp (the package xllamacpp) on this machine: exactly, which
is a float32 cache without flash attention, and with llama.cpp's defaults. With --url it is another server's, which must
serve nano alone; with --vllm it is vLLM's engine in this process. Prints a table: accuracy; how many of the perceiver's
and of the reasoner's replies are the local model's word for word; and for how many prompts, of those that are the same,
the tokens are counted alike. A reasoner's prompt is the same where the boxes are.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import p2r
from p2r.benchmarks import Benchmark, Facts
from p2r.benchmarks.needles import Needles
from p2r.dialogue import Model
from p2r.evaluation.metrics import summarize
from p2r.evaluation.scoring import ScoredRun
from p2r.models.gguf.export import export_gguf
from p2r.models.gguf.weights import DtypeName
from p2r.models.load import find_checkpoint
from p2r.models.server.model import EndpointModel
from p2r.types import Trace
from tests.fakes.llama_server import serving

COLUMNS = ("engine", "accuracy", "perceiver's replies", "reasoner's replies", "tokens")
CONTEXT, SLOTS = 8192, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=100, help="questions (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the needles (default 0)")
    parser.add_argument("--url", help="a server of nano, in place of llama.cpp")
    parser.add_argument("--vllm", action="store_true", help="vLLM in this process, in place of llama.cpp")
    parser.add_argument("--name", default="", help="what to call it in the table")
    args = parser.parse_args()
    benchmark = Benchmark(list(Needles(seed=args.seed, num_samples=args.limit)), Facts("needles"))

    def ask(model: Model) -> ScoredRun:
        return p2r.evaluate(benchmark, model, mode="p2r")

    for row in (COLUMNS, ["---"] * len(COLUMNS)):
        print(f"| {' | '.join(row)} |")
    local = ask(p2r.load_model("nano", device="cpu", dtype="float32"))
    print_row("this process, float32", local, local)
    if args.url:
        print_row(args.name or args.url, ask(connect(args.url)), local)
        return
    if args.vllm:
        engine = {"enforce_eager": True, "max_model_len": 2048}
        print_row(
            args.name or "vllm:nano", ask(p2r.load_model("vllm:nano", dtype="float32", engine_args=engine)), local
        )
        return
    import xllamacpp

    for dtype, is_exact in (("float32", True), *((dtype, False) for dtype in get_args(DtypeName))):
        with serve(dtype, is_exact) as url:
            name = f"llama.cpp (xllamacpp {xllamacpp.__version__}), {dtype}, {'exact' if is_exact else 'its defaults'}"
            print_row(name, ask(connect(url)), local)


@contextmanager
def serve(dtype: DtypeName, is_exact: bool) -> Iterator[str]:
    """Export nano and serve it until the block ends; yields the URL."""
    with tempfile.TemporaryDirectory(prefix="p2r-gguf-") as folder:
        files = export_gguf(find_checkpoint("nano"), Path(folder) / "nano", dtype=dtype)
        with serving(files, Path(folder) / "log", context=CONTEXT, slots=SLOTS, exact=is_exact) as url:
            yield url


def connect(url: str) -> EndpointModel:
    """Connect to a server of nano, and show it what the local model is shown."""
    model = EndpointModel.connect(url)
    model.profile = find_checkpoint("nano").profile(for_server=True)
    return model


def print_row(name: str, run: ScoredRun, local: ScoredRun) -> None:
    """Print one line of the table."""
    summary = summarize(run)
    pairs = [(trace, local.traces[sample]) for sample, trace in run.traces.items()]
    looks, answers = (
        [(read(mine), read(theirs)) for mine, theirs in pairs] for read in (_read_perceiver, _read_reasoner)
    )
    same = [*looks, *(answer for answer, look in zip(answers, looks, strict=True) if look[0][0] == look[1][0])]
    cells = [
        name,
        f"{summary.accuracy:.1%}" if summary.accuracy is not None else "-",
        *(f"{sum(mine[0] == theirs[0] for mine, theirs in part)} of {len(part)}" for part in (looks, answers)),
        f"{sum(mine[1] == theirs[1] for mine, theirs in same)} of {len(same)}",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)


def _read_perceiver(trace: Trace) -> tuple[str, int | None]:
    """Return the perceiver's reply and the tokens of its prompt; ("", None) where it failed."""
    completion = trace.perception.completion if trace.perception else None
    return (completion.text, completion.usage.prompt_tokens) if completion else ("", None)


def _read_reasoner(trace: Trace) -> tuple[str, int | None]:
    """Return the reasoner's reply and the tokens of its prompt; ("", None) where it failed."""
    return (trace.reasoning.text, trace.reasoning.usage.prompt_tokens) if trace.reasoning else ("", None)


if __name__ == "__main__":
    main()
