"""A loaded benchmark: samples with lazy images, what it should hold, and how it differs from that.

A row that cannot be used stops the loading, unless bad rows are allowed; then each of them is listed. Counts from third
parties (rows, categories, rotations) never stop anything: differences are reported.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar, overload

from p2r.dialogue import Budget
from p2r.errors import DataError, P2RError, count_nouns, excerpt
from p2r.images.load import read_size
from p2r.types import Frozen, Sample, replace_surrogates

ScoredBy = Literal["answer", "box"]
Aggregation = Literal["categories", "cycles", "mme"]
"""The way from samples to one score: the mean over all; HR-Bench's mean over rotations; MME-RealWorld's columns."""
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts about a benchmark, known before it is loaded. Counts come from papers and public code, for comparison.

    num_samples: None when it depends on the data, as with your own data.
    categories: name -> count, None for an unknown count; {} when any category is allowed.
    letters: the letters that the authors' release accepts as answers.
    scored_by: "box" when the boxes are judged (Acc@0.5), not the answer.
    aggregation: how the benchmark's own code makes one score of all samples.
    """

    name: str
    num_samples: int | None = None
    categories: Mapping[str, int | None] = field(default_factory=dict[str, "int | None"])
    letters: str = "ABCD"
    scored_by: ScoredBy = "answer"
    aggregation: Aggregation = "categories"


class Origin(Frozen):
    """The arguments of `load_benchmark`, and the pixel budget of the model that answered (None when not known).

    Paths are absolute, so that they hold from any working directory.
    """

    spec: str
    split: str | None = None
    boxes: str | None = None
    images: str | None = None
    seed: int = 0
    num_samples: int = 0
    skip_bad: int = 0
    budget: Budget | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that could not be used: its file and row, and the reason."""

    place: str
    reason: str


class Benchmark(Sequence[Sample]):
    """Samples in the order of the file.

    name: the benchmark's name, such as "vstar" or "hrbench_4k"; each sample states it too.
    facts: what the benchmark should hold.
    differences: how the samples differ from the facts, in sentences; () when they do not.
    notes: sentences to print under a table, for example which annotation or order of options was used.
    left_out: bad rows, at most as many as were allowed.
    source: the file or folder that was read.
    origin: how to load it again; None for samples that `load_benchmark` did not load.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        facts: Facts,
        *,
        source: str = "",
        differences: Sequence[str] = (),
        notes: Sequence[str] = (),
        left_out: Sequence[LeftOut] = (),
        origin: Origin | None = None,
    ) -> None:
        self.samples, self.facts, self.source, self.origin = samples, facts, source, origin
        self.differences, self.notes, self.left_out = tuple(differences), tuple(notes), tuple(left_out)

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def scored_by(self) -> ScoredBy:
        return self.facts.scored_by

    @property
    def categories(self) -> dict[str, int]:
        """Samples in each category, by name."""
        return dict(sorted(Counter(sample.category for sample in self.samples).items()))

    @property
    def chance(self) -> float | None:
        """Mean accuracy of blind guessing; None unless every sample states its own."""
        chances = [sample.chance for sample in self.samples if sample.chance is not None]
        return sum(chances) / len(chances) if chances and len(chances) == len(self.samples) else None

    @property
    def fingerprint(self) -> str:
        """Short hash of questions and right answers, without pixels: equal data gives an equal hash."""
        digest = hashlib.sha256()
        for sample in self.samples:
            boxes = [box.xyxy for box in sample.gold_boxes]
            parts = [sample.id, sample.question, sample.options, sample.target, sample.category, boxes]
            digest.update(json.dumps([*parts, sample.key_words] if sample.key_words else parts).encode())
        return digest.hexdigest()[:12]

    def __len__(self) -> int:
        return len(self.samples)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        return self.samples[index]


def _check_texts(sample: Sample) -> None:
    """Refuse half a surrogate pair, which JSON can hold: it can be neither asked nor stored."""
    labels = (box.label for box in sample.gold_boxes)
    for text in (sample.id, sample.question, *sample.options, sample.target or "", sample.category, *labels):
        if text != replace_surrogates(text):
            raise DataError(
                f"{excerpt(replace_surrogates(text))} is not text in UTF-8: a character of it is broken",
                hint="write the character itself, or save the file again as UTF-8",
            )


class Sieve:
    """Turn rows into samples one by one, and record which rows are bad.

    skip_bad: how many bad rows may be left out; one more stops the loading.
    check_images: read the header of every image.
    check: raises a P2RError for a sample that cannot be used.
    offers_skip: hints say how to leave out a row.
    """

    def __init__(
        self,
        *,
        skip_bad: int = 0,
        check_images: bool = True,
        check: Callable[[Sample], None] | None = None,
        offers_skip: bool = True,
    ) -> None:
        if skip_bad < 0:
            raise DataError(f"skip_bad is {skip_bad}; it counts rows", hint="give 0 or more")
        self.skip_bad, self.check_images, self.check, self.offers_skip = skip_bad, check_images, check, offers_skip
        self.left_out: list[LeftOut] = []

    def collect(
        self, items: Iterable[Item], make: Callable[[Item], Sample], place: Callable[[Item], str]
    ) -> list[Sample]:
        """The samples of all good rows.

        Args:
            make: turns a row into a sample; raises a P2RError for a bad row.
            place: names a row's file and number in messages.

        Raises:
            DataError: more bad rows than allowed, or no usable row.
        """
        samples: dict[str, Sample] = {}
        first_place: dict[str, str] = {}
        for item in items:
            try:
                sample = make(item)
                _check_texts(sample)
                if sample.id in samples:
                    raise DataError(
                        f"the id {excerpt(sample.id)} was used before, by {first_place[sample.id]}",
                        hint="ids must differ",
                    )
                if self.check is not None:
                    self.check(sample)
                for image in (sample.image, sample.crop) if self.check_images else ():
                    if image is not None:
                        read_size(image)
            except P2RError as error:
                self._leave_out(place(item), error)
                continue
            samples[sample.id] = sample
            first_place[sample.id] = place(item)
        if not samples and self.left_out:
            first = self.left_out[0]
            raise DataError(f"no row is usable; the first, {first.place}: {first.reason}")
        return list(samples.values())

    def _leave_out(self, place: str, error: P2RError) -> None:
        skip = "`skip_bad={}` would leave out this row" if self.offers_skip else ""
        leave_out(self.left_out, place, error, self.skip_bad, subject=place, skip=skip)


def leave_out(left_out: list[LeftOut], place: str, error: P2RError, skip_bad: int, *, subject: str, skip: str) -> None:
    """Record a bad row, or refuse it when as many as allowed are left out already.

    Args:
        subject: the beginning of the message.
        skip: a hint that says how to allow one more, with {} for their number; "" for none.

    Raises:
        DataError: `skip_bad` rows are left out.
    """
    count = len(left_out)
    if count >= skip_bad:
        more = f" (after {count_nouns(count, 'other bad row')})" if left_out else ""
        hints = [name_fields(error.hint), skip.format(count + 1)]
        raise DataError(f"{subject}: {error.message}{more}", hint="; ".join(filter(None, hints))) from error
    left_out.append(LeftOut(place, error.message))


def name_fields(hint: str) -> str:
    """Return a hint with the fields of a row in place of arguments, for which a command has no flag."""
    return _ARGUMENT.sub(lambda found: f"the field {found[1]}" + (f" to {found[2]}" if found[2] else ""), hint)


_ARGUMENT = re.compile(r'`(answer_form|options|target)(?:="(\w+)")?`')


def compare_with_facts(samples: Sequence[Sample], facts: Facts) -> list[str]:
    """State in sentences how the counts differ from the facts."""
    differences: list[str] = []
    if facts.num_samples is not None and len(samples) != facts.num_samples:
        differences.append(f"{count_nouns(len(samples), 'sample')} instead of {facts.num_samples:,}")
    found = Counter(sample.category for sample in samples)
    for category, expected in facts.categories.items():
        if expected is not None and found[category] != expected:
            differences.append(
                f"{count_nouns(found[category], 'sample')} of the category {category!r} instead of {expected:,}"
            )
        elif not found[category]:
            differences.append(f"no sample of the category {category!r}")
    if facts.categories:
        for category in sorted(set(found) - set(facts.categories)):
            differences.append(f"{count_nouns(found[category], 'sample')} of the unknown category {category!r}")
    return differences
