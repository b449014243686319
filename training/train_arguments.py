"""The help of `train.py`: its own options, read from the classes that take them without importing any.

jsonargparse's own help, `train.py --help_all`, also has every option of Lightning's Trainer, on 700 lines.
"""

from __future__ import annotations

import argparse
import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.configs import CONFIGS, read_yaml
from common.options import Help, finish

_ROOT = Path(__file__).parent.parent
_OF_ANOTHER = {("model", "seed"), ("data", "seed")}  # linked to --seed_everything
_GROUPS = (
    ("model", "lightning_modules/whisper.py", "WhisperModule", "the model and its training"),
    ("model.lora", "backbone/lora.py", "LoRA", "low-rank adapters (--config lora.yaml)"),
    ("data", "datamodules/pairs.py", "PairDataModule", "the speech"),
    ("development", "callbacks/development.py", "Development", "development sets while training"),
    ("checkpoint", "callbacks/checkpoints.py", "Checkpoints", "checkpoints"),
    ("dashboard", "callbacks/dashboard.py", "Dashboard", "dashboards"),
    ("pair_gradients", "callbacks/pair_gradients.py", "PairGradients", "the pairs' gradients, measured"),
)
_TRAINER = {
    "max_steps": ("int", "training steps"),
    "accelerator": ("cpu|gpu|auto", "where to train"),
    "devices": ("int|auto", "how many"),
    "strategy": ("ddp|fsdp", "how several devices share the work; fsdp divides the weights"),
    "precision": ("auto|32-true|bf16-mixed", "of the computation; weights are always float32; auto: by the machine"),
    "enable_progress_bar": ("bool", "the bar with losses and remaining time"),
}


@dataclass(frozen=True)
class ClassOption:
    """An option as its class declares it."""

    name: str
    kind: str
    default: str
    text: str


def options_of(file: Path, kind: str) -> list[ClassOption]:
    """The options of a class: its constructor's arguments or its fields, with what its docstring says of them."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    node = next(item for item in ast.walk(tree) if isinstance(item, ast.ClassDef) and item.name == kind)
    texts = _described(ast.get_docstring(node) or "")
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            arguments = item.args.args[1:]
            return [
                _option(argument.arg, argument.annotation, default, texts)
                for argument, default in zip(arguments, item.args.defaults, strict=True)
            ]
    return [
        _option(item.target.id, item.annotation, item.value, texts)
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    ]


def parser() -> argparse.ArgumentParser:
    """A parser to show and to complete; training itself is parsed by `training.cli`."""
    base = read_yaml(CONFIGS / "base.yaml")
    top = argparse.ArgumentParser(
        prog="train.py",
        description="Fine-tunes Whisper on language pairs.\n\n"
        "Recipes lie in configs/ and compose from left to right; any value can be given on the command line.",
        epilog=_epilog(),
        formatter_class=Help,
        usage="train.py --config RECIPE [--config OVERLAY] [--OPTION VALUE ...]",
    )
    run = top.add_argument_group("the run")
    run.add_argument("-c", "--config", action="append", metavar="NAME", help="a recipe, by name in configs/ or path")
    run.add_argument("--name", metavar="str", help="the run's name; recipes set it")
    run.add_argument("--output_root", metavar="DIR", help="a run's folder is OUTPUT_ROOT/NAME (default: outputs)")
    run.add_argument("--resume", action="store_true", help="go on from the newest whole checkpoint, or begin")
    run.add_argument("--ckpt_path", metavar="FILE", help="go on from this checkpoint")
    run.add_argument("--seed_everything", metavar="int", help=f"of all draws (default: {base['seed_everything']})")
    run.add_argument("--budget", metavar="float", help="trainer.max_steps is multiplied by this (default: 1)")
    run.add_argument("--loggers", metavar="list", help="of wandb, tensorboard and csv (default: [wandb])")
    run.add_argument(
        "--rank_timeout_s", metavar="int", help="seconds that a rank waits for a silent one (default: 600)"
    )
    run.add_argument("--help_all", action="store_true", help="also every option of Lightning's Trainer")
    trainer = top.add_argument_group("the trainer (more: --help_all)")
    for name, (kind, text) in _TRAINER.items():
        default = base["trainer"].get(name)
        shown = "" if default is None else f" (default: {_yaml(default)})"
        trainer.add_argument(f"--trainer.{name}", metavar=kind, help=f"{text}{shown}")
    for prefix, file, kind, title in _GROUPS:
        group = top.add_argument_group(title)
        for option in options_of(_ROOT / file, kind):
            if (prefix, option.name) not in _OF_ANOTHER:
                set_there = base.get(prefix, {}).get(option.name)
                shown = _yaml(set_there) if isinstance(set_there, str | int | float | list) else option.default
                text = option.text + (f" (default: {shown})" if shown else "")
                group.add_argument(f"--{prefix}.{option.name}", metavar=option.kind, help=text.replace("%", "%%"))
    return finish(top)


def _epilog() -> str:
    recipes = sorted(path.name for path in CONFIGS.glob("[rpo]*/*.yaml"))
    names = "\n".join("  " + "  ".join(f"{name:18}" for name in recipes[i : i + 5]) for i in range(0, len(recipes), 5))
    return f"""recipes and overlays in configs/:
{names}

an algorithm's own options: --model.algorithm.NAME, in its page in docs/algorithms/

examples:
  python train.py --config fishr.yaml
  python train.py --config erm.yaml --config demo.yaml --trainer.max_steps 50
  python train.py --config fishr.yaml --config lora.yaml --model.lora.rank 8
  python train.py --config fishr.yaml --resume
  python -m torch.distributed.run --nproc-per-node 2 train.py --config fishr.yaml"""


def _described(docstring: str) -> dict[str, str]:
    """The texts of a docstring's `Args:`, by name."""
    found: dict[str, str] = {}
    names: list[str] = []
    inside = False
    for line in docstring.splitlines():
        if line.strip() == "Args:":
            inside = True
        elif inside and (head := re.match(r" {4}([\w, ]+): (.*)", line)):
            names = head[1].split(", ")
            found |= dict.fromkeys(names, head[2])
        elif inside and line.startswith(" " * 8):
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        elif inside and line.strip():
            break
    return found


def _option(name: str, kind: ast.expr | None, default: ast.expr | None, texts: dict[str, str]) -> ClassOption:
    shown = ast.unparse(default) if default is not None else ""
    field = re.search(r"default_factory=lambda: (.*)\)$", shown)
    shown = field[1] if field else shown
    try:
        shown = _yaml(ast.literal_eval(shown))
    except (ValueError, SyntaxError):  # a constant's name: the text tells it
        shown = ""
    short = re.sub(r"\s*\|\s*None$", "", ast.unparse(kind)) if kind is not None else ""
    return ClassOption(name, short, shown, texts.get(name, "").rstrip(".").replace("`", ""))


def _yaml(value: Any) -> str:
    """As it stands in a recipe, and on the command line."""
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).split("\n")[0]
