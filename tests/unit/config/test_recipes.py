"""Recipes: read, changed, refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from p2r.config import DataSettings, load_recipe, parse_recipe
from p2r.config.read import list_recipes
from p2r.errors import ConfigError

LEAST = {"out": "runs/x", "data": {"num_rows": 100}}


def test_defaults_are_the_papers_table_6() -> None:
    recipe = parse_recipe(LEAST)
    assert (recipe.rollout.prompts_per_step, recipe.rollout.group_size) == (64, 8)
    assert (recipe.optimizer.lr, recipe.loss.kl_coef, recipe.loss.reduction) == (1e-6, 0.01, "token-mean")
    assert (recipe.data.max_prompt_tokens.perceiver, recipe.data.max_prompt_tokens.reasoner) == (2560, 8704)
    assert (recipe.rollout.max_new_tokens.perceiver, recipe.rollout.max_new_tokens.reasoner) == (1024, 2048)
    assert [phase.name for phase in recipe.phases()] == ["0-perceiver", "1-reasoner"]
    assert recipe.advantage.std == "sample"
    assert [phase.count_steps(10_000) for phase in recipe.phases()] == [156, 156]


def test_a_saved_recipe_is_read_back_as_it_was(tmp_path: Path) -> None:
    recipe = parse_recipe({**LEAST, "loss": {"estimator": "dapo"}}, ["model.lora.rank=8"])
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json(indent=2))
    assert load_recipe(tmp_path / "recipe.json") == recipe


def test_set_changes_what_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        'out = "a"\nschedule = [{role = "perceiver"}, {role = "reasoner", steps = 3}]\n[data]\nnum_rows = 9\n'
    )
    changes = ["out=runs/new", "rollout.temperature=0.7", "schedule.0.steps=5", "phase.lr=2e-5", "model.dtype=float32"]
    recipe = load_recipe(path, changes)
    assert recipe.out == Path("runs/new")
    assert recipe.rollout.temperature == 0.7
    assert [(phase.steps, phase.lr) for phase in recipe.phases()] == [(5, 2e-5), (3, 2e-5)]
    assert recipe.model.dtype == "float32"


def test_set_reaches_the_phases_of_a_recipe_without_a_schedule() -> None:
    recipe = parse_recipe(LEAST, ["schedule.1.reward.set=paper", "schedule.0.steps=2"])
    assert [(phase.kind, phase.reward.set, phase.steps) for phase in recipe.phases()] == [
        ("perceiver", "release", 2),
        ("reasoner", "paper", None),
    ]


def test_estimators_fill_in_what_the_recipe_does_not_say() -> None:
    dapo = parse_recipe({**LEAST, "loss": {"estimator": "dapo", "clip_high": 0.3}})
    assert (dapo.loss.kl_coef, dapo.loss.clip_low, dapo.loss.clip_high) == (0.0, 0.2, 0.3)
    assert (dapo.rollout.dynamic_sampling, dapo.reward.overlong) == (True, 1.0)
    dr_grpo = parse_recipe(LEAST, ["loss.estimator=dr-grpo"])
    assert (dr_grpo.advantage.std, dr_grpo.loss.reduction, dr_grpo.loss.kl_coef) == ("none", "dr-grpo", 0.0)
    gspo = parse_recipe(LEAST, ["loss.estimator=gspo", "loss.kl_coef=0.02"])
    assert (gspo.loss.ratio, gspo.loss.reduction, gspo.loss.kl_coef) == ("sequence", "sequence-mean", 0.02)


def test_iterations_repeat_the_schedule() -> None:
    recipe = parse_recipe(LEAST, ["iterations=2", "schedule=[{role='reasoner', steps=4}, {role='perceiver'}]"])
    assert [(phase.name, phase.steps) for phase in recipe.phases()] == [
        ("0-reasoner", 4),
        ("1-perceiver", None),
        ("2-reasoner", 4),
        ("3-perceiver", None),
    ]
    assert recipe.roles == ("perceiver", "reasoner")


@pytest.mark.parametrize(("control", "name", "rows"), [("single-stage", "0-answerer", 64), ("joint", "0-joint", 32)])
def test_controls_run_as_many_steps_and_rollouts_as_the_schedule(control: str, name: str, rows: int) -> None:
    recipe = parse_recipe(
        LEAST, [f"control={control}", "schedule=[{role='perceiver', steps=7}, {role='reasoner', steps=3}]"]
    )
    (phase,) = recipe.phases()
    assert (phase.name, phase.count_steps(999), phase.prompts_per_step) == (name, 10, rows)
    assert rows * len(phase.roles) == 64
    assert phase.purpose == f"0-{control}"


def test_a_control_is_as_many_passes_as_the_schedule() -> None:
    recipe = parse_recipe(LEAST, ["control=single-stage", "schedule=[{role='perceiver', passes=2}, {role='reasoner'}]"])
    assert recipe.phases()[0].count_steps(64 * 5) == 15


def test_phases_have_a_role_a_method_and_passes() -> None:
    recipe = parse_recipe(
        LEAST,
        [
            "schedule=[{role='answerer', method='sft', passes=2, data={source='a.jsonl'}, sft={rows_per_step=10}}, "
            "{role='answerer', passes=3}, {role='answerer', steps=4}]"
        ],
    )
    warmup, first, second = recipe.phases()
    assert [phase.name for phase in recipe.phases()] == ["0-sft", "1-answerer", "2-answerer"]
    assert [phase.roles for phase in recipe.phases()] == [(), ("reasoner",), ("reasoner",)]
    assert (warmup.prompts_per_step, warmup.count_steps(109), warmup.role) == (10, 20, "answerer")
    assert (first.count_steps(64 * 7 + 1), second.count_steps(64)) == (21, 4)
    assert recipe.roles == ("reasoner",)


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        ("{role='answerer', steps=2, passes=2}", "schedule.0 has both steps and passes"),
        (
            "{role='answerer', method='sft', data={source='a'}, loss={kl_coef=0}}",
            'loss has no use in a phase with method "sft"',
        ),
        ("{role='answerer', sft={max_tokens=9}}", 'sft has no use in a phase with method "grpo"'),
        ("{role='answerer', method='sft'}", "needs rows with replies"),
        ("{role='answerer', method='dpo'}", "method is 'dpo'"),
        ("{role='judge'}", "role is 'judge'"),
    ],
)
def test_a_phase_with_settings_that_do_not_fit_is_refused(phase: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_recipe(LEAST, [f"schedule=[{phase}]"])
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("control=joint", "the control joint trains one policy"),
        ("control=single-stage", "the control single-stage trains one policy"),
        ("schedule=[{role='perceiver'}, {role='answerer'}]", "schedule.1 trains an answerer"),
        ("schedule=[{role='perceiver', source='nano'}]", "schedule.0.source is another base"),
        ("loss.resting_kl_coef=0.1", "loss.resting_kl_coef has nothing to keep"),
        ("schedule=[{role='reasoner', loss={resting_kl_coef=0.1}}]", "loss.resting_kl_coef has nothing to keep"),
    ],
)
def test_an_adapter_for_each_role_needs_two_roles_that_learn_in_turns(change: str, message: str) -> None:
    parse_recipe(LEAST, [change])
    parse_recipe(LEAST, ["model.lora.per_role=true", "iterations=2"])
    with pytest.raises(ConfigError, match=message) as caught:
        parse_recipe(LEAST, ["model.lora.per_role=true", change])
    assert "leave one of them out" in caught.value.message


def test_a_control_has_no_supervised_phase() -> None:
    warmup = "schedule=[{role='answerer', method='sft', steps=2}, {role='answerer', steps=2}]"
    with pytest.raises(ConfigError, match="the control single-stage has no supervised phase"):
        parse_recipe(LEAST, [warmup, "data.source=a.jsonl", "control=single-stage"])


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ("rolout.group_size=4", "unknown setting rolout", "did you mean rollout?"),
        ("rollout.group_sze=4", "unknown setting rollout.group_sze", "did you mean rollout.group_size?"),
        ("model.lora.rnk=4", "unknown setting model.lora.rnk", "did you mean model.lora.rank?"),
        ("schedule.0.stps=4", "unknown setting schedule.0.stps", "did you mean schedule.0.steps?"),
        ("rollout.xyz=4", "unknown setting rollout.xyz", "there are group_size"),
        ("rollout.group_size=1", "rollout.group_size is 1", "at least 2"),
        ("rollout.temperature=0", "rollout.temperature is 0", "above 0"),
        ("loss.estimator=ppo", "loss.estimator is 'ppo'", ""),
        ("reward.weights={correct=1}", "unknown setting reward.weights", "did you mean reward.terms?"),
        ("reward.terms={luck=1}", "reward.terms is {'luck': 1}: 'luck' is not a term; there are correct, format", ""),
        ("reward.terms={formt=1}", "'formt' is not a term; did you mean format?", ""),
        ("reward.terms={caption=1}", "'caption' is not a term; did you mean caption_similarity?", ""),
        ("reward.caption.modle=org/clip", "unknown setting reward.caption.modle", "did you mean reward.caption.model?"),
        (
            "rollout.max_new_tokens={answerer=4}",
            "unknown setting rollout.max_new_tokens.answerer",
            "perceiver, reasoner",
        ),
        (
            "rollout.max_new_tokens=40",
            "a table",
            "write rollout.max_new_tokens = { perceiver = ... }; there are perceiver",
        ),
        ("reward.caption=org/clip", "a table", "write reward.caption = { model = ... }; there are model, "),
        ("data.difficulty=easy", "a table", "write data.difficulty = { num_rollouts = ... }; there are num_rollouts, "),
        ("reward.terms={}", "needs a term whose weight is not 0", ""),
        ("reward.terms={correct=0}", "needs a term whose weight is not 0", ""),
        ("reward.terms={correct=nan}", "reward.terms.correct is nan: it must be a finite number", ""),
        ("reward.vetoes=['overlap']", "reward.vetoes is ['overlap']: 'overlap' is not a term", ""),
        ("reward.judge=model", 'reward.judge is \'model\': it must be "words", "partner", or a table', ""),
        ("reward.judge={model='x'}", "reward.judge.url is missing", ""),
        ("reward.judge={url='http://x/v1', modl='x'}", "unknown setting reward.judge.modl", "reward.judge.model?"),
        (
            "schedule=[{role='reasoner', reward={terms={box_iou=1}}}]",
            "reward.terms has no term for them, only box_iou",
            "",
        ),
        ("partner.kind=endpoint", "an endpoint needs url", ""),
        ("partner.url='http://x/v1'", "url and launch belong to", ""),
        ("partner={kind='vllm', url='http://x/v1'}", "url and launch belong to", ""),
        ("engine.enforce_eager=true", "engine has arguments of vLLM, which runs nothing here", ""),
        ("rollout={url='http://x:1'}", "url and launch belong to", ""),
        ("rollout={engine='vllm', launch='serve'}", "launch needs url, such as", ""),
        ("rollout.engine=vlm", "rollout.engine is 'vlm': it must be 'local' or 'vllm'", ""),
        ("control=joint", "has to be even", ""),
        (
            "schedule.0.reward.sett=paper",
            "unknown setting schedule.0.reward.sett",
            "did you mean schedule.0.reward.set?",
        ),
        ("schedule.0.reward.set=mine", "schedule.0.reward.set is 'mine'", ""),
        ("schedule.7.steps=4", "'7' is not the number of an entry", "there are 1"),
        ("seed.x=4", "seed is 3, which has no settings", ""),
        ("rollout", "sets nothing", "changes=["),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_hint(change: str, message: str, hint: str) -> None:
    table = {**LEAST, "seed": 3, "rollout": {"prompts_per_step": 3}, "schedule": [{"role": "perceiver"}]}
    with pytest.raises(ConfigError) as caught:
        parse_recipe(table, [change])
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_needles_need_a_number() -> None:
    with pytest.raises(ConfigError, match=r"data\.num_rows is needed"):
        parse_recipe({"out": "x"})


def test_a_recipe_without_a_folder_says_so() -> None:
    with pytest.raises(ConfigError, match="the recipe: out is missing") as caught:
        parse_recipe({"data": {"num_rows": 1}})
    assert "runs/" in caught.value.hint


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"schedule": []}, "schedule is []: it needs at least one phase"),
        ({"schedule": 3}, "schedule is 3: it must be a list of tables"),
        ({"schedule": [3]}, "schedule.0 is 3: it must be a table of names and values"),
        ({"schedule": [{}]}, "schedule.0.role is missing"),
        ({"out": 3}, "out is 3: it must be a path"),
        ({"seed": "x"}, "seed is 'x': it must be a whole number"),
        ({"seed": 1.5}, "seed is 1.5: it must be a whole number"),
        ({"seed": -1}, "seed is -1: it must be at least 0"),
        ({"iterations": 0}, "iterations is 0: it must be above 0"),
        ({"control": 3}, "control is 3: it must be 'none', 'joint' or 'single-stage'"),
        ({"model": 3}, "model is 3: it must be a table of names and values"),
        ({"model": {"source": 3}}, "model.source is 3: it must be text"),
        ({"model": {"freeze_vision": "maybe"}}, "model.freeze_vision is 'maybe': it must be true or false"),
        ({"model": {"lora": {"targets": 3}}}, "model.lora.targets is 3: it must be a list"),
        ({"model": {"lora": {"targets": []}}}, "model.lora.targets is []: it needs at least 1 entry"),
        ({"optimizer": {"lr": "fast"}}, "optimizer.lr is 'fast': it must be a number"),
    ],
)
def test_a_wrong_value_is_explained_in_plain_words(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_recipe({**LEAST, **table}, where="r")
    assert caught.value.message == f"r: {message}"


def test_files_that_are_no_recipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_recipe(tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("out = \n")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_recipe(tmp_path / "broken.toml")
    (tmp_path / "rows.jsonl").write_text('{"image": "a.png"}\n')
    with pytest.raises(ConfigError, match="is not TOML") as caught:
        load_recipe(tmp_path / "rows.jsonl")
    assert "data.source" in caught.value.hint
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(ConfigError, match="is not JSON: ") as caught:
        load_recipe(tmp_path / "recipe.json")
    assert "restore it" in caught.value.hint and "TOML" not in caught.value.hint


OWN = {
    **LEAST,
    "reward": {"overlong": 0.5},
    "rollout": {"max_new_tokens": {"perceiver": 1024, "reasoner": 2048}},
    "schedule": [
        {"role": "perceiver", "steps": 2},
        {
            "role": "reasoner",
            "source": "runs/warm/0-perceiver",
            "data": {"seed": 4},
            "rollout": {"max_new_tokens": {"reasoner": 99}},
            "reward": {"set": "paper"},
            "advantage": {"std": "none"},
            "optimizer": {"lr": 3e-5},
        },
    ],
}


def test_a_phase_has_the_recipes_settings_but_for_what_it_says_itself() -> None:
    recipe = parse_recipe(OWN)
    first, second = recipe.phases()
    assert (first.source, first.base, first.data, first.reward) == (None, "nano", recipe.data, recipe.reward)
    assert (first.rollout, first.optimizer, first.lr) == (recipe.rollout, recipe.optimizer, 1e-6)
    assert (second.source, second.base) == ("runs/warm/0-perceiver",) * 2
    assert second.data == recipe.data.model_copy(update={"seed": 4})
    assert (second.reward.set, second.reward.overlong, second.lr) == ("paper", 0.5, 3e-5)
    assert (second.rollout.max_new_tokens.perceiver, second.rollout.max_new_tokens.reasoner) == (1024, 99)
    assert (first.advantage, second.advantage.std) == (recipe.advantage, "none")
    assert (recipe.advantage.std, second.loss) == ("sample", recipe.loss)


def test_a_phase_may_freeze_the_tower_or_free_it_for_itself() -> None:
    schedule = (
        "schedule=[{role='answerer', freeze_vision=true}, {role='answerer'}, {role='answerer', freeze_vision=false}]"
    )
    for everywhere in (False, True):
        recipe = parse_recipe({**LEAST, "model": {"freeze_vision": everywhere}}, [schedule])
        assert [phase.freeze_vision for phase in recipe.phases()] == [True, everywhere, False]
        assert parse_recipe(recipe.model_dump(mode="json")) == recipe
    with pytest.raises(ConfigError, match=r"one phase, which schedule\.0\.freeze_vision cannot belong to"):
        parse_recipe(LEAST, [schedule, "control=single-stage"])


def test_phases_of_their_own_are_saved_and_read_back_as_they_were() -> None:
    recipe = parse_recipe(OWN, ["schedule.1.loss.estimator=dapo"])
    assert parse_recipe(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize("estimator", ["grpo", "dapo"])
def test_a_saved_phase_keeps_what_the_recipe_sets_beside_its_loss(estimator: str) -> None:
    tables = {**LEAST, "reward": {"overlong": 0.5}, "schedule": [{"role": "perceiver", "loss": {"clip_low": 0.1}}]}
    recipe = parse_recipe(tables, [f"loss.estimator={estimator}"])
    assert parse_recipe(recipe.model_dump(mode="json")) == recipe
    assert parse_recipe(recipe.model_dump(mode="json")).phases()[0].reward.overlong == 0.5


def test_a_schedule_without_own_tables_is_saved_as_it_always_was() -> None:
    recipe = parse_recipe(LEAST, ["schedule=[{role='perceiver', steps=3}]"])
    assert recipe.model_dump(mode="json")["schedule"] == [{"role": "perceiver", "steps": 3, "lr": None}]


def test_a_phase_may_have_an_estimator_of_its_own() -> None:
    schedule = [{"role": "perceiver", "loss": {"estimator": "grpo", "kl_coef": 0.5}}, {"role": "reasoner"}]
    recipe = parse_recipe({**LEAST, "loss": {"estimator": "dapo"}, "schedule": schedule})
    first, second = recipe.phases()
    assert (first.loss.kl_coef, first.loss.clip_high, first.rollout.dynamic_sampling) == (0.5, 0.2, False)
    assert (second.loss.kl_coef, second.loss.clip_high, second.rollout.dynamic_sampling) == (0.0, 0.28, True)
    assert (first.reward.overlong, second.reward.overlong) == (0.0, 1.0)


def test_a_later_phase_measures_prompts_with_the_source_of_an_earlier_one() -> None:
    schedule = [{"role": "perceiver", "source": "a"}, {"role": "reasoner"}]
    recipe = parse_recipe({**LEAST, "iterations": 2, "schedule": schedule, "model": {"source": "b"}})
    assert [(phase.source, phase.base) for phase in recipe.phases()] == [("a", "a"), (None, "a")] * 2


def test_a_control_refuses_a_phase_with_tables_of_its_own() -> None:
    with pytest.raises(ConfigError, match=r"control single-stage is one phase, which schedule\.1\.source"):
        parse_recipe(OWN, ["control=single-stage"])


def test_the_learning_rate_of_all_phases_does_not_replace_that_of_a_phases_own_optimizer() -> None:
    with pytest.raises(ConfigError, match=r"phase\.lr would replace schedule\.1\.optimizer\.lr"):
        parse_recipe(OWN, ["phase.lr=2e-5"])
    recipe = parse_recipe(OWN, ["phase.lr=2e-5", "schedule.1.lr=4e-5"])
    assert [phase.lr for phase in recipe.phases()] == [2e-5, 4e-5]


def test_needles_of_a_phase_need_a_number_too() -> None:
    schedule = [{"role": "perceiver", "data": {"source": "needles"}}]
    with pytest.raises(ConfigError, match=r"data\.num_rows is needed"):
        parse_recipe({"out": "x", "data": {"source": "folder:x"}, "schedule": schedule})


def test_a_wrong_setting_of_the_recipe_is_not_blamed_on_a_phase() -> None:
    schedule = [{"role": "perceiver", "rollout": {"top_p": 0.5}}]
    with pytest.raises(ConfigError, match=r"unknown setting rollout\.oops"):
        parse_recipe({**LEAST, "schedule": schedule, "rollout": {"oops": 1}})


def test_a_recipe_has_a_name_that_works_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nano").mkdir()
    names = list_recipes()
    assert {"nano", "qwen3_vl_4b", "qwen3_vl_4b_lora", "pebr_r1_qwen2_5_vl_7b"} <= {*names}
    assert len(names) == 8
    for name, path in names.items():
        assert load_recipe(name) == load_recipe(path)
    (tmp_path / "qwen3_vl_4b").write_text('out = "mine"\ndata = {num_rows = 64}')
    assert load_recipe("qwen3_vl_4b").out == Path("mine"), "a file comes first"


@pytest.mark.parametrize("content", [None, b"\x89PNG\r\n"])
def test_a_recipe_that_cannot_be_read_is_told_with_the_names_that_there_are(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "my.png").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_recipe(tmp_path / "my.png")
    reason = "no such file or directory" if content is None else "it is not text in UTF-8"
    assert caught.value.message == f"the recipe {tmp_path / 'my.png'} cannot be read: {reason}"
    assert "nano, pebr_r1_qwen2_5_vl_7b, qwen3_vl_2b, qwen3_vl_2b_lora" in caught.value.hint


def make_phases(
    data: Mapping[str, object], *phases: Mapping[str, object], changes: Sequence[str] = ()
) -> list[DataSettings]:
    schedule = [{"role": "perceiver", **({"data": each} if each else {})} for each in phases]
    recipe = parse_recipe({"out": "x", "data": data, "schedule": schedule}, changes)
    again = parse_recipe(recipe.model_dump(mode="json"))
    assert again == recipe
    return [phase.data for phase in recipe.phases()]


def test_a_phase_with_rows_of_its_own_keeps_them_when_the_recipes_are_cut() -> None:
    kept = {"keep": "easy"}
    own, same, without = make_phases(
        {"source": "folder:a", "split": "train", "images": "b", "skip_bad": 3},
        {"source": "rows:warm_up.jsonl"},
        {"difficulty": kept},
        {},
        changes=["data.num_rows=8"],
    )
    assert (own.source, own.num_rows, own.split, own.images) == ("rows:warm_up.jsonl", None, None, None)
    assert own.skip_bad == 3, "what is not about the source is taken over"
    for each in (same, without):
        assert (each.source, each.num_rows, each.split, each.images) == ("folder:a", 8, "train", Path("b"))
    assert same.difficulty is not None and without.difficulty is None


def test_the_rows_of_a_phase_are_cut_by_its_own_setting() -> None:
    changes = ["data.num_rows=8", "schedule.0.data.num_rows=5"]
    own, other = make_phases({"source": "folder:a"}, {"source": "rows:warm_up.jsonl"}, {}, changes=changes)
    assert (own.num_rows, other.num_rows) == (5, 8)


def test_a_phase_that_repeats_the_recipes_source_has_its_rows() -> None:
    for data in ({"num_rows": 9}, {"source": "needles", "num_rows": 9}):
        [own] = make_phases(data, {"source": "needles", "seed": 4})
        assert (own.num_rows, own.seed) == (9, 4)


def test_a_phase_with_needles_of_its_own_has_to_say_how_many() -> None:
    with pytest.raises(ConfigError, match=r"schedule\.1\.data\.num_rows is needed for needles"):
        make_phases({"source": "folder:a", "num_rows": 9}, {}, {"source": "needles"})


def test_the_nano_recipe_of_pebr_r1_keeps_its_warm_up_rows() -> None:
    recipe = load_recipe(Path(__file__).parents[3] / "recipes/pebr_r1/nano.toml", ["data.num_rows=8"])
    assert [phase.data.num_rows for phase in recipe.phases()] == [None, 8, 8]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("seed=-1", "seed is -1: it must be at least 0"),
        ("seed=4294967296", "seed is 4294967296: it must be below 4294967296"),
        ("schedule.0.role=judge", "schedule.0.role is 'judge': it must be 'perceiver', 'reasoner' or 'answerer'"),
        ("schedule.1.method=sftt", "schedule.1.method is 'sftt': it must be 'grpo' or 'sft'"),
        ("optimizer.lr=fast", "optimizer.lr is 'fast': it must be a number"),
        ("model.dtype=float7", "model.dtype is 'float7': it must be"),
    ],
)
def test_a_wrong_value_comes_with_its_setting_and_how_to_change_it(change: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_recipe(LEAST, [change])
    assert said in caught.value.message
    name = change.partition("=")[0]
    assert caught.value.hint == f'change it in the file, or with `changes=["{name}=..."]`'


def test_a_recipe_that_is_not_toml_is_a_place_to_correct(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("out = runs/x\n")
    with pytest.raises(ConfigError, match=r"mine\.toml is not TOML: .*line 1") as caught:
        load_recipe(tmp_path / "mine.toml")
    assert "a text is quoted" in caught.value.hint


def test_vllm_samples_where_anything_is_sampled_and_then_has_arguments() -> None:
    engine = {"enforce_eager": True}
    for table in (
        {"rollout": {"engine": "vllm"}},
        {"schedule": [{"role": "perceiver", "rollout": {"engine": "vllm"}}]},
    ):
        recipe = parse_recipe({**LEAST, **table, "engine": engine})
        assert (recipe.phases()[0].rollout.engine, recipe.engine) == ("vllm", engine)
    supervised = {"role": "perceiver", "method": "sft", "data": {"source": "rows.jsonl"}}
    with pytest.raises(ConfigError, match="samples replies, and the recipe has supervised phases alone"):
        parse_recipe({**LEAST, "rollout": {"engine": "vllm"}, "schedule": [supervised]})


@pytest.mark.parametrize(
    "table",
    [
        {"partner": {"kind": "endpoint", "url": "http://x:1/v1#frozen"}},
        {"reward": {"judge": {"url": "http://x:1/v1", "model": "big"}}},
    ],
)
def test_a_server_whose_weights_stay_does_not_sample(table: dict[str, object]) -> None:
    rollout = {"engine": "vllm", "url": "http://x:1"}
    with pytest.raises(ConfigError, match="are one server, which is given the weights that learn"):
        parse_recipe({**LEAST, **table, "rollout": rollout})
    parse_recipe({**LEAST, **table, "rollout": {**rollout, "url": "http://x:2"}})
