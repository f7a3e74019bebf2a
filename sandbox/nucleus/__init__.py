"""A stand-in for the Greengrass nucleus that real components connect to with the real client."""

from .lifecycle import LifecycleError, RunningComponent, run_component
from .nucleus import Nucleus
from .recipe import Recipe, RecipeError

__all__ = [
    "LifecycleError",
    "Nucleus",
    "Recipe",
    "RecipeError",
    "RunningComponent",
    "run_component",
]
