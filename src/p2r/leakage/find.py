"""Find a benchmark's data in training data: the same images, images that look the same, crops, and questions.

The benchmark is kept as hashes; the training data is then read one image at a time. Every image is decoded once,
however many questions ask about it; an image that cannot be decoded is counted and never taken for clean.

A pair is a hint to look at, not a verdict: images of one scene share spots, and templates ("What is the color of the
dog?") repeat questions by chance. So pairs that share both image and question are counted separately.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

from p2r.errors import P2RError, count_nouns
from p2r.evaluation.tables import Table, show_share
from p2r.leakage.image_hash import ImageHash, hash_image
from p2r.leakage.image_index import LEAST_LOOK, LEAST_SPOTS, ImageIndex, ImageMatch
from p2r.leakage.question_grams import LEAST_CONTAINMENT, NUM_WORDS, QuestionIndex
from p2r.types import Frozen, ImageSource, Sample

LeakKind = Literal["pixels", "look", "crop", "question"]
KINDS: dict[LeakKind, str] = {
    "pixels": "the same image to the last pixel",
    "look": f"the same look: {LEAST_LOOK:.0%} of all steps of brightness on a 17 x 16 grid agree",
    "crop": f"one is part of the other: {LEAST_SPOTS} or more spots agree on one scale and shift",
    "question": f"{LEAST_CONTAINMENT:.0%} or more of the benchmark question's {NUM_WORDS}-grams are in the other",
}

MOST_PAIRS_LISTED = 20
"""The limit for each benchmark sample and kind. `num_pairs` counts all pairs; `train_ids` lists all samples."""


class Pair(Frozen):
    """A training sample and a benchmark sample that share something.

    score: 1.0 for the same pixels; the share of steps or grams; the number of spots for a crop.
    """

    kind: LeakKind
    train_id: str
    bench_id: str
    score: float


class Unread(Frozen):
    """An image that was not compared, because it could not be decoded."""

    side: Literal["train", "bench"]
    image: str
    reason: str


class LeakageReport(Frozen):
    """A report of what two sets share.

    num_pairs: the number of pairs of each kind; "image and question" counts the pairs that share both.
    bench_ids, train_ids: all samples of each kind.
    pairs: the best MOST_PAIRS_LISTED pairs of each benchmark sample and kind.
    """

    train: str
    bench: str
    num_train: int
    num_bench: int
    num_train_images: int
    num_bench_images: int
    num_pairs: dict[str, int]
    bench_ids: dict[str, tuple[str, ...]]
    train_ids: dict[str, tuple[str, ...]]
    pairs: tuple[Pair, ...]
    unread: tuple[Unread, ...]

    @property
    def is_clean(self) -> bool:
        return not any(self.num_pairs.values())


BOTH = "image and question"


def find_leakage(
    train: Sequence[Sample],
    bench: Sequence[Sample],
    *,
    names: tuple[str, str] = ("train", "bench"),
    num_workers: int = 2,
    on_progress: Callable[[int, int], None] | None = None,
) -> LeakageReport:
    """Compare every sample of one set with every sample of another.

    Args:
        num_workers: threads that decode and hash, each with one image in memory.
        on_progress: called with the number of steps done (images, then training questions) and the number of all steps.
    """
    train_images, bench_images = _by_image(train), _by_image(bench)
    num_steps, num_done = len(train_images) + len(bench_images) + len(train), 0
    unread: list[Unread] = []
    found: dict[tuple[int, int], dict[LeakKind, float]] = {}

    def step() -> None:
        nonlocal num_done
        num_done += 1
        if on_progress is not None:
            on_progress(num_done, num_steps)

    known: list[ImageHash] = []
    owners: list[list[int]] = []
    for group, hashed in _hash_all(bench, bench_images, num_workers):
        step()
        if isinstance(hashed, ImageHash):
            known.append(hashed)
            owners.append(group)
        else:
            unread.append(Unread(side="bench", image=bench[group[0]].image.uri, reason=hashed))
    if known:
        index = ImageIndex(known)
        for group, hashed in _hash_all(train, train_images, num_workers):
            step()
            if not isinstance(hashed, ImageHash):
                unread.append(Unread(side="train", image=train[group[0]].image.uri, reason=hashed))
                continue
            for match in index.find(hashed):
                _note(found, group, owners[match.index], match)
    questions = QuestionIndex(bench)
    for number, sample in enumerate(train):
        for other, score in questions.find(sample):
            found.setdefault((number, other), {})["question"] = score
        step()
    return _report(train, bench, names, found, unread, len(train_images), len(bench_images))


def tabulate(report: LeakageReport) -> Table:
    """Make a table with the counts and shares of each kind."""
    rows = [
        (
            kind,
            f"{report.num_pairs[kind]:,}",
            f"{len(report.bench_ids[kind]):,}",
            show_share(len(report.bench_ids[kind]) / report.num_bench),
            f"{len(report.train_ids[kind]):,}",
            show_share(len(report.train_ids[kind]) / report.num_train),
            meaning,
        )
        for kind, meaning in {
            **KINDS,
            BOTH: "pairs that share an image in one of these ways, and the question",
        }.items()
    ]
    notes = [
        f"{count_nouns(report.num_bench, 'sample')} with {count_nouns(report.num_bench_images, 'image')} in "
        f"{report.bench}; "
        f"{report.num_train:,} with {report.num_train_images:,} in {report.train}.",
    ]
    if report.unread:
        notes.append(f"{count_nouns(len(report.unread), 'image')} could not be decoded, and so not be compared.")
    return Table(
        title=f"Leakage: {report.bench} in {report.train}",
        columns=("kind", "pairs", "of bench", "share", "of train", "share", "meaning"),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def _by_image(samples: Sequence[Sample]) -> list[list[int]]:
    """Group the numbers of the samples by image."""
    groups: dict[str, list[int]] = {}
    for number, sample in enumerate(samples):
        groups.setdefault(sample.image.uri, []).append(number)
    return list(groups.values())


def _hash_all(
    samples: Sequence[Sample], groups: Sequence[list[int]], num_workers: int
) -> Iterator[tuple[list[int], ImageHash | str]]:
    """Yield each group with its hash, or the reason why there is none; at most `num_workers` images are in memory."""
    with ThreadPoolExecutor(num_workers) as pool:
        running: deque[tuple[list[int], Future[ImageHash | str]]] = deque()
        for group in groups:
            running.append((group, pool.submit(_hash, samples[group[0]].image)))
            if len(running) > 2 * num_workers:  # hashes wait here, images do not
                first, future = running.popleft()
                yield first, future.result()
        while running:
            first, future = running.popleft()
            yield first, future.result()


def _hash(image: ImageSource) -> ImageHash | str:
    try:
        return hash_image(image.load())
    except P2RError as error:
        return error.message


def _note(
    found: dict[tuple[int, int], dict[LeakKind, float]], group: list[int], owners: list[int], match: ImageMatch
) -> None:
    for number in group:
        for other in owners:
            found.setdefault((number, other), {})[match.kind] = match.score


def _report(
    train: Sequence[Sample],
    bench: Sequence[Sample],
    names: tuple[str, str],
    found: dict[tuple[int, int], dict[LeakKind, float]],
    unread: Sequence[Unread],
    num_train_images: int,
    num_bench_images: int,
) -> LeakageReport:
    by_kind: dict[str, list[tuple[int, int]]] = {kind: [] for kind in (*KINDS, BOTH)}
    listed: dict[tuple[int, LeakKind], list[tuple[float, int]]] = {}
    for (number, other), kinds in found.items():
        for kind, score in kinds.items():
            by_kind[kind].append((number, other))
            listed.setdefault((other, kind), []).append((-score, number))
        if len(kinds) > 1:
            by_kind[BOTH].append((number, other))
    order: list[LeakKind] = list(KINDS)
    pairs = [
        Pair(kind=kind, train_id=train[number].id, bench_id=bench[other].id, score=round(-score, 4))
        for (other, kind), scores in sorted(listed.items(), key=lambda item: (order.index(item[0][1]), item[0][0]))
        for score, number in sorted(scores)[:MOST_PAIRS_LISTED]
    ]
    return LeakageReport(
        train=names[0],
        bench=names[1],
        num_train=len(train),
        num_bench=len(bench),
        num_train_images=num_train_images,
        num_bench_images=num_bench_images,
        num_pairs={kind: len(both) for kind, both in by_kind.items()},
        bench_ids={kind: tuple(bench[k].id for k in sorted({other for _, other in v})) for kind, v in by_kind.items()},
        train_ids={
            kind: tuple(train[k].id for k in sorted({number for number, _ in v})) for kind, v in by_kind.items()
        },
        pairs=tuple(pairs),
        unread=tuple(unread),
    )
