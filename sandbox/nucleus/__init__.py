"""A local Greengrass nucleus, to which real components connect with the real IPC client."""

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
