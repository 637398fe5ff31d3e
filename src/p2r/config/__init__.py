"""Recipes: what a training run is asked to do, as TOML that is checked before anything is loaded. No torch."""

from p2r.config.pre_rollouts import as_measured, find_measuring_phase
from p2r.config.read import load_recipe, parse_recipe
from p2r.config.recipe import ROLES, Phase, PhaseKind, Recipe
from p2r.config.reward import TERMS, JudgeSettings, RewardSettings, applies_to, is_own_term
from p2r.config.settings import (
    ActiveRole,
    AdvantageSettings,
    CheckpointSettings,
    DataSettings,
    DifficultySettings,
    GuardSettings,
    LoraSettings,
    LossSettings,
    ModelSettings,
    OptimizerSettings,
    PartnerSettings,
    PerRole,
    PhaseRole,
    PhaseSettings,
    ProbeSettings,
    RolloutSettings,
    TrackerSettings,
)
from p2r.config.sft import SftSettings

__all__ = [
    "ROLES",
    "TERMS",
    "ActiveRole",
    "AdvantageSettings",
    "CheckpointSettings",
    "DataSettings",
    "DifficultySettings",
    "GuardSettings",
    "JudgeSettings",
    "LoraSettings",
    "LossSettings",
    "ModelSettings",
    "OptimizerSettings",
    "PartnerSettings",
    "PerRole",
    "Phase",
    "PhaseKind",
    "PhaseRole",
    "PhaseSettings",
    "ProbeSettings",
    "Recipe",
    "RewardSettings",
    "RolloutSettings",
    "SftSettings",
    "TrackerSettings",
    "applies_to",
    "as_measured",
    "find_measuring_phase",
    "is_own_term",
    "load_recipe",
    "parse_recipe",
]
