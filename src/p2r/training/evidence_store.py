"""Where the frozen perceiver looks: computed once a row for a reasoner phase, kept on disk, never asked again.

Paper: algorithm 1, lines 16 and 17. Decoding is greedy, so one perception of a row serves all its rollouts, all epochs
and every resume. The folder belongs to one set of weights, prompts, budget and decoding; another one is refused.

Rows that are looked at together share batches, and rounding depends on a batch. So what a kill left of a batch is
forgotten, and all of it is looked at again, as it would have been.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from p2r.files import explain_write_errors, replace_file
from p2r.images.budget import FullImage
from p2r.pipeline import walk_twice
from p2r.roles import Perceiver
from p2r.runs.store import TRACES_FILE, TraceStore
from p2r.training.lockstep import Partner, Walk
from p2r.types import Frozen, Sample, Trace

WHOLE_FILE = "whole.txt"
"""How many lines of the traces belong to batches that were written to their ends."""


class EvidenceSettings(Frozen):
    """run.json of an evidence folder: everything that can change a perception, as hashes."""

    weights: str
    perceiver: str


class EvidenceStore:
    """Perceptions of one phase. Use as a context manager.

    folder: made when missing.
    perceiver: asks `partner.model`.
    weights: a hash of the model's weights, on which a perception depends as well.

    Raises:
        StorageError: the folder belongs to other settings, or cannot be written.
    """

    def __init__(self, folder: Path, partner: Partner, perceiver: Perceiver, *, weights: str) -> None:
        self._partner, self._perceiver = partner, perceiver
        with explain_write_errors(folder):
            _forget_half_a_batch(folder)
        self._whole = folder / WHOLE_FILE
        self._store = TraceStore(folder, EvidenceSettings(weights=weights, perceiver=perceiver.fingerprint))

    async def perceive(self, rows: Sequence[Sample], full_images: Sequence[FullImage]) -> list[Trace]:
        """The trace of each row's perception; one with a failure where it could not be had, even at a second try.

        Args:
            images: of the rows, decoded.
        """
        missing = [place for place, row in enumerate(rows) if self._store.find(row) is None]

        def look(place: int) -> Walk[Trace]:
            return lambda: walk_twice(rows[place], self._perceiver, full_image=full_images[place])

        found = dict(zip(missing, await self._partner.run([look(place) for place in missing]), strict=True))
        for place, trace in found.items():
            if trace.failure is None and self._store.find(rows[place]) is None:  # not by another call in the meantime
                self._store.append(trace)
        if found:
            with explain_write_errors(self._whole):
                replace_file(self._whole, str(len(self._store.finished)))
        return [found.get(place) or self._store.finished[row.id] for place, row in enumerate(rows)]

    def __enter__(self) -> EvidenceStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._store.__exit__(kind, error, traceback)


def _forget_half_a_batch(folder: Path) -> None:
    traces, whole = folder / TRACES_FILE, folder / WHOLE_FILE
    if not traces.exists():
        return
    *lines, _ = traces.read_text(encoding="utf-8", errors="replace").split("\n")
    num_whole = int(whole.read_text(encoding="utf-8")) if whole.exists() else 0
    if len(lines) > num_whole:
        replace_file(traces, "".join(line + "\n" for line in lines[:num_whole]))
