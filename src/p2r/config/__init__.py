"""Recipes: what a training run is asked to do, as TOML that is checked before anything is loaded. No torch."""

from p2r.config.read import load_recipe, parse_recipe
from p2r.config.recipe import ROLES, Phase, PhaseKind, Recipe
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
    PhaseSettings,
    ProbeSettings,
    RewardSettings,
    RolloutSettings,
    Term,
    TrackerSettings,
)
from p2r.config.sft import SftSettings

__all__ = [
    "ROLES",
    "ActiveRole",
    "AdvantageSettings",
    "CheckpointSettings",
    "DataSettings",
    "DifficultySettings",
    "GuardSettings",
    "LoraSettings",
    "LossSettings",
    "ModelSettings",
    "OptimizerSettings",
    "PartnerSettings",
    "PerRole",
    "Phase",
    "PhaseKind",
    "PhaseSettings",
    "ProbeSettings",
    "Recipe",
    "RewardSettings",
    "RolloutSettings",
    "SftSettings",
    "Term",
    "TrackerSettings",
    "load_recipe",
    "parse_recipe",
]
