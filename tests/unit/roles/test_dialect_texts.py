"""The authors' prompts are taken out of a checkout, known by their hash, and used from then on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from p2r.errors import ConfigError, StorageError
from p2r.models.scripted import ScriptedModel
from p2r.modes import make_roles
from p2r.prompts import load_prompt_set
from p2r.roles.dialects import texts
from p2r.roles.dialects.texts import AUTHORS, Constant, import_texts, load_texts

SYSTEM, OBSERVATION = "Look.\n", "Action {action_turn}: <|vision_start|><|image_pad|><|vision_end|>."
CODE = f"""raise SystemExit  # never run
class Prompts:
    one = {SYSTEM!r}
TWO = ({OBSERVATION[:9]!r} {OBSERVATION[9:]!r})
"""


def hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    known = {
        "system": Constant("code/a.py", hash_text(SYSTEM)),
        "observation": Constant("code/a.py", hash_text(OBSERVATION), "Well. {text}"),
    }
    monkeypatch.setattr(texts, "AUTHORS", {"mini-o3": known})
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "repository" / "code").mkdir(parents=True)
    (tmp_path / "repository" / "code" / "a.py").write_text(CODE)
    return tmp_path / "repository"


def test_what_was_imported_is_asked_and_another_run(checkout: Path, tmp_path: Path) -> None:
    def hash_role() -> str:
        return make_roles("tools:mini-o3", ScriptedModel({}), load_prompt_set()).reasoner.fingerprint

    before, own = hash_role(), load_texts("mini-o3")
    assert own.source == "p2r's words"
    folder = import_texts("mini-o3", checkout)
    assert folder == tmp_path / "data" / "p2r" / "dialects" / "mini-o3"
    found = load_texts("mini-o3")
    assert found.source == "the authors' words"
    assert (found["system"], found["observation"]) == (SYSTEM, "Well. Action {action_turn}: <image>.")
    assert found["error"] == own["error"]
    assert hash_role() != before


def test_another_version_is_refused_and_nothing_is_kept(checkout: Path) -> None:
    (checkout / "code" / "a.py").write_text(CODE.replace("Look", "look"))
    with pytest.raises(ConfigError, match="holds no text with the SHA-256"):
        import_texts("mini-o3", checkout)
    assert load_texts("mini-o3").source == "p2r's words"


@pytest.mark.parametrize("content", [None, "def", "\udc80", f"x = {'-' * 200_000}1", f"x = {'1+' * 100_000}1"])
def test_a_folder_that_is_no_checkout_is_told(checkout: Path, content: str | None) -> None:
    file = checkout / "code" / "a.py"
    file.unlink() if content is None else file.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=r"a\.py cannot be read") as raised:
        import_texts("mini-o3", checkout)
    assert "checkout" in raised.value.hint


def test_a_checkout_of_any_editor_is_read(checkout: Path, recwarn: pytest.WarningsRecorder) -> None:
    """With a mark of the byte order, the line ends of Windows, and a pattern that Python warns of."""
    file = checkout / "code" / "a.py"
    file.write_bytes(b"\xef\xbb\xbf" + f"{CODE}DIGIT = '\\d'\n".replace("\n", "\r\n").encode())
    import_texts("mini-o3", checkout)
    assert load_texts("mini-o3")["system"] == SYSTEM
    assert not recwarn.list


def test_an_imported_text_that_was_changed_is_not_the_authors(checkout: Path) -> None:
    (import_texts("mini-o3", checkout) / "system.txt").write_text("Look away.")
    with pytest.raises(StorageError, match=r"system\.txt does not hold the authors' words") as raised:
        load_texts("mini-o3")
    assert "import the texts of mini-o3 again" in raised.value.hint
    import_texts("mini-o3", checkout)
    assert load_texts("mini-o3")["system"] == SYSTEM


def test_a_dialect_without_texts_to_take_is_told(checkout: Path) -> None:
    with pytest.raises(ConfigError, match="no texts to import for 'qwen3-vl'") as raised:
        import_texts("qwen3-vl", checkout)
    assert raised.value.hint == "dialects: mini-o3"


def test_an_imported_text_that_was_lost_is_told(checkout: Path) -> None:
    (import_texts("mini-o3", checkout) / "system.txt").unlink()
    with pytest.raises(StorageError, match="cannot be read") as raised:
        load_texts("mini-o3")
    assert "import the texts of mini-o3 again" in raised.value.hint


def test_every_text_that_can_be_imported_replaces_one_of_ours() -> None:
    for name, known in AUTHORS.items():
        own = load_texts(name).words
        assert known.keys() <= own.keys()
        for constant in known.values():
            assert len(constant.sha256) == 64
