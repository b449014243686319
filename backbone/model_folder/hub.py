"""A model folder on its way to others: its card completed with scores, its files checked, and pushed to the Hub."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backbone.model_folder.candidates import Candidate
from backbone.model_folder.training_card import with_scores
from common.errors import UserError, run_script
from common.files import write_text
from common.markdown import split
from common.options import Help, finish

CARD = "README.md"
_NEEDED = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    CARD,
)
_PUSHED = ("*.safetensors", "*.json", "*.txt", CARD)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m backbone.model_folder.hub",
        description="Completes a model folder's card, and pushes the folder to the Hugging Face Hub.",
        epilog="""examples:
  python -m backbone.model_folder.hub card outputs/fishr/model --scores outputs/evaluation/scores.json
  python -m backbone.model_folder.hub push outputs/fishr/model you/whisper-ko-en             (says what it would do)
  python -m backbone.model_folder.hub push outputs/fishr/model you/whisper-ko-en --upload --private
""",
        formatter_class=Help,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    card = commands.add_parser("card", help="write an evaluation's scores into the folder's card")
    push = commands.add_parser("push", help="push the folder; without --upload it only says what it would do")
    for command in (card, push):
        command.add_argument("folder", type=Path, metavar="FOLDER", help="model folder")
    card.add_argument("--scores", type=Path, required=True, metavar="FILE", help="scores.json of an evaluation")
    push.add_argument("repo", metavar="REPO", help="on the Hub, as OWNER/NAME")
    push.add_argument("--private", action="store_true", help="make the repository private, where it is new")
    push.add_argument("--upload", action="store_true", help="really do it")
    return finish(top)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command.

    Raises:
        UserError: for whatever the user can put right.
    """
    given = parser().parse_args(arguments)
    if given.command == "card":
        add_scores(given.folder, given.scores)
        print(f"{given.folder / CARD}: scores of {given.scores}")
    else:
        print("\n".join(push(given.folder, given.repo, upload=given.upload, private=given.private)))


def add_scores(folder: Path, scores_file: Path) -> None:
    """Writes the scores that an evaluation gave this very model into its card.

    Raises:
        UserError: where the evaluation scored other models, or a file cannot be read.
    """
    try:
        scores = json.loads(scores_file.read_text(encoding="utf-8"))
        identities = {model["identity"]: name for name, model in scores["models"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{scores_file}: not the scores.json of an evaluation") from None
    model = identities.get(Candidate("model", str(folder)).identity)
    if model is None:
        raise UserError(
            f"{scores_file}: scores {', '.join(identities.values())}, none of which is {folder} as it is; evaluate it"
        )
    card = _card(folder)
    head, body = split(card)
    title = next((line[2:] for line in body.splitlines() if line.startswith("# ")), folder.name)
    write_text(folder / CARD, with_scores(card, head.get("model_name") or title, scores, model))


def push(folder: Path, repo: str, *, upload: bool = False, private: bool = False) -> list[str]:
    """Pushes a model folder, or says what would be pushed; returns lines to print.

    Raises:
        UserError: where the folder is not complete, the name is none, or the Hub refuses.
    """
    files = _checked(folder)
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise UserError(f"{repo!r} names no repository on the Hub, expected OWNER/NAME")
    head, body = split(_card(folder))
    size = sum(file.stat().st_size for file in files)
    lines = [f"{folder} -> https://huggingface.co/{repo}: {len(files)} files, {size / 1e6:,.1f} MB"]
    lines += [f"  {file.stat().st_size / 1e6:10,.1f} MB  {file.name}" for file in files]
    lines.append(f"licence: {head.get('license_name') or head.get('license') or 'not stated in the card'}")
    if "model-index" not in head:
        lines.append("the card has no scores yet: python -m backbone.model_folder.hub card --help")
    lines += [line.strip("*") for line in body.splitlines() if line.startswith("**Not for commercial use")]
    if not upload:
        return [*lines, "nothing was uploaded; add --upload to do it"]
    return [*lines, f"uploaded: {_upload(folder, repo, private)}"]


def _upload(folder: Path, repo: str, private: bool) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api: Any = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo, folder_path=str(folder), allow_patterns=list(_PUSHED), commit_message="Add the model"
        )
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise UserError(f"{repo}: the Hub did not take it ({reason}); are you logged in (hf auth login)?") from None
    return str(done)


def _checked(folder: Path) -> list[Path]:
    """The files to push, of a folder that every reader of Whisper can use."""
    Candidate("model", str(folder)).folder  # noqa: B018  (whole, or the mistake is told)
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder}: lacks {', '.join(missing)}; train.py and merge.py write them")
    return sorted({file for pattern in _PUSHED for file in folder.glob(pattern) if file.is_file()})


def _card(folder: Path) -> str:
    try:
        return (folder / CARD).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{folder}: has no readable model card ({CARD}); train.py and merge.py write one") from None


if __name__ == "__main__":
    run_script(main)
