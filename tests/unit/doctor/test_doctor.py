"""A healthy server is found healthy, and each defect is named."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from p2r.cli.app import app
from p2r.doctor.examine import examine
from p2r.doctor.findings import Examination
from p2r.errors import ConfigError, EndpointError
from p2r.models.load import load_model
from p2r.models.server.measured import MeasuredProfile, read_measured
from tests.fakes.endpoint_server import Answer, Call, completion, refusal, serve
from tests.fakes.examined_server import Behavior, Model, examined


def look(behavior: Behavior) -> Examination:
    with examined(behavior) as server:
        return examine(server.url)


def test_a_healthy_server_is_found_healthy() -> None:
    found = look(Behavior())
    assert found.is_fit and found.num_asked == 57
    assert {each.subject for each in found.findings if each.state != "good"} == {"smallest image", "largest image"}
    profile = found.profile
    assert (profile.family, profile.frame, profile.factor) == ("qwen3_vl", "per_mille", 32)
    assert (profile.min_pixels, profile.max_pixels) == (64 * 1024, 196 * 1024)
    assert (profile.most_images, profile.context, profile.num_logprobs) == (8, 32768, 20)
    assert profile.image_formats == ("png", "bmp", "webp", "jpeg")


@pytest.mark.parametrize(
    ("name", "family"), [("qwen3.5-4b", "qwen3_5"), ("Qwen3-VL-4B", "qwen3_vl"), ("qwen2-vl", "qwen3_vl")]
)
def test_of_families_with_tokens_of_one_size_the_name_tells(name: str, family: str) -> None:
    with examined(Behavior(), name) as server:
        assert examine(server.url).profile.family == family


@pytest.mark.parametrize(
    ("name", "about"), [("qwen3.5-4b", "root"), ("mine", "root"), ("mine", "parent"), ("qwen3-vl", "other")]
)
def test_a_family_that_would_think_is_asked_not_to_as_in_runs(name: str, about: str) -> None:
    with serve(Model(Behavior()).answer, models=[name], about={about: "Qwen/Qwen3.6-27B"}) as server:
        found = examine(server.url)
    assert found.is_fit and found.profile.family == ("qwen3_vl" if name == "qwen3-vl" else "qwen3_5")
    said = {str(call.body.get("chat_template_kwargs")) for call in server.chats}
    assert said == ({"None"} if name == "qwen3-vl" else {"{'enable_thinking': False}"})


def test_a_server_of_large_images_is_found_healthy() -> None:
    found = look(Behavior(most=784, rounds_up=True, refuses_below=32, thinks=True))
    assert found.is_fit, found.findings
    assert (found.profile.min_pixels, found.profile.max_pixels) == (64 * 1024, 784 * 1024)
    assert {each.subject for each in found.findings if each.state == "good"} >= {"boxes", "order", "EXIF", "JPEG"}


def test_a_server_that_takes_few_and_very_small_images_is_found_healthy() -> None:
    found = look(Behavior(least=4, most=64, most_images=4, shares_frame=True))
    assert {each.subject for each in found.findings if each.state != "good"} == {"smallest image", "largest image"}
    assert (found.profile.min_pixels, found.profile.max_pixels) == (4 * 1024, 64 * 1024)


DEFECTS = [
    ("boxes", "note", "pixels of the image", Behavior(frame="pixels")),
    ("boxes", "note", "numbers from 0 to 1:", Behavior(frame="unit")),
    ("boxes", "bad", "0 of 6 charts; 0 replies have boxes", Behavior(finds=False)),
    ("boxes", "bad", "writes y before x: 6 of 6", Behavior(swaps=True)),
    ("boxes", "unknown", "fit two frames: 6 of 6", Behavior(frame="pixels", hedges=True)),
    ("image size", "bad", "No family that p2r knows counts so. Images may be cut", Behavior(tiles=True)),
    ("image size", "bad", "as in no family that p2r knows", Behavior(factor=16, least=16)),
    ("image size", "bad", "An image adds 0 tokens to a prompt: it is not seen, or not counted.", Behavior(tokens=0)),
    ("image size", "bad", "Each image has 256 tokens, whatever its size", Behavior(tokens=256)),
    ("long image", "bad", "of 896 x 224 pixels has 64 visual tokens, not 196", Behavior(longest=448)),
    ("tokens", "bad", "does not say how many tokens", Behavior(counts=False)),
    ("formats", "good", "not bmp, webp", Behavior(formats=("PNG", "JPEG"))),
    ("formats", "bad", "reads JPEG alone", Behavior(formats=("JPEG",))),
    ("images", "bad", "takes 2 images in a prompt: http", Behavior(most_images=2)),
    ("several images", "bad", "merges neighboring images of one size: 2 equal", Behavior(merges=True)),
    ("several images", "bad", "does not see all of several images: 2 have", Behavior(drops=True)),
    ("order", "bad", "It names yellow, blue, green, red for images", Behavior(reverses=True)),
    ("order", "unknown", "names no colors for images that were sent as red, green", Behavior(names_colors=False)),
    ("order", "unknown", "It names green, blue", Behavior(says_colors="green, blue, red, and yellow")),
    ("EXIF", "note", "does not turn photographs", Behavior(turns_photos=False)),
    ("JPEG", "note", "changes 6 of 6 replies", Behavior(is_upset_by_jpeg=True)),
    ("repeats", "bad", "another reply each time", Behavior(is_random=True)),
    ("repeats", "note", "side by side differ from one that is drawn alone", Behavior(is_random_together=True)),
    ("log-probabilities", "note", "lists 5 likely tokens of the 20 that", Behavior(num_logprobs=5)),
    ("log-probabilities", "note", "refuses to list likely tokens", Behavior(num_logprobs=None)),
    ("log-probabilities", "note", "lists none of the likely tokens", Behavior(num_logprobs=0)),
    ("log-probabilities", "bad", "add up to 21.19", Behavior(gives_probabilities=True)),
    ("prefix cache", "note", "reads a prompt again", Behavior(cached=0)),
    ("prefix cache", "unknown", "does not say how much", Behavior(cached=None)),
    ("context", "note", "2,048 tokens: a reply, and four images of 128 visual tokens", Behavior(context=2048)),
    ("context", "bad", "1,600 tokens: a reply, and four images of 16 visual tokens", Behavior(context=1600)),
    ("context", "unknown", "does not say how long", Behavior(context=None)),
]
FOLLOWS = {
    "several images": {"order"},
    "images": {"order", "several images"},
    "repeats": {"JPEG"},
    "boxes": {"EXIF", "JPEG"},
    "tokens": {"image size", "several images", "smallest image", "largest image", "prefix cache"},
    "image size": {"several images", "smallest image", "largest image", "context"},
    "formats": {"JPEG"},
}
"""What cannot be found out where another thing is bad."""
USUAL = {"smallest image", "largest image"}


@pytest.mark.parametrize(("subject", "state", "says", "behavior"), DEFECTS, ids=[f"{d[0]}: {d[2]}" for d in DEFECTS])
def test_each_defect_is_named_and_nothing_else_is(subject: str, state: str, says: str, behavior: Behavior) -> None:
    found = look(behavior)
    [finding] = [each for each in found.findings if each.subject == subject]
    assert finding.state == state and says in finding.says, finding
    assert found.is_fit == (state != "bad")
    others = [each for each in found.findings if each.state != "good" and each.subject not in {subject, *USUAL}]
    assert {each.subject for each in others} <= FOLLOWS.get(subject, set()), others
    assert all(each.state == "unknown" for each in others), others


PAIRS = [
    Behavior(is_random=True, is_upset_by_jpeg=True, context=2048),
    Behavior(tiles=True, merges=True),
    Behavior(tokens=256, drops=True, num_logprobs=5),
    Behavior(counts=False, reverses=True),
    Behavior(tokens=0, drops=True),
    Behavior(swaps=True, drops=True, turns_photos=False),
    Behavior(frame="unit", turns_photos=False, formats=("PNG", "JPEG")),
]
FOUND: list[dict[str, tuple[str, str]]] = [
    {"repeats": ("bad", "another reply"), "JPEG": ("unknown", "change by themselves"), "context": ("note", "2,048")},
    {"image size": ("bad", "tiles"), "several images": ("bad", "merges neighboring images of one size")},
    {"image size": ("bad", "256"), "several images": ("bad", "2 have 256"), "log-probabilities": ("note", "lists 5")},
    {"tokens": ("bad", "does not say"), "order": ("bad", "yellow, blue"), "several images": ("unknown", "not known")},
    {"image size": ("bad", "not seen, or not counted"), "several images": ("unknown", "not known")},
    {"boxes": ("bad", "y before x"), "several images": ("bad", "does not see all"), "EXIF": ("unknown", "Without")},
    {"boxes": ("note", "from 0 to 1"), "EXIF": ("note", "does not turn"), "formats": ("good", "not bmp, webp")},
]


@pytest.mark.parametrize(("behavior", "expected"), [*zip(PAIRS, FOUND, strict=True)], ids=range(len(PAIRS)))
def test_two_defects_are_both_named(behavior: Behavior, expected: dict[str, tuple[str, str]]) -> None:
    found = {each.subject: each for each in look(behavior).findings}
    for subject, (state, says) in expected.items():
        assert found[subject].state == state and says in found[subject].says, found[subject]


def test_charts_are_shown_at_a_size_that_is_left_as_it_is() -> None:
    with examined(Behavior(most=64)) as server:
        examine(server.url)
    asked = [call.body["messages"][-1]["content"] for call in server.chats if "Locate" in str(call.body)]  # type: ignore[index]
    charts = [base64.b64decode(content[0]["image_url"]["url"].partition(",")[2]) for content in asked]
    assert {Image.open(io.BytesIO(chart)).size for chart in charts} == {(256, 256)}


def test_what_was_measured_is_a_profile(tmp_path: Path) -> None:
    with examined(Behavior(frame="pixels", least=81, most=225)) as server:
        done = CliRunner().invoke(app, ["doctor", server.url, "--out", str(tmp_path / "mine.json")])
        assert done.exit_code == 0, done.stderr
        assert "It writes boxes as pixels of the image: 6 of 6 charts." in done.stdout
        assert "Its family writes numbers from 0 to 1000; the profile says so." in done.stdout
        assert f"wrote {tmp_path / 'mine.json'}" in " ".join(done.stdout.split())
        profile = load_model(server.url, profile=str(tmp_path / "mine.json")).profile
    assert (profile.family, profile.frame, profile.frame_is_stated) == ("qwen3_vl", "pixels", True)
    assert (profile.budget.min_pixels, profile.budget.max_pixels) == (81 * 1024, 225 * 1024)


def test_a_defect_is_an_exit_code_and_the_last_sentence() -> None:
    with examined(Behavior(merges=True)) as server:
        done = CliRunner().invoke(app, ["doctor", server.url, "--model", "m"])
    assert done.exit_code == 1
    assert f"m at {server.url} is not fit as it is: 1 problem" in " ".join(done.stderr.split())
    assert "requests to http" in done.stdout


def test_options_count_before_what_was_measured(tmp_path: Path) -> None:
    measured = MeasuredProfile(url="u", model="m", date="d", family="qwen2_5_vl", frame="unit", max_pixels=90000)
    url, path = "http://127.0.0.1:9/v1#m", tmp_path / "mine.json"
    measured.save(path)
    assert read_measured(path) == measured
    profile = load_model(url, profile=str(path), frame="pixels", max_pixels=50176).profile
    assert (profile.frame, profile.budget.max_pixels, profile.budget.factor) == ("pixels", 50176, 28)
    assert load_model(url, profile=str(path), family="qwen3_vl").profile.budget.factor == 32


def test_a_file_that_is_no_profile_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"family": "qwen3_vl"}')
    for name, why in (("other.json", "it was not written by `p2r doctor`"), ("none.json", "no such file or directory")):
        with pytest.raises(ConfigError, match=f"which cannot be used: {why}"):
            load_model("http://127.0.0.1:9/v1#m", profile=str(tmp_path / name))


def test_a_server_without_vision_is_told_at_once() -> None:
    def respond(call: Call) -> Answer:
        has_image = "image_url" in str(call.body)
        return refusal(400, "m is not a multimodal model") if has_image else completion("yes", prompt_tokens=9)

    with serve(respond, models=["m"]) as server, pytest.raises(EndpointError, match="takes no images"):
        examine(server.url)


def test_a_server_that_fails_in_the_middle_leaves_its_other_findings() -> None:
    model = Model(Behavior())

    def respond(call: Call) -> Answer:
        return refusal(400, "no") if "Name the colors" in str(call.body) else model.answer(call)

    with serve(respond, models=["m"]) as server:
        found = examine(server.url)
    [order] = [each for each in found.findings if each.subject == "order"]
    assert order.state == "bad" and order.says.endswith("refused the request (400): no")
    assert [each.subject for each in found.findings][-1] == "context"


def test_settings_that_a_server_refuses_are_left_out() -> None:
    model = Model(Behavior())

    def respond(call: Call) -> Answer:
        if "repetition_penalty" in call.body:
            return refusal(400, "unknown field repetition_penalty")
        return model.answer(call)

    with serve(respond, models=["m"]) as server:
        assert examine(server.url).is_fit


def test_a_file_that_cannot_be_written_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with examined() as server:
        done = CliRunner().invoke(app, ["doctor", server.url, "--out", str(tmp_path / "file" / "mine.json")])
        assert done.exit_code == 1 and "is a file" in done.stderr and not server.calls


def test_the_folder_of_the_file_is_made(tmp_path: Path) -> None:
    MeasuredProfile(url="u", model="m", date="d").save(tmp_path / "new" / "mine.json")
    assert read_measured(tmp_path / "new" / "mine.json").model == "m"


def test_a_name_that_is_given_twice_is_refused() -> None:
    done = CliRunner().invoke(app, ["doctor", "http://127.0.0.1:9/v1#m", "--model", "n"])
    assert done.exit_code != 0 and "the URL names a model already" in done.stderr
