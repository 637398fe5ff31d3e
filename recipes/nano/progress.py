"""What both training stages need around their steps: a log to draw curves from, and state that survives a kill."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import nn

LOG_EVERY = 25


class Log:
    """Means of the metrics over LOG_EVERY steps, one JSON line each, echoed to the terminal."""

    def __init__(self, path: Path, stage: str, num_steps: int) -> None:
        self._file, self._stage, self._num_steps = path.open("a"), stage, num_steps
        self._sums: dict[str, list[float]] = defaultdict(list)
        self._since = time.perf_counter()

    def step(self, step: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self._sums[name].append(value)
        if (step + 1) % LOG_EVERY == 0:
            seconds = time.perf_counter() - self._since
            means = {name: round(float(np.mean(values)), 4) for name, values in self._sums.items()}
            self.write({"step": step + 1, "seconds_per_step": round(seconds / LOG_EVERY, 3), **means})
            self._sums.clear()
            self._since = time.perf_counter()

    def write(self, row: dict[str, float]) -> None:
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        shown = " ".join(f"{name} {value:.3g}" for name, value in row.items() if name != "step")
        print(f"{self._stage} {row['step']}/{self._num_steps} {shown}", flush=True)

    def close(self) -> None:
        self._file.close()


class Saver:
    """Model, extra heads, optimizer and random stream in one file, written aside and renamed."""

    def __init__(
        self,
        path: Path,
        model: nn.Module,
        heads: nn.Module,
        optimizer: torch.optim.Optimizer,
        rng: np.random.RandomState,
    ) -> None:
        self._path, self._model, self._heads, self._optimizer, self._rng = path, model, heads, optimizer, rng

    def resume(self) -> int:
        """Load the state if there is one; the number of steps already done."""
        if not self._path.exists():
            return 0
        state = torch.load(self._path, weights_only=False)
        self._model.load_state_dict(state["model"])
        self._heads.load_state_dict(state["heads"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._rng.set_state(state["rng"])
        return int(state["steps"])

    def every(self, step: int, interval: int) -> None:
        if (step + 1) % interval == 0:
            self.save(step + 1)

    def save(self, steps: int) -> None:
        state = {
            "steps": steps,
            "model": self._model.state_dict(),
            "heads": self._heads.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "rng": self._rng.get_state(),
        }
        part = self._path.with_suffix(".part")
        torch.save(state, part)
        part.rename(self._path)
