from __future__ import annotations

from pathlib import Path

import pytest

from p2r.errors import ModelError
from p2r.models import load, nano
from p2r.models.checkpoint import HUB_ID
from p2r.models.known import KNOWN, REAL_MODEL, expand_name, is_shipped
from p2r.models.load import find_checkpoint, load_model, runs_on_torch
from p2r.models.profiles import family_of


def test_a_short_name_means_a_checkpoint_on_the_hub() -> None:
    assert expand_name("p2r-4b") == "hongxingli/P2R-4B"
    assert expand_name(" P2R-4B ") == "hongxingli/P2R-4B"
    assert expand_name("vllm:p2r-4b") == "vllm:hongxingli/P2R-4B"
    assert expand_name("Nano") == "nano"


@pytest.mark.parametrize(
    "spec", ["hongxingli/P2R-4B", "./p2r-4b", "http://localhost:8000/v1#p2r-4b", "scripted:nano", "p2r"]
)
def test_other_names_stay_as_they_are(spec: str) -> None:
    assert expand_name(spec) == spec


def test_every_known_model_can_be_named_and_its_family_told() -> None:
    assert REAL_MODEL in KNOWN and KNOWN[REAL_MODEL].hub_id
    for name, model in KNOWN.items():
        assert (model.name, name.lower()) == (name, name)
        if model.hub_id:
            assert HUB_ID.fullmatch(model.hub_id) and family_of(model.hub_id) == family_of(name) == "qwen3_vl"


def test_the_weights_of_the_shipped_models_are_as_large_as_the_table_says() -> None:
    for name, folder in (("nano", nano.CHECKPOINT), ("nano-base", nano.BASE_CHECKPOINT)):
        assert (folder / "model.safetensors").stat().st_size / 1e9 == pytest.approx(KNOWN[name].num_gb, rel=0.02)


def test_a_short_name_works_wherever_a_model_or_a_checkpoint_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(source: str) -> None:
        raise ModelError(f"fetching {source}")

    monkeypatch.setattr(load, "fetch_checkpoint", fetch)
    monkeypatch.setattr(load, "find_spec", lambda name: object())
    for spec in ("p2r-4b", "vllm:p2r-4b"):
        with pytest.raises(ModelError, match="fetching hongxingli/P2R-4B"):
            load_model(spec)
    with pytest.raises(ModelError, match="fetching Qwen/Qwen3-VL-2B-Instruct"):
        find_checkpoint("qwen3-vl-2b")
    assert runs_on_torch("p2r-4b")


def test_the_shipped_models_are_known_by_name_and_by_folder(tmp_path: Path) -> None:
    assert all(is_shipped(spec) for spec in ("nano", "nano-base", "vllm:nano", str(nano.CHECKPOINT)))
    assert not any(is_shipped(spec) for spec in ("p2r-4b", "scripted:nano", str(tmp_path), "http://host/v1#nano"))


@pytest.mark.parametrize(
    ("spec", "meant"), [("p2r4b", "p2r-4b"), ("P2R_8B", "p2r-8b"), ("vllm:qwen3vl-4b", "qwen3-vl-4b")]
)
def test_a_misspelled_name_is_answered_with_the_name_that_is_meant(spec: str, meant: str) -> None:
    with pytest.raises(ModelError, match="unknown model") as caught:
        find_checkpoint(spec.removeprefix("vllm:"))
    assert f"did you mean {meant}?" in caught.value.hint
    with pytest.raises(ModelError, match="unknown model") as caught:
        load_model("nope")
    assert "did you mean" not in caught.value.hint
