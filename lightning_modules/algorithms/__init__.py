"""Training algorithms in pure torch: one file each, discovered in this folder."""

import importlib
import inspect
import pkgutil
from types import ModuleType


def import_all() -> list[ModuleType]:
    """Imports every module of this package."""
    return [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]


def named() -> list[tuple[str, type]]:
    """Every algorithm that can be trained with, by class name."""
    from lightning_modules.algorithms.algorithm import Algorithm

    return sorted(
        (name, value)
        for module in import_all()
        for name, value in inspect.getmembers(module, inspect.isclass)
        if value.__module__ == module.__name__ and issubclass(value, Algorithm) and not inspect.isabstract(value)
    )
