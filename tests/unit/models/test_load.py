from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from p2r.errors import ConfigError, ModelError, install_hint
from p2r.models import load as base
from p2r.models import nano
from p2r.models.checkpoint import open_checkpoint
from p2r.models.load import Loading, check_stated, load_model, loading_of
from p2r.models.scripted import ScriptedModel


@pytest.mark.parametrize("spec", ["foo", "", "a/b/c", "my model"])
def test_a_spec_that_names_nothing_is_refused(spec: str) -> None:
    with pytest.raises(ModelError):
        load_model(spec)


def test_an_unknown_word_is_told_what_a_model_may_be() -> None:
    with pytest.raises(ModelError, match="unknown model 'foo'") as caught:
        load_model("foo")
    assert "hongxingli/P2R-4B" in caught.value.hint


@pytest.mark.parametrize("spec", ["./nowhere", "/nowhere/model", "~/nowhere-at-all", "../a/b"])
def test_a_folder_that_is_not_there_is_said_to_be_missing(spec: str) -> None:
    with pytest.raises(ModelError, match="no checkpoint folder"):
        load_model(spec)


@pytest.mark.parametrize(("spec", "place"), [("nano", "CHECKPOINT"), ("nano-base", "BASE_CHECKPOINT")])
def test_a_shipped_model_that_is_not_there_is_said_to_be_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spec: str, place: str
) -> None:
    monkeypatch.setattr(nano, place, tmp_path / "checkpoint")
    with pytest.raises(ModelError, match=f"the {spec} model is not where it should be"):
        load_model(spec)


def test_without_torch_a_local_model_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="needs torch") as caught:
        load_model("hongxingli/P2R-4B")
    assert install_hint("local") in caught.value.hint


@pytest.mark.parametrize(("spec", "library"), [("hongxingli/P2R-4B", "torch"), ("vllm:hongxingli/P2R-4B", "vLLM")])
def test_nothing_is_downloaded_for_a_library_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, spec: str, library: str
) -> None:
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    monkeypatch.setattr(base, "fetch_checkpoint", lambda source: pytest.fail(f"{source} was fetched"))
    with pytest.raises(ModelError, match=f"needs {library}"):
        load_model(spec)


@pytest.mark.parametrize("setting", [{"batch_size": 0}, {"concurrency": 0}, {"timeout_s": 0.0}])
def test_numbers_that_must_be_above_zero_are_checked(setting: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        load_model("nano", **setting)  # type: ignore[arg-type]


def test_an_unknown_transport_is_refused() -> None:
    with pytest.raises(ConfigError, match="no image transport 'tiff'"):
        load_model("http://localhost:8000/v1#m", transport="tiff")  # type: ignore[arg-type]


def test_naming_models_imports_neither_torch_nor_a_client() -> None:
    code = (
        "import sys, p2r.models.load, p2r.models.scripted, p2r.models.profiles\n"
        "print([name for name in ('torch', 'transformers', 'openai', 'stamina') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == "[]"


def test_a_loaded_model_is_known_by_how_it_was_loaded(tmp_path: Path) -> None:
    path = tmp_path / "replies.json"
    path.write_text('{"reasoner": "A"}')
    model = load_model(f"scripted:{path}", max_pixels=200704, dtype="bfloat16")
    assert loading_of(model) == Loading(spec=f"scripted:{path}", max_pixels=200704, dtype="bfloat16")
    assert loading_of(ScriptedModel({}, name="by hand")) == Loading(spec="by hand")


@pytest.mark.parametrize("spec", [None, 3, Path("folder")])
def test_a_name_that_is_not_a_text_is_refused(spec: object) -> None:
    with pytest.raises(ConfigError, match="not the name of a model") as caught:
        load_model(cast(str, spec))
    assert "nano" in caught.value.hint


def test_a_family_or_frame_that_there_is_not_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(ConfigError, match="no model family"):
        load_model("nano", family="llava")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="no frame"):
        load_model("nano", frame="absolute")  # pyright: ignore[reportArgumentType]


def test_family_and_frame_cannot_change_a_loaded_model() -> None:
    check_stated("qwen3_vl", "unit", "nano")
    check_stated(None, None, ScriptedModel({}))
    for stated in (("qwen3_vl", None), (None, "unit")):
        with pytest.raises(ConfigError, match="'scripted', which is loaded already"):
            check_stated(*stated, ScriptedModel({}))


def test_a_checkpoint_without_preprocessor_settings_is_said_once_to_have_the_usual_limits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(nano.CHECKPOINT, bare, ignore=shutil.ignore_patterns("*processor_config.json"))
    for _ in range(2):
        assert open_checkpoint(bare).profile().budget.max_pixels == 4096 * 32 * 32
    assert len(caplog.records) == 1
    assert "no preprocessor_config.json" in caplog.text and "16 to 4096 visual tokens" in caplog.text
    open_checkpoint(nano.CHECKPOINT).profile()
    assert len(caplog.records) == 1


def test_a_checkpoints_frame_can_be_stated_and_its_family_is_its_own(caplog: pytest.LogCaptureFixture) -> None:
    profile = open_checkpoint(nano.CHECKPOINT).profile(family="qwen2_5_vl", frame="unit")
    assert (profile.family, profile.stated_frame) == ("qwen3_vl", "unit")
    assert "passed over" in caplog.text
