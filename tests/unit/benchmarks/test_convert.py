"""Samples go to every layout and come back, and what a layout has no place for is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from p2r.benchmarks import check_benchmark, load_benchmark
from p2r.benchmarks.convert import WRITERS, convert
from p2r.benchmarks.needles import Needles
from p2r.benchmarks.needles.knobs import Knobs
from p2r.benchmarks.row_layouts.layouts import LAYOUTS
from p2r.errors import DataError, ImageError
from p2r.images.load import FileImage, MemoryImage
from p2r.types import Box, ImageSource, Sample
from tests.fakes.benchmark_files import make_bytes, make_image

ROW_LAYOUTS = [layout.name for layout in LAYOUTS]
KINDS = ["json", "jsonl", "tsv", "csv", "parquet", "json.gz", "parquet.gz"]
OPTIONS = ("red", 'it\'s "blue", or not', "绿")


def make_samples(folder: Path) -> list[Sample]:
    (folder / "photo.jpg").write_bytes(make_bytes(1, 90, 60))
    photo, drawn = FileImage(folder / "photo.jpg"), MemoryImage(make_image(2, 40, 30))

    def sample(number: int, question: str, target: str, image: ImageSource, **more: object) -> Sample:
        return replace(Sample(f"s{number}", image, question, target=target, category="kites"), **more)

    stated = "What colour?\n" + "\n".join(f"({letter}) {option}" for letter, option in zip("ABC", OPTIONS, strict=True))
    choice = {"options": OPTIONS, "answer_form": "choice"}
    return [
        sample(0, "What colour?", "B", photo, **choice),
        sample(1, stated, "C", photo, **choice, options_in_question=True),
        sample(2, 'How many\tkites, "now"?', "12", drawn, answer_form="number"),
        sample(3, "What is on\nthe sail?", "a kite, 风筝", drawn),
    ]


@pytest.mark.parametrize("inside", [True, False, None], ids=["inside", "beside", "default"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("to", ROW_LAYOUTS)
def test_samples_come_back_from_every_row_layout(to: str, kind: str, inside: bool | None, tmp_path: Path) -> None:
    samples = make_samples(tmp_path)
    out = tmp_path / "out" / f"train.{kind}"
    found = convert(samples, out, to, inside=inside)
    assert found.num_samples == 4 and found.title.startswith(f"{found.title.partition(' rows')[0]} rows (")
    back = load_benchmark(out)
    assert back.notes[0] == f"read as {found.title}" and check_benchmark(back).passed
    for sample, read in zip(samples, back, strict=True):
        assert read.question.startswith(sample.question)
        assert (read.options, read.target, read.answer_form) == (sample.options, sample.target, sample.answer_form)
        assert read.image.load().tobytes() == sample.image.load().tobytes()
        assert "category" not in WRITERS[to].keeps or read.category == sample.category
    if to != "openai_chat":  # whose parts have ids as well
        assert [read.id for read in back] == [sample.id for sample in samples]
    is_beside = inside is False or (inside is None and not kind.startswith("parquet"))
    images = sorted(path.name for path in (tmp_path / "out").rglob("*_images/*"))
    assert images == (["000000.jpg", "000001.png"] if is_beside else [])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("to", ["p2r10k", "zwz"])
def test_rows_without_a_category_stay_in_line_with_the_others(to: str, kind: str, tmp_path: Path) -> None:
    samples = [replace(make_samples(tmp_path)[3], id=str(k), category="kites" if k == 37 else "") for k in range(40)]
    convert(samples, tmp_path / f"a.{kind}", to)
    back = load_benchmark(tmp_path / f"a.{kind}")
    assert [(sample.id, sample.category, sample.target) for sample in back] == [
        (sample.id, sample.category, sample.target) for sample in samples
    ]


def test_images_are_copied_as_they_are(tmp_path: Path) -> None:
    samples = make_samples(tmp_path)
    convert(samples[:1], tmp_path / "a.json", "easyr1")
    assert (tmp_path / "a_images" / "000000.jpg").read_bytes() == (tmp_path / "photo.jpg").read_bytes()
    convert(load_benchmark(tmp_path / "a.json"), tmp_path / "b.parquet", "zwz")
    convert(load_benchmark(tmp_path / "b.parquet"), tmp_path / "c.tsv", "llava", inside=True)
    convert(load_benchmark(tmp_path / "c.tsv"), tmp_path / "d.json", "deepeyes")
    assert (tmp_path / "d_images" / "000000.jpg").read_bytes() == (tmp_path / "photo.jpg").read_bytes()


@pytest.mark.parametrize("to", ROW_LAYOUTS)
def test_a_layout_reads_the_same_through_any_other(to: str, tmp_path: Path) -> None:
    convert(make_samples(tmp_path), tmp_path / "a.jsonl", "p2r10k")
    first = load_benchmark(tmp_path / "a.jsonl")
    convert(first, tmp_path / "b.parquet", to)
    convert(load_benchmark(tmp_path / "b.parquet"), tmp_path / "c.jsonl", "p2r10k")
    texts = [(s.question, s.options, s.answer_form, s.target) for s in load_benchmark(tmp_path / "c.jsonl")]
    assert texts == [(s.question, s.options, s.answer_form, s.target) for s in first]


def test_what_a_layout_has_no_place_for_is_said(tmp_path: Path) -> None:
    samples = make_samples(tmp_path)
    samples[0] = replace(samples[0], gold_boxes=(Box(x1=1, y1=2, x2=3, y2=4),), cluster="k")
    samples[2] = replace(samples[2], answer_form="free_form")
    assert convert(samples, tmp_path / "a.json", "easyr1").losses == (
        "the gold boxes of 1 sample",
        "the category of 4 samples",
        "which of 1 sample ask the same",
        "the answer form of 1 sample, which readers take for another: id s2",
    )
    assert convert(samples, tmp_path / "b.json", "p2r10k").losses == (
        "the gold boxes of 1 sample",
        "which of 1 sample ask the same",
    )
    assert [sample.answer_form for sample in load_benchmark(tmp_path / "b.json")][2] == "free_form"
    assert convert(make_samples(tmp_path), tmp_path / "c.json", "p2r10k").losses == ()


def test_needles_become_rows_that_can_be_trained_on(tmp_path: Path) -> None:
    needles = Needles(seed=3, num_samples=4)
    convert(needles, tmp_path / "n.parquet", "ms_swift")
    back = load_benchmark(tmp_path / "n.parquet")
    assert [(s.options, s.target) for s in back] == [(s.options, s.target) for s in needles]
    assert back[0].image.load().tobytes() == needles[0].image.load().tobytes()


def test_progress_is_told(tmp_path: Path) -> None:
    done: list[int] = []
    convert(make_samples(tmp_path), tmp_path / "a.json", "zwz", on_progress=done.append)
    assert done == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("to", "name", "message"),
    [
        ("swift", "a.json", "'swift' is not a layout that can be written"),
        ("zwz", "a.xlsx", "tells no kind of file to write"),
        ("zwz", "photo.jpg", "exists already"),
    ],
)
def test_what_cannot_be_written_is_named(to: str, name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        convert(make_samples(tmp_path), tmp_path / name, to)


def test_a_sample_without_a_right_answer_leaves_no_file(tmp_path: Path) -> None:
    samples = make_samples(tmp_path)
    samples[1] = replace(samples[1], target=None)
    with pytest.raises(DataError, match="sample 's1' has no right answer, which ZwZ rows need"):
        convert(samples, tmp_path / "a.json", "zwz")
    assert not (tmp_path / "a.json").exists() and not (tmp_path / "a.json.tmp").exists()


def test_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    samples = [replace(make_samples(tmp_path)[0], image=FileImage(tmp_path / "gone.jpg"))]
    with pytest.raises(ImageError, match=r"gone\.jpg"):
        convert(samples, tmp_path / "a.json", "zwz")


def test_no_samples_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no samples"):
        convert([], tmp_path / "a.json", "zwz")


def test_own_questions_keep_everything(tmp_path: Path) -> None:
    box = Box(x1=1, y1=2, x2=300.5, y2=4, label="sail")
    samples = [replace(sample, gold_boxes=(box,), cluster="k") for sample in make_samples(tmp_path)]
    assert convert(samples, tmp_path / "q.jsonl", "questions").losses == ()
    back = load_benchmark(tmp_path / "q.jsonl")
    assert back.name == "folder" and check_benchmark(back).passed
    for sample, read in zip(samples, back, strict=True):
        kept = (sample.id, sample.options, sample.target, sample.answer_form, sample.gold_boxes, sample.cluster)
        assert (read.id, read.options, read.target, read.answer_form, read.gold_boxes, read.cluster) == kept
        assert read.category == "kites" and read.image.load().tobytes() == sample.image.load().tobytes()
    assert [sample.question for sample in back] == ["What colour?", "What colour?", *(s.question for s in samples[2:])]
    with pytest.raises(DataError, match="your own questions are written as JSON lines"):
        convert(samples, tmp_path / "q.json", "questions")


def test_a_choice_of_unknown_options_is_no_question_of_your_own(tmp_path: Path) -> None:
    samples = [replace(make_samples(tmp_path)[0], options=())]
    with pytest.raises(DataError, match="sample 's0' is a choice without readable options"):
        convert(samples, tmp_path / "q.jsonl", "questions")


@pytest.mark.parametrize(("to", "name"), [("vstar", "v"), ("vstar_lmms", "v.parquet"), ("vstar_tsv", "vstar.tsv")])
def test_needles_come_back_from_the_layouts_of_vstar(to: str, name: str, tmp_path: Path) -> None:
    needles = Needles(seed=3, num_samples=5, knobs=Knobs(forms=("choice",)))
    found = convert(needles, tmp_path / name, to)
    assert found.num_samples == 5 and WRITERS[to].only_choices
    assert found.losses == (() if to == "vstar" else ("the gold boxes of 5 samples",))
    back = load_benchmark(tmp_path / name)
    assert back.name == "vstar" and check_benchmark(back).passed
    assert {tuple(sorted(s.options)) for s in back} == {tuple(sorted(s.options)) for s in needles}
    right = {s.options["ABCD".index(s.target or "")] for s in needles}
    assert {s.options["ABCD".index(s.target or "")] for s in back} == right
    assert all(bool(sample.gold_boxes) == (to == "vstar") for sample in back)
    with pytest.raises(DataError, match="images have only one place"):
        convert(needles, tmp_path / "other", to, inside=True)


@pytest.mark.parametrize("to", ["coco", "label_studio"])
def test_boxes_come_back_from_annotators_files(to: str, tmp_path: Path) -> None:
    needles = Needles(seed=3, num_samples=3)
    convert(needles, tmp_path / "q.jsonl", "questions")
    questions = load_benchmark(tmp_path / "q.jsonl")
    convert(questions, tmp_path / "boxes.json", to)
    assert not (tmp_path / "boxes_images").exists()
    bare = tmp_path / "bare.jsonl"
    convert([replace(sample, gold_boxes=()) for sample in questions], bare, "questions")
    joined = load_benchmark(bare, boxes=tmp_path / "boxes.json")
    convert(joined, tmp_path / "new.jsonl", "questions")
    for sample, read in zip(questions, load_benchmark(tmp_path / "new.jsonl"), strict=True):
        assert [box.label for box in read.gold_boxes] == [box.label for box in sample.gold_boxes]
        for box, expected in zip(read.gold_boxes, sample.gold_boxes, strict=True):
            assert box.xyxy == pytest.approx(expected.xyxy, abs=0.01)


def test_images_that_lie_in_no_file_are_written_beside_the_boxes(tmp_path: Path) -> None:
    convert(Needles(seed=3, num_samples=2), tmp_path / "deep" / "boxes.json", "coco")
    assert sorted(path.name for path in (tmp_path / "deep" / "boxes_images").iterdir()) == ["000000.png", "000001.png"]
