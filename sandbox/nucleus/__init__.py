"""A stand-in for the Greengrass nucleus that real components connect to with the real client."""

from .lifecycle import LifecycleError, RunningComponent, run_component
from .nucleus import Nucleus
from .recipe import Recipe, RecipeError
from .unit import StartLimitError, Unit

__all__ = [
    "LifecycleError",
    "Nucleus",
    "Recipe",
    "RecipeError",
    "RunningComponent",
    "StartLimitError",
    "Unit",
    "run_component",
]
