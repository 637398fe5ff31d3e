"""B1: log-probs and gradients of a group of rollouts, ours beside the repeated rows that TRL trains.

    python -m benchmarks.speed_training [--prompts 512,1024,2560] [--responses 64,256] [--group 8] [--runs 3]
        [--size tiny|2b|4b] [--device cpu|cuda] [--dtype float32] [--checkpointing] [--peer trl|stock]

A random Qwen3-VL, one prompt with one image, a group of responses of equal length (the peer's best case: no padding).
Each measurement runs in a process of its own, for its peak memory; the time is the median of the runs after a first
one, on a CPU that of the process, so that neighbors do not count. The peer is
`GRPOTrainer._get_per_token_logps_and_entropies` of the installed trl, the whole group in one batch; without trl it is
the same rows through stock transformers, and the output says so. The peer gets its pixels as ready floats, ours makes
them from bytes within the time.

Beside each ratio stands that of the floating-point operations (matrix products and attention, forward and backward),
and how far the two sides are apart: the largest distance of a log-prob, and of the gradient of all parameters in
proportion to its length. In float64 against stock transformers (`--dtype float64 --peer stock`) the distances show the
method; in float32 they show rounding, and trl's own head rounds to float32 always.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TypeAlias

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import transformers
from transformers import Qwen3VLForConditionalGeneration

from p2r.models.local.encoding import EncodedPrompt
from p2r.training.engines.local.attention import install
from p2r.training.engines.local.logprobs import compute_logprobs, pack
from tests.fakes.random_model import SIZES, image_size, make_model, make_prompt, read_memory_mb, repeat_rows

Compute: TypeAlias = Callable[[], torch.Tensor]

MOST_COMPARED = 2**26
"""Numbers of a gradient that are compared."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One side at one size."""

    seconds: float
    peak_mb: float
    logprobs: torch.Tensor
    gradient: torch.Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--prompts", default="512,1024,2560", help="tokens of the prompt")
    parser.add_argument("--responses", default="64,256", help="tokens of a response")
    parser.add_argument("--group", type=int, default=8, help="responses of the prompt")
    parser.add_argument("--runs", type=int, default=3, help="runs of each side")
    parser.add_argument("--size", choices=SIZES, default="tiny", help="of the model")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--checkpointing", action="store_true", help="layers are computed again during backward")
    parser.add_argument("--peer", choices=["trl", "stock"], default="trl" if find_spec("trl") else "stock")
    parser.add_argument("--side", choices=["ours", "trl", "stock"], help=argparse.SUPPRESS)  # one measurement
    parser.add_argument("--results", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        measure(arguments)
    else:
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    print_circumstances(arguments)
    print(f"{'P':>6}{'R':>6}{'peer s':>10}{'ours s':>10}{'ratio':>8}{'FLOPs':>8}{'of it':>7}", end="")
    print(f"{'peer MB':>10}{'ours MB':>10}{'ratio':>8}{'log-probs':>12}{'gradient':>12}")
    for num_prompt in map(int, arguments.prompts.split(",")):
        for num_response in map(int, arguments.responses.split(",")):
            theirs, ours = (
                measure_apart(arguments, side, num_prompt, num_response) for side in (arguments.peer, "ours")
            )
            farthest = float((theirs.logprobs - ours.logprobs).abs().max())
            turn = float((theirs.gradient - ours.gradient).norm() / theirs.gradient.norm())
            ratio, theory = theirs.seconds / ours.seconds, flop_ratio(arguments, num_prompt, num_response)
            print(f"{num_prompt:>6}{num_response:>6}{theirs.seconds:>10.2f}{ours.seconds:>10.2f}", end="")
            print(
                f"{ratio:>7.1f}x{theory:>7.1f}x{ratio / theory:>7.0%}{theirs.peak_mb:>10.0f}{ours.peak_mb:>10.0f}",
                end="",
            )
            print(f"{theirs.peak_mb / ours.peak_mb:>7.1f}x", end="")
            print(f"{farthest:>12.1e}{turn:>12.1e}", flush=True)


def measure_apart(arguments: argparse.Namespace, side: str, num_prompt: int, num_response: int) -> Measured:
    """In a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.pt"
        command = [sys.executable, "-m", "benchmarks.speed_training", "--side", side, "--results", str(results)]
        command += ["--prompts", str(num_prompt), "--responses", str(num_response), "--group", str(arguments.group)]
        command += ["--runs", str(arguments.runs), "--size", arguments.size, "--device", arguments.device]
        command += ["--dtype", arguments.dtype, *(["--checkpointing"] if arguments.checkpointing else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{side} at {num_prompt} + {num_response} failed:\n{done.stderr[-2000:]}")
        return Measured(**json.loads(done.stdout.splitlines()[-1]), **torch.load(results))


def measure(arguments: argparse.Namespace) -> None:
    """Print seconds and MB as JSON; log-probs and gradient go into a file."""
    torch.manual_seed(0)
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
    model = make_model(SIZES[arguments.size], device=device, dtype=dtype).train()
    if arguments.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    prompt = make_prompt(int(arguments.prompts))
    responses_GR = torch.randint(0, 1000, (arguments.group, int(arguments.responses)))
    weights_GR = torch.randn(responses_GR.shape).to(device)
    compute = {"ours": compute_ours, "trl": compute_by_trl, "stock": compute_by_stock}[arguments.side]
    logprobs = compute(model, prompt, responses_GR)

    def run() -> torch.Tensor:
        model.zero_grad(set_to_none=True)
        result_GR = logprobs()
        (result_GR * weights_GR).sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return result_GR.detach()

    before_mb = read_memory_mb(device)
    result_GR = run()  # also warms up
    peak_mb = read_memory_mb(device, peak=True)
    seconds: list[float] = []
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    for _ in range(arguments.runs):
        start = clock()
        run()
        seconds.append(clock() - start)
    every = 1 + sum(weight.numel() for weight in model.parameters()) // MOST_COMPARED
    gradients = (weight.grad for weight in model.parameters() if weight.grad is not None)
    gradient = torch.cat([gradient.flatten()[::every].cpu() for gradient in gradients])
    torch.save({"logprobs": result_GR.cpu(), "gradient": gradient}, arguments.results)
    print(json.dumps({"seconds": statistics.median(seconds), "peak_mb": peak_mb - before_mb}))


def compute_ours(model: Qwen3VLForConditionalGeneration, prompt: EncodedPrompt, responses_GR: torch.Tensor) -> Compute:
    install(model)
    return lambda: compute_logprobs(model, pack(model, [(prompt, responses_GR.tolist())])).logprobs_BT


def compute_by_trl(
    model: Qwen3VLForConditionalGeneration, prompt: EncodedPrompt, responses_GR: torch.Tensor
) -> Compute:
    from trl.trainer.grpo_trainer import GRPOTrainer
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(model, temperature=1.0, outputs=("log_probs", "entropy"))
    trainer = SimpleNamespace(accelerator=SimpleNamespace(autocast=nullcontext))
    compute = inspect.unwrap(GRPOTrainer._get_per_token_logps_and_entropies)  # without its stopwatch
    group, num_response = responses_GR.shape
    rows = repeat_rows(model, [prompt] * group, responses_GR)
    return lambda: compute(trainer, model, logits_to_keep=num_response, num_images=[1] * group, **rows)[0]


def compute_by_stock(
    model: Qwen3VLForConditionalGeneration, prompt: EncodedPrompt, responses_GR: torch.Tensor
) -> Compute:
    rows, num_response = repeat_rows(model, [prompt] * len(responses_GR), responses_GR), responses_GR.shape[1]
    targets_GR = responses_GR.to(model.device)

    def compute() -> torch.Tensor:
        logits = model(**rows, use_cache=False, logits_to_keep=num_response + 1).logits[:, :-1]
        chosen_GR = logits.gather(-1, targets_GR[..., None])[..., 0]
        return chosen_GR - torch.stack([row.logsumexp(-1) for row in logits])  # row by row, as trl does

    return compute


def flop_ratio(arguments: argparse.Namespace, num_prompt: int, num_response: int) -> float:
    """Of the repeated rows to ours; backward is twice forward on both sides."""
    shape, group = SIZES[arguments.size], arguments.group
    rows, columns = image_size(num_prompt)
    vision, head = shape.vision_flops(rows * columns), 2 * shape.hidden * shape.vocabulary
    length, own = num_prompt + num_response, num_response - 1
    theirs = group * (vision + length * shape.token_flops + shape.attention_flops(length**2 / 2) + num_response * head)
    pairs = num_prompt**2 / 2 + group * (own * num_prompt + own**2 / 2)
    ours = vision + (num_prompt + group * own) * shape.token_flops + shape.attention_flops(pairs)
    return theirs / (ours + (1 + group * own) * head)


def print_circumstances(arguments: argparse.Namespace) -> None:
    date = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    place = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else platform.processor() or "CPU"
    print(f"{date}, {place}, {os.environ['OMP_NUM_THREADS']} thread(s), medians of {arguments.runs} runs")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, model {arguments.size}", end="")
    print(f", {arguments.dtype}, G = {arguments.group}{', checkpointing' if arguments.checkpointing else ''}")
    if arguments.peer == "trl":
        import trl

        print(f"peer: trl {trl.__version__}, its per-token log-probs")
    else:
        print("peer: the repeated rows through stock transformers, as trl sends them")


if __name__ == "__main__":
    main()
