"""Every benchmark by name, and `load_benchmark`, which finds, reads and checks one.

load_benchmark("needles", num_samples=400)
load_benchmark("needles:side_px=2048,noise=8")        # with other settings than the benchmark's
load_benchmark("vstar:~/data/vstar_bench")            # the benchmark and where it lies
load_benchmark("~/data/hr_bench_4k.parquet")          # told by its columns
load_benchmark("DreamMr/HR-Bench", split="hr_bench_8k")  # from the hub
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from p2r.benchmarks.base import Benchmark, Origin, Sieve, compare_with_facts
from p2r.benchmarks.files.table_file import find_kind, named
from p2r.benchmarks.folder import load_folder
from p2r.benchmarks.hrbench import FACTS_4K, FACTS_8K, load_hrbench
from p2r.benchmarks.hub import HUB_IDS, fetch_dataset, is_hub_id
from p2r.benchmarks.layout import Loaded, Source
from p2r.benchmarks.mme_realworld import FACTS as FACTS_MME
from p2r.benchmarks.mme_realworld import FACTS_CN, FACTS_LITE, load_mme_realworld
from p2r.benchmarks.needles import Needles
from p2r.benchmarks.needles.knobs import parse_knobs
from p2r.benchmarks.reasonseg import SPLITS, load_reasonseg
from p2r.benchmarks.recognize import recognize
from p2r.benchmarks.row_layouts.load import UnknownLayout, load_rows
from p2r.benchmarks.treebench import FACTS as FACTS_TREEBENCH
from p2r.benchmarks.treebench import load_treebench
from p2r.benchmarks.visualprobe import FACTS as FACTS_VISUALPROBE
from p2r.benchmarks.visualprobe import load_visualprobe
from p2r.benchmarks.vstar import FACTS as FACTS_VSTAR
from p2r.benchmarks.vstar import is_original_folder, load_vstar
from p2r.benchmarks.zoombench import FACTS as FACTS_ZOOMBENCH
from p2r.benchmarks.zoombench import load_zoombench
from p2r.errors import DataError, count_nouns
from p2r.images.web import WebImage
from p2r.judges.number import check_target
from p2r.prompts import check_question
from p2r.types import Sample

BENCHMARKS: Mapping[str, Callable[[Source], Loaded]] = {
    "vstar": load_vstar,
    "hrbench_4k": load_hrbench(FACTS_4K),
    "hrbench_8k": load_hrbench(FACTS_8K),
    "mme_realworld": load_mme_realworld(FACTS_MME),
    "mme_realworld_lite": load_mme_realworld(FACTS_LITE),
    "mme_realworld_cn": load_mme_realworld(FACTS_CN),
    "treebench": load_treebench,
    "zoombench": load_zoombench,
    **{facts.name: load_visualprobe(facts) for facts in FACTS_VISUALPROBE.values()},
    "reasonseg": load_reasonseg,
    "p2r10k": load_rows,
    "rows": load_rows,
    "folder": load_folder,
}
"""Loaders of the benchmarks that are files. `needles` is generated."""

NAMES = ("needles", *BENCHMARKS)
PUBLISHED = (
    *(FACTS_VSTAR, FACTS_4K, FACTS_8K, FACTS_MME, FACTS_LITE, FACTS_CN, FACTS_TREEBENCH, FACTS_ZOOMBENCH),
    *FACTS_VISUALPROBE.values(),
)


def load_benchmark(
    spec: str | Path,
    *,
    split: str | None = None,
    seed: int = 0,
    num_samples: int = 100,
    skip_bad: int = 0,
    boxes: str | Path | None = None,
    images: str | Path | None = None,
    check_images: bool = True,
) -> Benchmark:
    """Load a benchmark. Rows are checked, images stay where they are until a sample's image is loaded.

    Args:
        spec: "needles", needles:SETTING=VALUE,..., NAME:PATH, NAME:owner/dataset, a path, or a known id of the Hugging
            Face hub.
        split: the part to load, where there are several: the start of the files' names, or a folder.
        seed: seed for needles, and for the order of options in V*'s original layout, which has none of its own.
        num_samples: the number of needles.
        skip_bad: how many unusable rows may be left out; they are listed in `left_out`.
        boxes: for V*, the folder of the original release; for your own data, a COCO or Label Studio file.
        images: the folder that image paths start from, if not that of the file.
        check_images: read the header of every image. For a parquet file this means one pass over the whole file.

    Raises:
        DataError: nothing was found, the layout is another one, more rows are unusable than allowed, or all are.
        ConfigError: a setting of needles is not usable.
    """
    name, place = split_spec(str(spec))
    origin = Origin(
        spec=_make_absolute(str(spec)),
        split=split,
        boxes=None if boxes is None else str(Path(boxes).expanduser().absolute()),
        images=None if images is None else str(Path(images).expanduser().absolute()),
        seed=seed,
        num_samples=num_samples,
        skip_bad=skip_bad,
    )
    if name == "needles":
        given = [
            f"`{key}`" for key, value in (("split", split), ("boxes", boxes), ("images", images)) if value is not None
        ]
        if given:
            raise DataError(
                f"needles is made on the spot, with its own images and boxes: it takes no {' or '.join(given)}",
                hint="leave it out, or load other benchmarks in a call of their own",
            )
        knobs = parse_knobs(place)
        samples = Needles(seed=seed, num_samples=num_samples, knobs=knobs)
        origin = origin.model_copy(update={"spec": f"needles:{knobs.text}" if knobs.text else "needles"})
        return Benchmark(samples, samples.facts, source=samples.source, origin=origin)
    path = _locate(place)
    if not name:
        name = recognize(path, split)
    if split is not None:
        check_split(name, path, split)
    sieve = Sieve(skip_bad=skip_bad, check_images=check_images)
    if place == "DreamMr/HR-Bench" and split and "8k" in split:
        name = "hrbench_8k"
    return _load(name, Source(path, sieve, split, seed, _as_path(boxes), _as_path(images)), origin)


def check_split(name: str, path: Path, split: str) -> None:
    """Refuse a split where it would choose nothing. That of a ReasonSeg file is its name. Raises DataError."""
    if path.is_file() and name != "reasonseg":
        raise DataError(
            f"{path} is a single file, which has no split {split!r}",
            hint="leave out `split`, or give the folder that holds a file of each split",
        )
    if name == "vstar" and is_original_folder(path):
        raise DataError(f"{path} is V* as it was released, which has no split {split!r}", hint="leave out `split`")


def names_file(spec: str) -> bool:
    """Tell whether a spec names a single file, which has no splits."""
    return Path(split_spec(spec)[1]).expanduser().is_file()


def load_questions(path: Path, *, images: Path | None = None, shown: str = "") -> Benchmark:
    """Load a file of questions to be asked, in any layout: answers are not needed, and images are not opened.

    Args:
        images: the folder that image paths start from, if not that of the file.
        shown: the name of the file in messages, if not its own.

    Raises:
        DataError: there is no such file, it has no rows, or a row cannot be asked.
    """
    shown_path = Path(shown) if shown else None
    with named(path, shown_path or path):
        try:
            name = recognize(path)
        except UnknownLayout:
            name = "folder"  # which says what is missing
        sieve = Sieve(check_images=False, check=_check_asked, offers_skip=False)
        return _load(name, Source(path, sieve, images=images, only_asked=True, shown=shown_path), None)


def _check_asked(sample: Sample) -> None:
    check_question(sample)
    if sample.answer_form == "number" and sample.target is not None:
        check_target(sample.target)


def _load(name: str, source: Source, origin: Origin | None) -> Benchmark:
    loaded = BENCHMARKS[name](source)
    if not loaded.samples:
        raise DataError(
            f"{source.path} holds no samples of {name}", hint="is it the right folder, and wholly downloaded?"
        )
    on_web = sum(isinstance(sample.image, WebImage) for sample in loaded.samples)
    fetched = count_nouns(on_web, "image is on the web and fetched", "images are on the web and fetched")
    return Benchmark(
        loaded.samples,
        loaded.facts,
        source=str(source.path),
        differences=[*compare_with_facts(loaded.samples, loaded.facts), *loaded.differences],
        notes=[*loaded.notes, *([f"{fetched} whenever used; a run is faster with files"] if on_web else [])],
        left_out=source.sieve.left_out,
        origin=origin,
    )


def count_published(spec: str, split: str | None = None) -> int | None:
    """The number of samples that a benchmark has as published, such as 191 for vstar:PATH; None for other data."""
    name, _, place = spec.partition(":")
    if name == "reasonseg":
        return SPLITS.get(split or Path(place).name)
    return next((facts.num_samples for facts in PUBLISHED if facts.name == name), None)


def load_again(origin: Origin) -> Benchmark:
    """The benchmark that `load_benchmark` returned, without reading image headers again.

    Raises:
        DataError: it is no longer there, or has another layout now.
    """
    return load_benchmark(
        origin.spec,
        split=origin.split,
        boxes=origin.boxes,
        images=origin.images,
        seed=origin.seed,
        num_samples=origin.num_samples,
        skip_bad=origin.skip_bad,
        check_images=False,
    )


def split_spec(spec: str) -> tuple[str, str]:
    """Split a spec into (name, place). The name is "" when it has to be recognized from the files.

    The place of needles is their settings.

    Raises:
        DataError: a name without a place, or an unknown name.
    """
    name, colon, place = spec.partition(":")
    if name == "needles":
        return name, place
    if name in BENCHMARKS and colon and place:
        return name, place
    if name in BENCHMARKS and not Path(spec).exists():
        known = ", ".join(hub_id for hub_id, benchmark in HUB_IDS.items() if benchmark == name)
        raise DataError(
            f"{name} needs a place", hint=f"write {name}:PATH" + (f", or an id of the hub: {known}" if known else "")
        )
    if spec in HUB_IDS and not Path(spec).exists():
        return HUB_IDS[spec], spec
    if not Path(spec).expanduser().exists():
        if find_kind(Path(spec)) or spec.startswith(("/", "./", "../", "~")) or spec.count("/") > 1:
            raise DataError(f"there is no file or folder {spec}", hint="check the path and the working directory")
        raise DataError(
            f"{spec!r} is not a benchmark, a file or a known data set of the hub",
            hint=f"benchmarks: {', '.join(NAMES)}; files: PATH or NAME:PATH; data sets of the hub: NAME:owner/dataset",
        )
    return "", spec


def locate_rows(spec: str) -> Path:
    """Return the file or folder that a spec names, such as rows.jsonl, rows:PATH or an id of the hub.

    Raises:
        DataError: there is none.
    """
    return _locate(split_spec(spec)[1])


def _locate(place: str) -> Path:
    path = Path(place).expanduser()
    if path.exists() or not is_hub_id(place) or find_kind(path):
        return path
    return fetch_dataset(place)


def _make_absolute(spec: str) -> str:
    name, colon, place = spec.partition(":")
    if Path(spec).expanduser().exists():
        return str(Path(spec).expanduser().absolute())
    if colon and Path(place).expanduser().exists():
        return f"{name}:{Path(place).expanduser().absolute()}"
    return spec


def _as_path(place: str | Path | None) -> Path | None:
    return None if place is None else Path(place).expanduser()
