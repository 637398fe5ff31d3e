import pytest
from PIL import Image

from p2r.evaluation.metrics import Summary, saw_all_evidence, summarize, tabulate_summaries
from p2r.evaluation.scoring import score_run
from p2r.images.load import MemoryImage
from p2r.modes import Mode
from p2r.runs.evaluation import RunSettings, make_run
from p2r.types import Box, Completion, EvidenceRecord, Failure, ImageSource, Perception, Sample, Trace

IMAGE: ImageSource = MemoryImage(Image.new("RGB", (64, 64)))
GOLD = Box(x1=100, y1=100, x2=300, y2=300)
ELSEWHERE = Box(x1=700, y1=700, x2=900, y2=900)


def make_sample(id: str, *, gold: tuple[Box, ...] = (GOLD,), chance: float | None = 0.25) -> Sample:
    return Sample(id=id, image=IMAGE, question="?", target="it", gold_boxes=gold, chance=chance)


def summarize_run(samples: list[Sample], *traces: Trace, mode: Mode = "p2r", wall_s: float | None = None) -> Summary:
    return summarize(score_run(make_run(samples, traces, RunSettings(mode=mode), wall_s=wall_s)))


def make_trace(
    id: str,
    *,
    correct: bool | None = True,
    boxes: tuple[Box, ...] = (GOLD,),
    crop: tuple[int, int, int, int] | None = None,
) -> Trace:
    failed = correct is None
    return Trace(
        sample_id=id,
        image="memory",
        question="?",
        target="it",
        reasoning=None
        if failed
        else Completion(text=f"<answer>{'it' if correct else 'no'}</answer>", finish_reason="stop", model="m"),
        perception=Perception(source="test", boxes=boxes),
        evidence=EvidenceRecord(image_wh=(1000, 1000), crops=(crop,) if crop else ()),
        failure=Failure(stage="reason", kind="ModelError", message="broken") if failed else None,
    )


def test_accuracy_is_a_share_of_the_judged_and_failures_are_counted_apart() -> None:
    samples = [make_sample(id) for id in "abcd"]
    traces = (make_trace("a"), make_trace("b", correct=False), make_trace("c", correct=None), make_trace("d"))
    summary = summarize_run(samples, *traces)
    assert (summary.num_samples, summary.num_judged, summary.num_correct, summary.num_failed) == (4, 3, 2, 1)
    assert summary.accuracy == pytest.approx(2 / 3)
    assert summary.interval.low < 2 / 3 < summary.interval.high


def test_a_run_without_a_verdict_has_no_accuracy_rather_than_zero() -> None:
    summary = summarize_run([make_sample("a")], make_trace("a", correct=None))
    assert summary.accuracy is None
    assert (summary.interval.low, summary.interval.high) == (0, 1)


def test_chance_is_the_mean_over_samples() -> None:
    samples = [make_sample("a", chance=0.5), make_sample("b", chance=0.25)]
    assert summarize_run(samples, make_trace("a"), make_trace("b")).chance == pytest.approx(0.375)


def test_chance_is_unknown_when_one_sample_does_not_state_it() -> None:
    samples = [make_sample("a"), make_sample("b", chance=None)]
    assert summarize_run(samples, make_trace("a"), make_trace("b")).chance is None


def test_hits_and_iou_are_means_over_samples_with_gold_boxes() -> None:
    samples = [make_sample("a"), make_sample("b"), make_sample("c", gold=())]
    traces = (make_trace("a"), make_trace("b", boxes=(ELSEWHERE, ELSEWHERE)), make_trace("c"))
    summary = summarize_run(samples, *traces)
    assert summary.hit_rate == 0.5
    assert summary.mean_iou == 0.5
    assert summary.mean_boxes == pytest.approx(4 / 3)


def test_a_run_that_does_not_look_has_nothing_to_say_about_boxes() -> None:
    summary = summarize_run([make_sample("a")], make_trace("a", boxes=()), mode="direct")
    assert (summary.hit_rate, summary.mean_iou, summary.seen_rate, summary.mean_boxes) == (None, None, None, None)


def test_a_crop_around_the_gold_box_shows_it_and_one_through_it_does_not() -> None:
    def saw(crop: tuple[int, int, int, int] | None) -> bool:
        return saw_all_evidence(make_trace("a", crop=crop), make_sample("a").gold_boxes)

    assert saw((50, 50, 400, 400))
    assert not saw((200, 200, 400, 400))
    assert not saw(None)


def test_speed_is_samples_over_wall_time() -> None:
    samples = [make_sample("a"), make_sample("b")]
    assert summarize_run(samples, make_trace("a"), make_trace("b"), wall_s=4.0).samples_per_second == 0.5
    assert summarize_run(samples, make_trace("a"), make_trace("b")).samples_per_second is None


def test_the_line_of_a_run_holds_its_raw_counts_and_its_cost() -> None:
    samples = [make_sample("a"), make_sample("b")]
    traces = (make_trace("a"), make_trace("b", correct=False))
    table = tabulate_summaries([score_run(make_run(samples, traces, RunSettings(mode="p2r"), wall_s=4.0))])
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert (row["run"], row["n"], row["right"], row["failed"], row["accuracy"]) == ("p2r", "2", "1", "0", "50.0%")
    assert (row["calls"], row["samples/s"], row["hit rate"]) == ("1.0", "0.50", "100.0%")


def test_traces_of_other_samples_are_not_counted() -> None:
    assert summarize_run([make_sample("a")], make_trace("b")).num_samples == 0
