"""Completes a model folder's card, and pushes the folder to the Hugging Face Hub.

python -m backbone.model_folder.hub card outputs/fishr/model --scores outputs/evaluation/scores.json
python -m backbone.model_folder.hub push outputs/fishr/model you/whisper-ko-en
python -m backbone.model_folder.hub push outputs/fishr/model you/whisper-ko-en --upload --private
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from backbone.model_folder.candidates import Candidate
from backbone.model_folder.stored import PROCESSORS
from backbone.model_folder.training_card import with_scores
from common.errors import UserError, first_line
from common.files import write_text
from common.input_files import RECORDS, read_text
from common.json_lines import read_object
from common.markdown import split
from common.options import Command, main, option
from common.printing import show

CARD = "README.md"
_NEEDED = ("config.json", "generation_config.json", *PROCESSORS, "tokenizer.json", CARD)
_PUSHED = ("*.safetensors", "*.json", "*.txt", CARD)


@dataclass(frozen=True)
class CardOptions:
    """The model."""

    folder: Path = option(positional=True, metavar="FOLDER")
    """Model folder."""
    scores: Path = option(metavar="FILE")
    """The scores.json of an evaluation."""


@dataclass(frozen=True)
class PushOptions:
    """The model."""

    folder: Path = option(positional=True, metavar="FOLDER")
    """Model folder."""
    repo: str = option(positional=True, metavar="REPO")
    """Repository on the Hub, as OWNER/NAME."""
    private: bool = False
    """Make a new repository private."""
    upload: bool = False
    """Push; without it, only list what would be pushed."""


def run_card(options: CardOptions) -> None:
    """Write an evaluation's scores into the folder's card."""
    add_scores(options.folder, options.scores)
    show(f"{options.folder / CARD}: scores of {options.scores}")


def run_push(options: PushOptions) -> None:
    """Push the folder, or list what would be pushed."""
    show(*push(options.folder, options.repo, upload=options.upload, private=options.private))


HUB = Command(
    "python -m backbone.model_folder.hub",
    __doc__ or "",
    commands=[
        Command("card", "Write an evaluation's scores into the folder's card", CardOptions, run_card),
        Command("push", "Push the folder; without --upload only list what would be pushed", PushOptions, run_push),
    ],
)


def add_scores(folder: Path, scores_file: Path) -> None:
    """Write the scores that an evaluation gave these very weights into the model's card.

    Raises:
        UserError: where the evaluation scored other models, or a file cannot be read.
    """
    scores = read_object(scores_file, "the scores of an evaluation", RECORDS)
    not_scores = UserError(f"{scores_file}: not the scores.json of an evaluation")
    try:
        identities = {str(model["identity"]): name for name, model in scores["models"].items()}
    except (KeyError, TypeError, AttributeError):
        raise not_scores from None
    model = identities.get(Candidate("model", str(folder)).identity)
    if model is None:
        raise UserError(
            f"{scores_file}: scores {', '.join(identities.values())}, none of which is now in {folder}; evaluate it"
        )
    try:
        card = with_scores(_card(folder), folder.name, scores, model)
    except (
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
        TemplateError,
    ):  # a figure is no number, a field is missing
        raise not_scores from None
    write_text(folder / CARD, card)


def push(folder: Path, repo: str, *, upload: bool = False, private: bool = False) -> list[str]:
    """Push a model folder, or list what would be pushed; return lines to print.

    Args:
        folder: the model folder.
        repo: on the Hub, as OWNER/NAME.
        upload: whether to push.
        private: whether a new repository is private.

    Raises:
        UserError: where the folder is incomplete, the name is invalid, or the Hub refuses.
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
        lines.append("the card has no scores yet; see python -m backbone.model_folder.hub card --help")
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
        reason = first_line(error)
        raise UserError(f"{repo}: the Hub refused it ({reason}); are you logged in (hf auth login)?") from None
    return str(done)


def _checked(folder: Path) -> list[Path]:
    """Return the files to push; check that none is missing that a reader of Whisper needs."""
    Candidate("model", str(folder)).folder  # noqa: B018  (raises where it is incomplete)
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder}: lacks {', '.join(missing)}; train.py and merge.py write them")
    return sorted({file for pattern in _PUSHED for file in folder.glob(pattern) if file.is_file()})


def _card(folder: Path) -> str:
    try:
        return read_text(folder / CARD)
    except UserError as error:
        raise UserError(f"no readable model card ({error}); train.py and merge.py write one") from None


if __name__ == "__main__":
    main(HUB)
