"""The only LightningModule: owns model, optimizer and schedule, and hands each step to the algorithm.

Shape suffixes: B utterances, S samples, T frames, F mel bins, U label tokens, V vocabulary, P pairs.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import ParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from backbone.log_mel import LogMel
from backbone.lora import LoRA
from backbone.loss import CTCHead, Losses, WhisperLoss, mix
from backbone.read_for_training import read_for_training
from backbone.window import WHOLE, window_of
from common.errors import UserError, in_range
from datamodules.augment import SpecAugment
from datamodules.batch import SpeechBatch
from datamodules.pairs import PairDataModule
from lightning_modules.algorithms.algorithm import Algorithm, Figures
from lightning_modules.algorithms.context import StepContext
from lightning_modules.algorithms.erm import ERM
from lightning_modules.ranks import on_first_rank
from lightning_modules.step_guard import StepGuard, Undo, UnusableStepError
from lightning_modules.trainer_checks import check_pairs, check_trainer
from lightning_modules.warmup_cosine import warmup_cosine


class WhisperModule(L.LightningModule):
    """Fine-tune a Whisper with a domain-generalisation algorithm over language pairs.

    Args:
        backbone: model folder or Hub id.
        algorithm: what gradient reaches the optimizer; ERM where none is given.
        learning_rate: AdamW's peak, reached after the warm-up.
        betas: AdamW's decay rates of the first and second moment.
        weight_decay: AdamW's decay of the weights.
        warmup_fraction: share of the steps in which the rate climbs linearly; then it falls as a cosine to 0.
        clip_norm: gradients are scaled down to this total norm; null leaves them.
        accumulate: micro-batches in which a step's batch goes through the model, to save memory; the step is the same.
        ctc_weight: share of an auxiliary CTC loss on the encoder, for training from scratch; 0 in fine-tuning.
        gradient_checkpointing: recompute activations in the backward pass, to save memory.
        seed: of the algorithms' own draws.
        spec_augment: masks on the training speech's log-mel; `{}` takes their defaults, null sets none.
        lora: train low-rank adapters instead of the weights, merged into them at export; `{}` takes their defaults.
        frozen: parts of the model not to train, such as encoder; see `backbone.read_for_training`.
        max_unusable_steps: how many steps a run may skip because a loss or gradient is not finite; a skipped step
            changes nothing, for which a copy of weights and optimizer is held. 0 stops at the first.
        divergence_threshold: a pair's loss that makes a step unusable, too; null sets none.
        label_smoothing: share of each token's target that is spread evenly over the vocabulary; 0: cross-entropy.
        window: how much audio the encoder is given: `30s`, the model's whole window, as Whisper was trained; `longest`,
            what each batch needs; or seconds, for shorter utterances alone. The model folder records it for decoding.
    """

    def __init__(
        self,
        backbone: str = "openai/whisper-medium",
        algorithm: Algorithm | None = None,
        learning_rate: float = 1e-5,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        warmup_fraction: float = 0.1,
        clip_norm: float | None = 1.0,
        accumulate: int = 1,
        ctc_weight: float = 0.0,
        gradient_checkpointing: bool = False,
        seed: int = 0,
        spec_augment: SpecAugment | None = None,
        lora: LoRA | None = None,
        frozen: list[str] | None = None,
        max_unusable_steps: int = 0,
        divergence_threshold: float | None = None,
        label_smoothing: float = 0.0,
        window: str | float = WHOLE,
    ) -> None:
        options = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        for name, value in options.items():  # each one is an attribute of its name
            setattr(self, name, value)
        for name in ("learning_rate", "weight_decay", "warmup_fraction", "ctc_weight", "label_smoothing"):
            in_range(f"model.{name}", options[name], 0, 1, "a number from ")
        in_range("model.accumulate", accumulate, 1, what="a number of micro-batches, ")
        in_range("model.max_unusable_steps", max_unusable_steps, 0, what="a number of steps, ")
        if not all(0 <= beta < 1 for beta in betas):
            raise UserError(f"model.betas are {list(betas)}, expected two numbers from 0 to below 1")
        if clip_norm is not None and not clip_norm > 0:
            raise UserError(f"model.clip_norm is {clip_norm:g}, expected a norm above 0, or null")
        self.algorithm, self.frozen = algorithm or ERM(), frozen or []
        self.automatic_optimization = False
        self.unusable_steps: list[str] = []
        self._guard: StepGuard | None = None
        self._forward_context: Callable[[], AbstractContextManager[Any]] = nullcontext

    def setup(self, stage: str) -> None:
        """Load the backbone and let the data module check its utterances against the model's limits."""
        check_trainer(self.algorithm, self.trainer)
        self._forward_context = self.trainer.precision_plugin.forward_context
        # Equal on all ranks by construction: DDP need not send them before every step.
        self._ddp_params_and_buffers_to_ignore = [f"algorithm.{name}" for name, _ in self.algorithm.named_buffers()]
        self._load()
        datamodule = getattr(self.trainer, "datamodule", None)
        if isinstance(datamodule, PairDataModule) and stage == "fit":
            check_pairs(self.algorithm, len(datamodule.train))
            window, most_tokens = self.log_mel.window, self.model.config.max_target_positions
            datamodule.read(self.processor.tokenizer, window.seconds, most_tokens, by_duration=window.longest)

    def _load(self) -> None:
        if hasattr(self, "model"):
            return
        self.model, self.processor = read_for_training(
            self.backbone,
            lora=self.lora,
            seed=self.seed,
            frozen=self.frozen,
            gradient_checkpointing=self.gradient_checkpointing,
            window=self.window,
        )
        config = self.model.config
        self.ctc = CTCHead(config.d_model, config.vocab_size, config.eos_token_id) if self.ctc_weight else None
        self._loss = (WhisperLoss(self.model, self.label_smoothing),)  # in a tuple, to register no weight twice
        self.log_mel = LogMel(self.processor.feature_extractor, window_of(self.window, config))

    def configure_model(self) -> None:
        """Divide the weights over the ranks where the strategy asks for that; each layer is gathered by itself."""
        self._load()  # Lightning's weight averaging copies the module before `setup`, but configures it first
        if self.device_mesh is None or isinstance(next(self.model.parameters()), DTensor):
            return
        if self.ctc is not None:
            raise UserError("model.ctc_weight: the CTC head cannot be divided over devices; choose ddp")
        mesh = self.device_mesh["data_parallel"]
        for layer in (*self.model.model.encoder.layers, *self.model.model.decoder.layers):
            fully_shard(layer, mesh=mesh)
        fully_shard(self._loss[0], mesh=mesh)

    def on_fit_start(self) -> None:
        """Print the precision and what a step will cost."""
        datamodule = getattr(self.trainer, "datamodule", None)
        pairs = len(datamodule.train) if isinstance(datamodule, PairDataModule) else 1
        trainable = sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)
        needs = self.algorithm.needs(pairs)
        reason = f": {type(self.algorithm).__name__} does not bear bfloat16" if self.algorithm.needs_float32 else ""
        self.print(f"precision: {self.trainer.precision}{reason}")
        self.print(needs.describe(type(self.algorithm).__name__, trainable, self.model.proj_out.weight.numel()))

    def on_after_batch_transfer(self, batch: SpeechBatch, dataloader_idx: int) -> SpeechBatch:
        """Compute the log-mel on the device."""
        batch.mel_BFT = self.log_mel(batch.waveforms_BS)
        if self.spec_augment and self.trainer.training:
            self.spec_augment(batch)
        return batch

    def training_step(self, batch: SpeechBatch, batch_idx: int) -> Figures:
        """Hand the batch to the algorithm, then step the schedule; return the step's figures."""
        wrapped = self.optimizers()
        guard = self._guard = StepGuard(self.global_step, self.divergence_threshold)
        context = StepContext(
            self._trainable(),
            self.token_losses,
            wrapped.optimizer,
            head_weight=self.model.proj_out.weight,
            label_smoothing=self.label_smoothing,
            back_propagate=self._backward,
            last_step=wrapped.step,
            check=guard.check,
            clip_norm=self.clip_norm,
            micro_batch=math.ceil(len(batch) / self.accumulate),
            world_size=self.trainer.world_size,
            all_reduce=_sum_over_ranks if self.trainer.world_size > 1 else (lambda tensor: tensor),
            seed=self.seed,
            step=self.global_step - len(self.unusable_steps),
        )
        # Depends on the step only, so that dropout, too, is the same after resuming.
        torch.manual_seed(context.generator().initial_seed() + 1 + self.global_rank)
        undo = Undo(context, self.algorithm) if self.max_unusable_steps else None
        try:
            with torch.autocast(self.device.type, enabled=False):  # the algorithm's own arithmetic
                figures = self.algorithm.step(context, batch) | {"gradient_norm": context.grad_norm}
        except UnusableStepError as error:
            self._pass_over(error, guard.save(batch, Path(self.trainer.default_root_dir), self.global_rank), undo)
            wrapped.step()  # without gradients: it counts as a step, but changes nothing
            figures = {"unusable_steps": float(len(self.unusable_steps))}
        self._guard = None
        figures["learning_rate"] = wrapped.param_groups[0]["lr"]  # before the schedule sets that of the next step
        self.lr_schedulers().step()
        for name, value in figures.items():
            self.log(name, value, prog_bar=name.startswith("loss/"), batch_size=len(batch))
        return figures

    def _backward(self, loss: Tensor, last: bool) -> None:
        """Back-propagate; ranks exchange gradients only after a batch's last micro-batch."""
        strategy = self.trainer.strategy
        waits = isinstance(strategy, ParallelStrategy) and not last
        with strategy.block_backward_sync() if waits else nullcontext():
            self.manual_backward(loss)

    def token_losses(self, batch: SpeechBatch, *, with_logits: bool = False) -> Losses:
        """Return each token's cross-entropy, computed in the trainer's precision."""
        with self._forward_context():
            out = self._loss[0](
                batch.mel_BFT.to(self.model.dtype), batch.decoder_inputs_BU, batch.labels_BU, with_logits=with_logits
            )
            losses_BU = out.losses_BU
            if self.ctc is not None:
                ctc_B = self.ctc(out.encoded_BTD, batch.lengths_B, batch.labels_BU)
                losses_BU = mix(losses_BU, ctc_B, batch.labels_BU, self.ctc_weight)
        if self._guard:
            self._guard.note(batch, losses_BU)
        return out._replace(losses_BU=losses_BU, encoded_BTD=None)

    def _pass_over(self, error: UnusableStepError, batch_file: Path, undo: Undo | None) -> None:
        """Undo an unusable step, if there are not yet too many; its batch was saved in a file.

        Raises:
            UserError: where `max_unusable_steps` have been undone before.
        """
        if undo is None or len(self.unusable_steps) == self.max_unusable_steps:
            done = f"no update was made, and the batch was saved as {batch_file}. Look at these utterances' audio"
            advice = "lower model.learning_rate, or let model.max_unusable_steps pass over a few such steps"
            raise on_first_rank(UserError(f"{error}; {done}, {advice}")) from None
        undo()
        self.unusable_steps.append(str(error))
        self.print(f"warning: {error}; passed over, {len(self.unusable_steps)} of {self.max_unusable_steps}")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what resuming must know beside the weights."""
        checkpoint["unusable_steps"] = self.unusable_steps
        checkpoint["adapters"] = self.lora is not None
        checkpoint["algorithm"] = type(self.algorithm).__name__
        checkpoint["frozen"] = sorted(self.frozen)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Read what `on_save_checkpoint` added, and check it.

        Raises:
            UserError: where the checkpoint is of a run with another algorithm, other frozen parts, or with adapters
                where this one has none, or the other way round.
        """
        for name, here in (("algorithm", type(self.algorithm).__name__), ("frozen", sorted(self.frozen))):
            if (found := checkpoint.get(name, here)) != here:
                raise UserError(
                    f"the checkpoint is of a run with model.{name} {found}, this one has {here}; go on as it began"
                )
        self.unusable_steps = list(checkpoint.get("unusable_steps", []))
        has_adapters = checkpoint.get("adapters", False)  # divided over ranks, the weights themselves are not here
        if has_adapters != (self.lora is not None):
            found, here = ("with", "without") if has_adapters else ("without", "with")
            raise UserError(f"the checkpoint is of a run {found} model.lora, this one is {here}; go on as it began")

    def _trainable(self) -> list[nn.Parameter]:
        heads = [] if self.ctc is None else self.ctc.parameters()
        return [parameter for parameter in (*self.model.parameters(), *heads) if parameter.requires_grad]

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW over the trainable parameters, with linear warm-up and cosine decay."""
        optimizer = torch.optim.AdamW(
            self._trainable(), lr=self.learning_rate, betas=self.betas, weight_decay=self.weight_decay, fused=True
        )
        total = self.trainer.max_steps
        warmup = round(self.warmup_fraction * total)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step, total, warmup))
        return {"optimizer": optimizer, "lr_scheduler": schedule}


def _sum_over_ranks(tensor: Tensor) -> Tensor:
    torch.distributed.all_reduce(tensor)
    return tensor
