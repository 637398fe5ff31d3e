"""The sections of a report: runs sorted by benchmark and data, named, and joined with the images of their questions.

A run's folder holds no images. They are found again where the run says that its data were, or where the caller says.
A missing image is reported beside its question and stops nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from p2r.benchmarks import Benchmark, load_again
from p2r.dialogue import Budget
from p2r.errors import P2RError, StorageError, count_nouns
from p2r.evaluation.compare import Contrast, asks_same_data, compare_runs, name_runs, tabulate_contrasts
from p2r.evaluation.metrics import tabulate_summaries
from p2r.evaluation.repeats import count_replies, list_repeats, question_of
from p2r.evaluation.scorecard import make_scorecard
from p2r.evaluation.scoring import ScoredRun
from p2r.evaluation.tables import Table
from p2r.images.load import FileImage
from p2r.modes import LOOKING, MODES
from p2r.report.evaluation.published import tabulate_beside_paper
from p2r.runs.asked import is_asked
from p2r.runs.difficulty import HISTOGRAM_FILE, is_measurement
from p2r.runs.evaluation import SAMPLES_FILE
from p2r.runs.store import SETTINGS_FILE, TRACES_FILE
from p2r.runs.training import is_evidence
from p2r.types import ImageSource, Sample, Trace


@dataclass(frozen=True, slots=True)
class Section:
    """Runs of one benchmark and the same data, side by side.

    benchmark: its name; also tells its data where several sections have one benchmark.
    runs, names: the others are compared with the first.
    primary: index of the run whose boxes and crops are shown first.
    images: by sample id; `problem` says why some are missing.
    crops: the data's own crops by sample id, which the mode paired-crop shows in place of the images.
    budget: the pixel budget of the models, which sets what one look shows; None when it is not known.
    """

    benchmark: str
    runs: tuple[ScoredRun, ...]
    names: tuple[str, ...]
    primary: int
    images: Mapping[str, ImageSource]
    problem: str = ""
    budget: Budget | None = None
    crops: Mapping[str, ImageSource] = field(default_factory=dict[str, ImageSource])

    @property
    def sample_ids(self) -> list[str]:
        """Samples that at least one run was asked, in the order of the benchmark."""
        return list(dict.fromkeys(row.facts.sample_id for run in self.runs for row in run.rows))


def make_sections(
    runs: Sequence[ScoredRun],
    *,
    benchmarks: Mapping[str, Benchmark] | None = None,
    primary: str | None = None,
    names: Sequence[str] | None = None,
) -> list[Section]:
    """One section per benchmark and its data, in the order of the runs.

    Two files of your own are both the benchmark "folder", and two sections.

    Args:
        benchmarks: by name, to take the images from in place of where the runs say they are.
        names: of the runs; None for the settings in which they differ.
        primary: name of the run whose boxes are shown first; by default one in mode p2r, else one that looks.

    Raises:
        StorageError: no run has that name.
    """
    names = names or name_runs(runs)
    if primary is not None and primary not in names:
        raise StorageError(f"no run is called {primary!r}", hint=f"runs: {', '.join(dict.fromkeys(names))}")
    sections: list[Section] = []
    groups = group_by_data(runs)
    for chosen, title in zip(groups, _name_data([runs[group[0]] for group in groups]), strict=True):
        own, own_names = tuple(runs[k] for k in chosen), tuple(names[k] for k in chosen)
        images, crops, problem = find_images(own, (benchmarks or {}).get(own[0].settings.benchmark))
        sections.append(
            Section(
                benchmark=title,
                runs=own,
                names=own_names,
                primary=own_names.index(primary) if primary in own_names else _choose_primary(own),
                images=images,
                crops=crops,
                problem=problem,
                budget=next((run.origin.budget for run in own if run.origin), None),
            )
        )
    return sections


def group_by_data(runs: Sequence[ScoredRun]) -> list[list[int]]:
    """Group runs that were asked the same data, by their indices, in the order of the runs."""
    groups: list[list[int]] = []
    for k, run in enumerate(runs):
        own = next((group for group in groups if any(asks_same_data(runs[other], run) for other in group)), None)
        if own is None:
            groups.append([k])
        else:
            own.append(k)
    return groups


def _name_data(runs: Sequence[ScoredRun]) -> list[str]:
    """Names for the data of runs: the benchmark, and where that is not enough, its file, path or fingerprint."""
    names = [run.settings.benchmark for run in runs]
    specs = [run.origin.spec.removeprefix(f"{run.settings.benchmark}:") if run.origin else "" for run in runs]
    prints = [run.settings.benchmark_fingerprint for run in runs]
    for details in ([Path(spec).name for spec in specs], specs, [f"data {each}" if each else "" for each in prints]):
        counts = Counter(names)
        for k, detail in enumerate(details):
            if counts[names[k]] > 1 and detail:
                names[k] = f"{runs[k].settings.benchmark} ({detail})"
    counts = Counter(names)
    return [f"{name} ({run.place})" if counts[name] > 1 else name for name, run in zip(names, runs, strict=True)]


def find_images(
    runs: Sequence[ScoredRun], benchmark: Benchmark | None
) -> tuple[dict[str, ImageSource], dict[str, ImageSource], str]:
    """Images and crops of runs of one benchmark by sample id, and why some are missing.

    An image is taken from the benchmark if it asks the same question about it, else from the file that the trace names.
    """
    problem = ""
    origin = next((run.origin for run in runs if run.origin), None)
    if benchmark is None and origin is not None:
        try:
            benchmark = load_again(origin)
        except P2RError as error:
            problem = f"The images of {runs[0].settings.benchmark} were not found: {error.message}"
    elif benchmark is None:
        problem = "The runs do not say where their data are."
    known = {sample.id: sample for sample in benchmark or ()}
    images, crops = dict[str, ImageSource](), dict[str, ImageSource]()
    num_missing = 0
    for is_crop, row in {
        (shows_crop(run), row.facts.sample_id): (shows_crop(run), row) for run in runs for row in run.rows
    }.values():
        id, own = row.facts.sample_id, crops if is_crop else images
        sample = known.get(id) or known.get(question_of(id))
        path = Path(row.trace.image)
        source = (sample.crop if is_crop else sample.image) if sample is not None else None
        if sample is not None and source is not None and asks_same(sample, row.trace):
            own[id] = source
        elif path.is_file():
            own[id] = FileImage(path)
        else:
            num_missing += 1
    if num_missing and benchmark is not None:
        missing = count_nouns(num_missing, "image is", "images are")
        problem = f"{missing} not in {benchmark.source or benchmark.name}."
    return images, crops, problem if num_missing else ""


def shows_crop(run: ScoredRun) -> bool:
    """Tell whether a run's model saw the data's own crops in place of the images."""
    return run.settings.mode == "paired-crop"


def find_run_folders(places: Sequence[Path]) -> list[Path]:
    """Run folders, each once: each place itself, or all runs below it in the order of the modes.

    Raises:
        StorageError: a place holds no run, or what `p2r sample` wrote.
    """
    folders: dict[Path, Path] = {}
    for place in places:
        found = list_run_folders(place)
        if not found and is_measurement(place):
            raise StorageError(
                f"{place} holds rows that were sorted by difficulty, and no run",
                hint=f"their histogram is {place / HISTOGRAM_FILE}; the report of a run shows that of its own rows",
            )
        if not found:
            raise StorageError(
                f"{place} holds no run",
                hint="give folders that `p2r eval`, `p2r train` or `p2r ask` wrote, or one above them",
            )
        for folder in found:
            folders.setdefault(folder.resolve(), folder)
    return list(folders.values())


def list_run_folders(place: Path) -> list[Path]:
    """The folder itself, or all runs below it in the order of the modes; [] if there is none.

    A folder that lacks some of its files is listed as well: reading it says so.
    """
    if _is_evaluation(place):
        return [place]
    files = [*place.rglob(SETTINGS_FILE), *place.rglob(SAMPLES_FILE)]
    below = [folder for folder in sorted({path.parent for path in files}) if _is_evaluation(folder)]
    modes = [mode.replace(":", "-") for mode in MODES]
    return sorted(below, key=lambda path: (str(path.parent), _rank(path.name, modes), path.name))


def _is_evaluation(folder: Path) -> bool:
    """True with a run's settings, or without them but with its samples and traces."""
    has_rows = all((folder / name).exists() for name in (SAMPLES_FILE, TRACES_FILE))
    return (has_rows or (folder / SETTINGS_FILE).exists()) and not any(
        is_other(folder) for is_other in (is_asked, is_evidence, is_measurement)
    )


def compare_section(section: Section) -> tuple[list[Contrast], list[str]]:
    """Every later run against the first, and notes; no contrast with one run, or with no sample judged in both."""
    first = section.runs[0]
    alike = [k for k, run in enumerate(section.runs) if count_replies(run) == count_replies(first)]
    left_out = [
        f"{name} is not compared with {section.names[0]}: it has {count_nouns(count_replies(run), 'reply', 'replies')} "
        f"to each question, not {count_replies(first)}"
        for k, (name, run) in enumerate(zip(section.names, section.runs, strict=True))
        if k not in alike
    ]
    if len(alike) < 2:
        return [], left_out
    try:
        contrasts, notes = compare_runs([section.runs[k] for k in alike], names=[section.names[k] for k in alike])
    except StorageError as error:
        return [], [*left_out, error.message]
    return contrasts, [*left_out, *notes]


def list_comparisons(section: Section) -> list[Table]:
    """The tables that set the runs of a section side by side, and those of several replies to each question."""
    named = zip(section.runs, section.names, strict=True)
    repeats = [table for run, name in named for table in list_repeats(run, name)]
    return [_tabulate_section(section), *repeats, *_tabulate_contrasts(section)]


def list_tables(section: Section) -> list[Table]:
    """Every table of a section, to be written to files."""
    beside = tabulate_beside_paper(section.runs, section.names)
    return [
        _tabulate_section(section),
        *([beside] if beside else []),
        *_tabulate_contrasts(section),
        *(table for run in section.runs for table in make_scorecard(run)),
    ]


def _tabulate_section(section: Section) -> Table:
    summaries = tabulate_summaries(section.runs, names=section.names)
    return summaries.model_copy(update={"title": f"{summaries.title}: {section.benchmark}"})


def _tabulate_contrasts(section: Section) -> list[Table]:
    contrasts, notes = compare_section(section)
    return [tabulate_contrasts(contrasts, notes)] if contrasts else []


def _rank(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


def asks_same(sample: Sample, trace: Trace) -> bool:
    """True also if only the order of the options differs, which may be part of the question's text."""
    return sample.question == trace.question or (
        bool(trace.options) and sorted(sample.options) == sorted(trace.options)
    )


def _choose_primary(runs: Sequence[ScoredRun]) -> int:
    modes = [run.settings.mode for run in runs]
    if "p2r" in modes:
        return modes.index("p2r")
    return next((k for k, mode in enumerate(modes) if mode in LOOKING), len(runs) - 1)
