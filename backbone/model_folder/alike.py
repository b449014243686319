"""What two models must have in common before their weights are subtracted or merged."""

from backbone.model_folder.architecture import DEFAULTS
from backbone.model_folder.locate import WINDOW
from backbone.model_folder.stored import ModelFolder
from common.errors import UserError


def check_alike(base: ModelFolder, model: ModelFolder) -> None:
    """Check that a model can be a fine-tune of a base: one architecture and the same token ids.

    The tensors then agree, too: `read` checked those of each model against its configuration.

    Raises:
        UserError: naming the model, the key or token, and both values.
    """
    for key in DEFAULTS:
        if model.config[key] != base.config[key]:
            raise UserError(
                f"{model.name}: its config.json has {key} {model.config[key]!r}, the base {base.name} has "
                f"{base.config[key]!r}; name the base it was fine-tuned from with --base"
            )
    _check_tokens(base, model)


def check_windows(models: list[ModelFolder]) -> None:
    """Check that fine-tunes were trained with the same window: a merge is decoded with one.

    Raises:
        UserError: naming two models and their windows.
    """
    for model in models[1:]:
        expected, found = (one.config.get(WINDOW, "30s") for one in (models[0], model))
        if found != expected:
            raise UserError(
                f"{model.name}: was trained with the window {found}, {models[0].name} with {expected}; a merge is "
                "decoded with one window, so train what is to be merged with the same (model.window)"
            )


def _check_tokens(base: ModelFolder, model: ModelFolder) -> None:
    """Refuse one token with two ids, and one id for two tokens; a token that only one model has does no harm."""
    by_id = {number: token for token, number in base.vocabulary.items()}
    for token, number in sorted(model.vocabulary.items()):
        expected = base.vocabulary.get(token)
        if (expected is None and number not in by_id) or expected == number:
            continue
        other = f"{token!r} the id {expected}" if expected is not None else f"{by_id[number]!r} that id"
        raise UserError(
            f"{model.name}: its tokenizer gives {token!r} the id {number}, that of {base.name} gives {other}; rows of "
            "the embedding would be mixed up"
        )
