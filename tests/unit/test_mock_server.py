"""The mock server of benchmarks/speed_eval.py takes the time it should: arithmetic, without a clock."""

from __future__ import annotations

import base64
import io
from importlib import import_module
from types import ModuleType

import pytest
from PIL import Image


@pytest.fixture(scope="module")
def mock_server() -> ModuleType:
    return import_module("tests.fakes.mock_server")


@pytest.fixture(scope="module")
def mock_device() -> ModuleType:
    return import_module("tests.fakes.mock_device")


@pytest.fixture(scope="module")
def simulate_eval() -> ModuleType:
    return import_module("benchmarks.simulate_eval")


def run(device: object) -> tuple[float, int]:
    """(seconds, steps) until there is nothing left to do."""
    seconds, steps = 0.0, 0
    while step_s := device.step()[0]:  # type: ignore[attr-defined]
        seconds, steps = seconds + step_s, steps + 1
    return seconds, steps


def make_job(server: ModuleType, image: str, text: str, num_output: int, **options: bool) -> object:
    parts = (server.Part("system", 7, False), server.Part(image, 4096, True), server.Part(text, 80, False))
    return server.Job(parts, num_output, **options)


def test_arithmetic_is_that_of_the_model(mock_device: ModuleType) -> None:
    hardware = mock_device.Hardware()
    for num_tokens, vision_tflop, language_tflop in ((2048, 12, 16), (4096, 37, 35)):
        assert hardware.vision_s(num_tokens) * hardware.flops_per_s / 1e12 == pytest.approx(vision_tflop, rel=0.01)
        assert hardware.prefill_s(num_tokens) * hardware.flops_per_s / 1e12 == pytest.approx(language_tflop, rel=0.01)
    split = hardware.prefill_s(1000) + hardware.prefill_s(500, 1000)
    assert split == pytest.approx(hardware.prefill_s(1500))


def test_a_request_costs_its_prompt_once_and_then_its_keys_and_values(mock_device: ModuleType) -> None:
    device, hardware = mock_device.Device(), mock_device.Hardware()
    assert device.step() == (0.0, [])
    device.add(make_job(mock_device, "a", "t", 3))
    first = hardware.vision_s(4096) + hardware.prefill_s(4183)
    later = [hardware.weights_s + hardware.decode_s(4183 + made) for made in (1, 2)]
    assert run(device) == (pytest.approx(first + sum(later)), 3)


def test_running_requests_share_the_reading_of_the_weights(mock_device: ModuleType) -> None:
    def decode(count: int) -> float:
        device = mock_device.Device()
        for number in range(count):
            device.add(mock_device.Job((mock_device.Part(str(number), 10, False),), 200))
        return run(device)[0]

    assert decode(1) < decode(64) < 2 * decode(1)


def test_prompts_wait_for_a_slot_and_for_room_in_a_step(mock_device: ModuleType) -> None:
    device = mock_device.Device(mock_device.Hardware(num_slots=2))
    for number in range(3):
        device.add(make_job(mock_device, str(number), "t", 1 if number else 5, may_share=False))
    device.step()
    assert (len(device.running), len(device.waiting)) == (1, 2)  # 8,192 tokens have room for one prompt of 4,183
    device.step()
    assert (len(device.running), len(device.waiting)) == (1, 1)
    full = mock_device.Device(mock_device.Hardware(num_slots=2))
    for number in range(3):
        full.add(mock_device.Job((mock_device.Part(str(number), 10, False),), 5))
    full.step()
    assert (len(full.running), len(full.waiting)) == (2, 1)


def test_a_known_prefix_costs_nothing_and_its_last_part_is_computed(mock_device: ModuleType) -> None:
    device, hardware = mock_device.Device(), mock_device.Hardware()
    device.add(make_job(mock_device, "a", "t", 1))
    device.step()
    for text in ("u", "t"):
        device.add(make_job(mock_device, "a", text, 1))
        seconds, (job,) = device.step()
        assert job.num_cached == 4103
        assert seconds == pytest.approx(max(hardware.prefill_s(80, 4103), hardware.weights_s))


@pytest.mark.parametrize(("image", "may_share"), [("b", True), ("a", False)])
def test_another_image_and_a_switched_off_cache_cost_all(mock_device: ModuleType, image: str, may_share: bool) -> None:
    device, hardware = mock_device.Device(), mock_device.Hardware()
    device.add(make_job(mock_device, "a", "t", 1))
    device.step()
    device.add(make_job(mock_device, image, "u", 1, may_share=may_share))
    assert device.step()[0] >= hardware.vision_s(4096) + hardware.prefill_s(4096)


def test_old_prefixes_are_pushed_out(mock_device: ModuleType) -> None:
    device = mock_device.Device(mock_device.Hardware(kv_tokens=2 * 4183))
    for image in ("a", "b", "c"):
        device.add(make_job(mock_device, image, "t", 1))
        device.step()
    assert device.num_prefix_tokens <= 2 * 4183
    device.add(make_job(mock_device, "a", "u", 1))
    assert device.step()[1][0].num_cached <= 7


def test_a_chat_is_read_into_parts(mock_server: ModuleType) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (320, 192)).save(buffer, "BMP")
    url = f"data:image/bmp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What? " * 10}]
    messages = [{"role": "system", "content": "You help."}, {"role": "user", "content": content}]
    parts = mock_server.read_parts(messages, 64)
    assert [(part.num_tokens, part.is_image) for part in parts] == [(2, False), (60 * 64, True), (15, False)]


def test_replies_depend_on_the_prompt_alone_and_have_a_long_tail(mock_server: ModuleType) -> None:
    assert mock_server.make_reply("a") == mock_server.make_reply("a") != mock_server.make_reply("b")
    lengths = sorted(mock_server.make_reply(f"question {number}")[1] for number in range(500))
    assert 140 < lengths[250] < 230 and lengths[-1] == 1024
    assert "bbox_2d" in mock_server.make_reply('Report "bbox_2d"')[0]


def test_streaming_is_faster_than_the_barrier_and_shared_images_help(
    mock_server: ModuleType, mock_device: ModuleType, simulate_eval: ModuleType
) -> None:
    def make_walks(num_rotations: int) -> list[object]:
        walks: list[object] = []
        for number in range(128):
            place, image = f"p{number}", mock_device.Part(f"i{number // num_rotations}", 4080, True)
            drawn = mock_device.Part(f"d{number}", 4080, True)
            words = mock_device.Part(place, 80, False)
            perceive = simulate_eval.Request((image, words), 45)
            reason = simulate_eval.Request((drawn, words), mock_server.make_reply(place)[1])
            walks.append(simulate_eval.Walk(perceive, reason))
        return walks

    work = simulate_eval.ImageWork(0.56, 0.01)
    once, rotated = make_walks(1), make_walks(4)
    barrier_s = simulate_eval.simulate_barrier(once, work)
    stream_s = simulate_eval.simulate_stream(once, work, 64)
    assert simulate_eval.simulate_barrier(rotated, work) == pytest.approx(barrier_s)
    assert simulate_eval.simulate_stream(rotated, work, 64) < stream_s < barrier_s
    assert simulate_eval.simulate_stream(once, work, 1) > barrier_s
