"""What two sets share is found, by kind; what cannot be read is said; and nothing is found where nothing is."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from p2r.cli.app import app
from p2r.errors import ImageError
from p2r.images.budget import hash_pixels
from p2r.images.load import MemoryImage
from p2r.leakage.find import BOTH, LeakageReport, find_leakage, tabulate
from p2r.leakage.image_hash import hash_image
from p2r.leakage.question_grams import make_grams, normalize_question
from p2r.types import ImageSource, Sample

SIZE = (640, 480)


def draw_scene(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Soft ground with many shapes of all sizes."""
    rng = np.random.default_rng(seed)
    soft = rng.integers(60, 200, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(soft).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(220):
        x, y = rng.uniform(0, size[0]), rng.uniform(0, size[1])
        width, height = rng.uniform(6, 60, 2)
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x, y, x + width, y + height), fill=tuple(int(v) for v in rng.integers(0, 256, 3)))
    return image


def recode(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def make_sample(name: str, shown: Image.Image | ImageSource, question: str = "") -> Sample:
    image = MemoryImage(shown, name) if isinstance(shown, Image.Image) else shown
    return Sample(id=name, image=image, question=question or f"what is {name}")


def find_kinds(train: list[Sample], bench: list[Sample]) -> set[tuple[str, str, str]]:
    return {(pair.kind, pair.train_id, pair.bench_id) for pair in find_leakage(train, bench).pairs}


@dataclass(frozen=True)
class CountedImage:
    """Notes every decoding."""

    image: Image.Image
    uri: str
    decoded: list[str]

    def load(self) -> Image.Image:
        self.decoded.append(self.uri)
        return self.image


@dataclass(frozen=True)
class BrokenImage:
    uri: str = "broken.jpg"

    def load(self) -> Image.Image:
        raise ImageError("broken.jpg is cut off")


def test_each_kind_of_copy_is_found() -> None:
    scene = draw_scene(0)
    bench = [make_sample("b", scene), make_sample("other", draw_scene(1))]
    train = [
        make_sample("same", scene.copy()),
        make_sample("recoded", recode(scene, 40)),
        make_sample("half", scene.resize((320, 240))),
        make_sample("bright", scene.point(lambda value: min(255, int(value * 1.15)))),
        make_sample("cut", recode(scene.crop((170, 110, 530, 400)), 80)),
        make_sample("cut and enlarged", scene.crop((40, 60, 520, 420)).resize((960, 720))),
        make_sample("unrelated", draw_scene(2)),
    ]
    assert find_kinds(train, bench) == {
        ("pixels", "same", "b"),
        ("look", "recoded", "b"),
        ("look", "half", "b"),
        ("look", "bright", "b"),
        ("crop", "cut", "b"),
        ("crop", "cut and enlarged", "b"),
    }


def test_the_benchmark_may_be_the_crop() -> None:
    scene = draw_scene(3)
    assert find_kinds([make_sample("t", scene)], [make_sample("b", scene.crop((200, 100, 560, 380)))]) == {
        ("crop", "t", "b")
    }


def test_unrelated_and_empty_images_share_nothing() -> None:
    blank = [Image.new("RGB", SIZE, color) for color in ("white", "beige", "black")]
    train = [make_sample(f"t{k}", image) for k, image in enumerate([*map(draw_scene, range(10, 22)), *blank[:2]])]
    bench = [make_sample(f"b{k}", image) for k, image in enumerate([*map(draw_scene, range(30, 42)), blank[2]])]
    report = find_leakage(train, bench)
    assert report.is_clean and report.pairs == () and report.num_pairs["crop"] == 0


def test_hashes_are_small_and_pixels_tell_one_bit_apart() -> None:
    scene = draw_scene(5, (3000, 2000))
    hashed = hash_image(scene)
    assert hashed.spots.hashes.nbytes + hashed.spots.places.nbytes + hashed.look.nbytes < 21_000
    changed = scene.copy()
    red, green, blue = changed.getpixel((2999, 1999))  # type: ignore[misc]
    changed.putpixel((2999, 1999), (red ^ 1, green, blue))
    assert hash_pixels(scene) == hash_pixels(scene.copy()) != hash_pixels(changed)
    wide, tall = Image.new("RGB", (20, 10)), Image.new("RGB", (10, 20))
    assert hash_pixels(wide) != hash_pixels(tall)


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (23, 23), (64, 48)])
def test_small_images_are_hashed(size: tuple[int, int]) -> None:
    image = draw_scene(6).resize(size)
    assert find_kinds([make_sample("t", image)], [make_sample("b", image.copy())]) == {("pixels", "t", "b")}


def test_a_image_is_decoded_once_for_all_its_questions() -> None:
    decoded: list[str] = []
    images = {name: CountedImage(draw_scene(seed), name, decoded) for seed, name in enumerate("tbc")}
    train = [make_sample(f"t{k}", images["t"], f"{k}?") for k in range(4)]
    bench = [make_sample(f"{name}{k}", images[name], f"{name} {k} is") for name in "bc" for k in range(4)]
    report = find_leakage(train, bench)
    assert sorted(decoded) == ["b", "c", "t"]
    assert (report.num_train, report.num_train_images, report.num_bench_images) == (4, 1, 2)


def test_all_questions_about_a_shared_image_are_named() -> None:
    scene = draw_scene(7)
    train = [make_sample(f"t{k}", MemoryImage(scene, "t"), f"{k}?") for k in range(2)]
    bench = [make_sample(f"b{k}", MemoryImage(scene.copy(), "b"), f"which {k}") for k in range(3)]
    report = find_leakage(train, bench)
    assert report.num_pairs["pixels"] == 6
    assert report.bench_ids["pixels"] == ("b0", "b1", "b2") and report.train_ids["pixels"] == ("t0", "t1")


def test_a_image_that_does_not_open_is_counted_and_not_taken_for_clean() -> None:
    report = find_leakage([make_sample("t", BrokenImage())], [make_sample("b", draw_scene(8))])
    assert [(entry.side, entry.image, entry.reason) for entry in report.unread] == [
        ("train", "broken.jpg", "broken.jpg is cut off")
    ]
    assert any("could not be decoded" in note for note in tabulate(report).notes)
    assert len(find_leakage([make_sample("t", draw_scene(8))], [make_sample("b", BrokenImage())]).unread) == 1


def test_questions_are_compared_by_their_words_without_options() -> None:
    bench = Sample("b", BrokenImage(), "What is the color of the dog's collar?\n(A) red\n(B) blue", ("red", "blue"),
                   options_in_question=True)  # fmt: skip
    assert normalize_question(bench) == "what is the color of the dog s collar"
    inline = Sample("i", BrokenImage(), "Which one? (A) red (B) blue", ("red", "blue"), options_in_question=True)
    assert normalize_question(inline) == "which one"
    assert make_grams(Sample("x", BrokenImage(), "Which one?")) == {"which one"}
    longer = Sample("t", BrokenImage(), "Look. What is the COLOR of the dog's  collar? Options: red, blue")
    other = Sample("u", BrokenImage(), "What is the color of the cat's collar?")
    report = find_leakage([longer, other], [bench])
    assert [(pair.kind, pair.train_id, pair.score) for pair in report.pairs] == [("question", "t", 1.0)]


def test_pairs_that_share_image_and_question_are_counted_on_their_own() -> None:
    scene, question = draw_scene(9), "what is written on the third sail"
    bench = [make_sample("b", scene, question)]
    train = [make_sample("t", scene, question), make_sample("u", draw_scene(10), question)]
    report = find_leakage(train, bench)
    assert report.num_pairs == {"pixels": 1, "look": 0, "crop": 0, "question": 2, BOTH: 1}
    assert report.train_ids[BOTH] == ("t",)


def test_a_question_that_is_asked_everywhere_lists_few_pairs_and_counts_all() -> None:
    train = [make_sample(f"t{k}", BrokenImage(), "what color is the car") for k in range(50)]
    report = find_leakage(train, [make_sample("b", BrokenImage(), "What color is the car?")])
    assert report.num_pairs["question"] == len(report.train_ids["question"]) == 50
    assert len(report.pairs) == 20


def write_questions(folder: Path, name: str, images: dict[str, Image.Image]) -> Path:
    folder.mkdir(exist_ok=True)
    rows: list[str] = []
    for stem, image in images.items():
        image.save(folder / f"{stem}.png")
        rows.append(json.dumps({"image": f"{stem}.png", "question": f"what is {stem}", "id": stem}))
    path = folder / name
    path.write_text("\n".join(rows) + "\n")
    return path


def test_the_command_prints_pairs_and_exits_with_3(tmp_path: Path) -> None:
    scene = draw_scene(11)
    train = write_questions(tmp_path / "t", "t.jsonl", {"cut": scene.crop((100, 80, 500, 400)), "own": draw_scene(12)})
    bench = write_questions(tmp_path / "b", "b.jsonl", {"whole": scene})
    out = tmp_path / "out" / "leakage.json"
    result = CliRunner().invoke(app, ["leakage", str(train), str(bench), "--out", str(out)])
    assert result.exit_code == 3, result.output
    assert "Leakage: folder (b.jsonl) in folder (t.jsonl)" in result.output
    report = LeakageReport.model_validate_json(out.read_text())
    assert [(pair.kind, pair.train_id, pair.bench_id) for pair in report.pairs] == [("crop", "cut", "whole")]
    result = CliRunner().invoke(app, ["leakage", str(train), str(bench), "--json"])
    assert LeakageReport.model_validate_json(result.stdout) == report


def test_the_command_exits_with_0_when_nothing_is_shared(tmp_path: Path) -> None:
    train = write_questions(tmp_path / "t", "t.jsonl", {"a": draw_scene(13)})
    bench = write_questions(tmp_path / "b", "b.jsonl", {"b": draw_scene(14)})
    result = CliRunner().invoke(app, ["leakage", str(train), str(bench)])
    assert result.exit_code == 0, result.output
    assert CliRunner().invoke(app, ["leakage", str(train), str(tmp_path / "none.jsonl")]).exit_code == 1
