"""Shows what fine-tuning changed, layer by layer: heat maps of changed rows, delta norms, cosines, sign conflicts.

python analyze.py outputs/ko-en/model --base openai/whisper-medium
python analyze.py ko-en=outputs/ko-en/model ja-en=outputs/ja-en/model --base openai/whisper-medium --out DIR
python analyze.py --config demo.yaml
"""

from __future__ import annotations

import argparse
from pathlib import Path

from common.configs import CONFIGS, read_configs
from common.errors import UserError, run_script
from common.options import Help, finish

OPTIONS = ("models", "base", "threshold", "out")


def parse() -> argparse.Namespace:
    """The command line."""
    text, _, examples = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(description=text, epilog=f"examples:\n{examples}", formatter_class=Help)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="fine-tune: model folder or Hub id, also NAME=PATH")
    parser.add_argument("--base", help="what they were fine-tuned from: model folder or Hub id")
    parser.add_argument(
        "--threshold",
        help="mean absolute change above which a row counts as changed (default 5e-5), "
        "or auto: the median over all rows that changed at all",
    )
    parser.add_argument("--out", type=Path, help="folder for figures and CSV (default outputs/analysis)")
    parser.add_argument(
        "--config", action="append", default=[], help="a file or a name in configs/analyze/; repeatable"
    )
    return finish(parser).parse_args()


def main() -> None:
    """Reads the configuration, analyses."""
    arguments = parse()
    options = {"out": "outputs/analysis", "threshold": 5e-5}
    options |= read_configs(arguments.config, CONFIGS / "analyze", OPTIONS)
    options |= {name: value for name, value in vars(arguments).items() if name in OPTIONS and value not in (None, [])}
    if not options.get("models"):
        raise UserError("no model named: give model folders, or a --config that lists models, e.g. --config demo.yaml")
    if not options.get("base"):
        raise UserError("no base named: give --base, the folder or Hub id of the model that was fine-tuned")

    from analysis.analyze_models import analyze

    analyze(options["models"], options["base"], options["threshold"], Path(options["out"]))


if __name__ == "__main__":
    run_script(main)
