"""The images of the tools for agents: which they may name, and which they are shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from p2r.agents.shown import MOST_BYTES, PNG_BYTES, show_images
from p2r.serving.fetch import Fetcher
from p2r.serving.settings import Access, Limits
from tests.fakes.agents import make_kit, read_fields, read_images, read_words
from tests.fakes.served import data_url, scripted


async def test_an_agent_learns_which_images_it_may_name(folder: Path) -> None:
    kit = make_kit(access=Access(image_folders=(folder,), image_hosts=("example.org", "example.com")))
    kit.tools.folder = str(folder)
    for each, said in (
        (kit, f"The image: the path of a file below {folder} (absolute, or relative to it), or a web address of "
         "example.org or example.com, or a data: URL."),
        (make_kit(), "The image: a data: URL."),
    ):  # fmt: skip
        async with each.connect() as client:
            for tool in (await client.list_tools()).tools:
                assert tool.input_schema["properties"]["image"]["description"] == said


async def test_an_image_may_be_bare_base64() -> None:
    async with make_kit().connect() as client:
        image = data_url().partition(",")[2]
        result = await client.call_tool("crop", {"image": image, "box": [0, 0, 9, 9]})
    assert read_fields(result)["image_wh"] == [640, 320]


async def test_a_fault_of_an_image_says_what_helps(folder: Path) -> None:
    Image.new("RGB", (1, 500)).save(folder / "thin.png")
    (folder / "cut.png").write_bytes((folder / "below/a boat.png").read_bytes()[:900])
    async with make_kit(folder=folder).connect() as client:
        cut = await client.call_tool("crop", {"image": "cut.png", "box": [0, 0, 9, 9]})
        assert read_words(cut).startswith("image is broken or cut off: ")
        assert "; copy or download it again" in read_words(cut)
        thin = await client.call_tool("look", {"image": "thin.png", "question": "What is it?"})
        assert read_words(thin) == "the image is 1 x 500 pixels, one side more than 200 times the other"


async def test_the_image_of_a_data_url_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    async with make_kit().connect() as client:
        url = data_url(Image.new("RGB", (60, 30)), "JPEG", exif=exif)
        result = await client.call_tool("crop", {"image": url, "box": "[0, 0, 1000, 1000]", "unit": "per_mille"})
    assert read_fields(result)["crops"] == [{"pixels": [0, 0, 30, 60], "shown_wh": [30, 60]}]


async def test_large_images_are_sized_down_and_sent_as_jpeg() -> None:
    noise = Image.effect_noise((800, 400), 90).convert("RGB")
    async with make_kit(shown_pixels=80_000).connect() as client:
        result = await client.call_tool("crop", {"image": data_url(noise), "box": [0, 0, 800, 400]})
        assert read_fields(result)["crops"] == [{"pixels": [0, 0, 800, 400], "shown_wh": [400, 200]}]
        assert [image.size for image in read_images(result)] == [(400, 200)]
    async with make_kit().connect() as client:
        result = await client.call_tool("crop", {"image": data_url(noise), "box": [0, 0, 800, 400]})
    (image,) = read_images(result)
    assert (image.format, image.size) == ("JPEG", (800, 400))
    assert len(data_url(noise)) > PNG_BYTES
    assert [each.wh for each in show_images([Image.new("RGB", (9000, 3)), Image.new("RGB", (1, 9000))], 10**6)] == [
        (2000, 1),
        (1, 2000),
    ]


async def test_a_result_is_no_larger_than_clients_take(folder: Path) -> None:
    Image.effect_noise((3000, 3000), 90).convert("RGB").save(folder / "noise.png")
    boxes = [{"bbox_2d": [left, 0, left + 250, 900], "label": "x"} for left in (0, 300, 700)]
    async with make_kit(scripted(json.dumps(boxes)), folder=folder).connect() as client:
        result = await client.call_tool("look", {"image": "noise.png", "question": "What is it?"})
        whole = await client.call_tool("crop", {"image": "noise.png", "box": [0, 0, 3000, 3000]})
    images = read_images(result)
    assert [crop["shown_wh"] for crop in read_fields(result)["crops"]] == [list(image.size) for image in images]
    assert [image.format for image in images] == ["JPEG"] * 3
    for each in (result, whole):
        assert len(each.model_dump_json()) < 4 / 3 * MOST_BYTES + 10_000
    assert [image.size for image in read_images(whole)] == [(1000, 1000)]
    assert all(200_000 < image.width * image.height < 900_000 for image in images)  # each has its share


@pytest.mark.parametrize(
    "image",
    [
        "../outside.png",
        "below/../../outside.png",
        "link.png",
        "/etc/passwd",
        "file:///etc/passwd",
        "file://host/etc/passwd",
        "%2e%2e/outside.png",
        "nothing.png",
        "below",
        ".",
        "~/.ssh/id_rsa",
        "a\0b",
        "x" * 5000,
    ],
)
async def test_no_file_outside_of_the_folder_is_read(image: str, folder: Path) -> None:
    async with make_kit(folder=folder).connect() as client:
        result = await client.call_tool("crop", {"image": image, "box": [0, 0, 9, 9]})
    said = read_words(result)
    assert (result.is_error, said.startswith("image is ")) == (True, True)
    assert said.endswith(
        ", which is not a file that this server reads: it must be the path of a file below the server's image folder "
        "(absolute, or relative to it), or a data: URL"
    )
    assert len(said) < 300


async def test_a_path_is_looked_for_in_every_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    Image.new("RGB", (9, 9)).save(folder / "below" / "50% off.png")
    access = Access(image_folders=(folder / "nowhere", folder, folder / "below"))
    names = [
        "below/a boat.png",
        "a boat.png",
        "below\\a boat.png",
        "a%20boat.png",
        "50% off.png",
        "~/images/below/a boat.png",
    ]
    async with make_kit(access=access).connect() as client:
        for image in names:
            assert not (await client.call_tool("crop", {"image": image, "box": [0, 0, 9, 9]})).is_error, image
        for image in ("~/outside.png", "../outside.png", "%2e%2e/outside.png"):
            result = await client.call_tool("crop", {"image": image, "box": [0, 0, 9, 9]})
            assert "which is not a file that this server reads" in read_words(result)


async def test_a_file_that_is_no_image_is_not_shown(folder: Path) -> None:
    async with make_kit(folder=folder).connect() as client:
        result = await client.call_tool("crop", {"image": "notes.txt", "box": [0, 0, 9, 9]})
    assert result.is_error
    assert "secret" not in read_words(result)
    assert str(folder) not in read_words(result)


async def test_without_a_folder_no_file_is_read(folder: Path) -> None:
    async with make_kit().connect() as client:
        for image in ("below/a boat.png", str(folder / "below" / "a boat.png")):
            result = await client.call_tool("crop", {"image": image, "box": [0, 0, 9, 9]})
            assert read_words(result).endswith("': it must be a data: URL")
        result = await client.call_tool("crop", {"image": (folder / "x.png").as_uri(), "box": [0, 0, 9, 9]})
        assert read_words(result).endswith(": it must be a data: URL")


async def test_web_images_are_fetched_from_allowed_public_hosts_alone() -> None:
    box = {"box": [0, 0, 9, 9]}
    async with make_kit().connect() as client:
        result = await client.call_tool("crop", {"image": "https://example.org/a.png"} | box)
        assert read_words(result) == "image is 'https://example.org/a.png': it must be a data: URL"
    access = Access(image_hosts=("example.org", "localhost:8000"))
    private = Fetcher(access.image_hosts, 1000, 5.0, resolve=lambda host, port: ["10.0.0.7"])
    async with make_kit(access=access, fetcher=private).connect() as client:
        for url, said in (
            ("https://example.org/a.png", "its host is not a public one"),
            ("http://localhost:8000/a.png", "its host is not a public one"),
            ("http://169.254.169.254/latest", "on a host from which this server fetches no images"),
            ("gopher://example.org/a.png", ": it must be a web address of example.org or localhost:8000, or"),
        ):
            result = await client.call_tool("crop", {"image": url} | box)
            assert result.is_error
            assert said in read_words(result)


async def test_a_huge_image_is_refused_before_it_is_decoded() -> None:
    async with make_kit(limits=Limits(image_pixels=10_000, image_bytes=2000)).connect() as client:
        result = await client.call_tool("crop", {"image": data_url(), "box": [0, 0, 9, 9]})
        assert read_words(result) == "the images have more than 10,000 pixels together"
        noise = Image.effect_noise((64, 64), 90).convert("RGB")
        result = await client.call_tool("crop", {"image": data_url(noise), "box": [0, 0, 9, 9]})
        assert "more than 0.002 MB" in read_words(result)
