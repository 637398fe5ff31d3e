"""Round a trained nano to bfloat16 and put it where the package has it.

    python -m recipes.nano.ship runs/nano-pra-grpo/1-reasoner src/p2r/models/nano/checkpoint

Training on a CPU leaves float32 weights, 14.6 MB; what ships is half of that. Evaluate what this writes, not what it
read.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from p2r.cli.guard import run_script
from p2r.config import ModelSettings
from p2r.training.engines.local.distributed import whole_tensor
from p2r.training.engines.local.export import gather_weights, save_policy
from p2r.training.engines.local.policy import load_policy


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("source", type=Path, help="a checkpoint")
    parser.add_argument("folder", type=Path, help="replaced when it is there")
    arguments = parser.parse_args()
    policy = load_policy(ModelSettings(source=str(arguments.source), device="cpu"))
    save_policy(replace(policy, dtype=torch.bfloat16), gather_weights(policy, whole_tensor), arguments.folder)
    print(f"{arguments.folder}: {sum(path.stat().st_size for path in arguments.folder.iterdir()) / 1e6:.1f} MB")


if __name__ == "__main__":
    run_script(main)
