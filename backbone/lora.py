"""LoRA: train a low-rank product beside each chosen projection, and merge it at export.

Edward J. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022; by peft, an extra.

Shape suffixes: R rank, I and O a projection's input and output width.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from common.errors import UserError, nearest

_NAME = "default"  # peft's own name for the one adapter


@dataclass(frozen=True)
class LoRA:
    """Adapters beside projections: W x + alpha / rank * B A x, where A and B are trained and W is not.

    Args:
        rank: of the product B A.
        alpha: its scale, over the rank; null takes twice the rank.
        targets: projections by the end of their names, such as q_proj or encoder_attn.v_proj.
        dropout: share of the adapter's inputs that is left out in training.
    """

    rank: int = 16
    alpha: float | None = None
    targets: list[str] = field(default_factory=lambda: ["q_proj", "v_proj"])
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UserError(f"model.lora.rank is {self.rank}, expected 1 or more")
        if not 0 <= self.dropout < 1:
            raise UserError(f"model.lora.dropout is {self.dropout}, expected 0 or more and less than 1")
        if not self.targets:
            raise UserError("model.lora.targets is empty; name projections, such as q_proj and v_proj")

    def add_to(self, model: nn.Module, seed: int) -> None:
        """Put the adapters into a Whisper, in place, and make only them trainable. B is 0: outputs do not change yet.

        Raises:
            UserError: where peft is not installed, or a target is no projection of the model.
        """
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as error:
            raise UserError(f"model.lora needs peft ({error}): pip install -e '.[lora]'") from None
        self._check_targets(model)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=2 * self.rank if self.alpha is None else self.alpha,
            target_modules=list(self.targets),
            lora_dropout=self.dropout,
        )
        with torch.random.fork_rng(devices=[]):  # the same on every rank, and later draws are not affected
            torch.manual_seed(seed)
            inject_adapter_in_model(config, model, adapter_name=_NAME)

    def _check_targets(self, model: nn.Module) -> None:
        # The output projection is the token embedding, which merging would change along with it.
        names = [n for n, module in model.named_modules() if isinstance(module, nn.Linear) and n != "proj_out"]
        for target in self.targets:
            if not any(name == target or name.endswith(f".{target}") for name in names):
                known = sorted({name.rpartition(".")[2] for name in names})
                raise UserError(
                    f"model.lora.targets names {target!r}, which is no projection in the model's layers"
                    f"{nearest(target, known)}; there are: {', '.join(known)}"
                )


def merged(weights: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a Whisper without adapters that computes the same as `model` with them.

    `weights` is the whole state of `model`; without adapters it stays as it is.
    """
    scales = {name: part.scaling[_NAME] for name, part in model.named_modules() if hasattr(part, "lora_A")}
    plain = {name.replace(".base_layer.", "."): part for name, part in weights.items() if ".lora_" not in name}
    for name, scale in scales.items():
        a_RI, b_OR = (weights[f"{name}.lora_{part}.{_NAME}.weight"] for part in "AB")
        weight_OI = plain[f"{name}.weight"]
        step_OI = scale * (b_OR.double() @ a_RI.double())
        plain[f"{name}.weight"] = (weight_OI.double() + step_OI).to(weight_OI.dtype)
    return plain
