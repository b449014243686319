"""The data module: each step gets some utterances of each pair; only manifests are held in memory."""

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader

from backbone.language_tags import POLICIES, TRAINED, Tokenizer
from backbone.window import check_lengths
from common.constants import MOST_PROCESSES, ON_THIS_MACHINE
from common.errors import UserError, in_range
from common.manifest import Utterance, read_manifest
from common.printing import warn
from datamodules.augment import SpeedPerturbation
from datamodules.batch import SpeechBatch
from datamodules.dataset import LabelMaker, PairDataset, check_labels, collate
from datamodules.leaks import HeldOut, check_leaks
from datamodules.mixture import check_manifests, mixture, utterances_of
from datamodules.sampler import PairBatchSampler
from datamodules.skips import SkipBudget
from datamodules.splicing.splice_options import Splicing
from datamodules.splicing.splicer import CrossPairSplicer
from datamodules.timestamps import TimestampLabels

_ENDED = re.compile(r"DataLoader worker.*(killed by signal: [\w ]+|exited unexpectedly)")


def _without_reset_connections(worker: int) -> None:
    """Let a worker end without a message where the main process is gone, which has printed one itself."""
    shown = sys.excepthook
    sys.excepthook = lambda kind, *more: None if issubclass(kind, ConnectionError | EOFError) else shown(kind, *more)


@contextmanager
def readable_worker_errors() -> Iterator[None]:
    """Say in one line that a process which decodes audio was ended from outside.

    Raises:
        UserError: naming how it ended.
    """
    try:
        yield
    except Exception as error:  # torch's own, or one that it raises while it cleans up
        while error is not None and not _ENDED.search(str(error)):
            error = error.__context__
        if error is None:
            raise
        found = _ENDED.search(str(error))[0]
        advice = "a checkpoint goes on with --resume, with fewer data.workers where memory was short"
        raise UserError(f"a process that decodes audio was ended from outside ({found}); {advice}") from None


@dataclass(eq=False)
class PairDataModule(L.LightningDataModule):
    """Makes batches of some utterances of each pair; seed, step and rank decide what is in them.

    Args:
        train: each pair's manifest, or several, or some with a weight: `{manifest: PATH, weight: 2}`. A pair's
            utterances are pooled, and each is drawn once in a cycle of its pair, or as often as its manifest weighs.
        pairs: which of them to train on, in this order; by default all.
        utterances_per_pair: utterances of each pair a step on each rank; one number, or one a pair.
        language: the decoder's language tag: matrix, embedded, two_tag, or a code.
        workers: processes that decode audio; 0 decodes in the main process.
        seed: of the order and the augmentation.
        speed: factors of speed perturbation, e.g. [0.9, 1.0, 1.1]; one is drawn each time an utterance is.
        timestamps: share of the draws that have timestamp tokens, and further utterances up to the window, 0 to 1.
        max_broken: utterances that a run may skip, on each device, because their audio cannot be read.
        held_out: manifests of test sets; training utterances that they hold are refused.
        splice: turns a share of the utterances into utterances of other pairs; `{}` takes the defaults.
    """

    train: dict[str, Any] | None = None
    pairs: list[str] | None = None
    utterances_per_pair: int | dict[str, int] = 3
    language: str = "matrix"
    workers: int = 2
    seed: int = 0
    speed: list[float] | None = None
    timestamps: float = 0.0
    max_broken: int = 0
    held_out: list[str] | None = None
    splice: Splicing | None = None

    def __post_init__(self) -> None:
        super().__init__()
        if self.language in {*POLICIES} - {*TRAINED}:
            raise UserError(
                f"data.language: {self.language!r} is a choice of decoding, not a tag to train with; "
                f"expected {', '.join(TRAINED)}, or a code"
            )
        in_range("data.workers", self.workers, 0, MOST_PROCESSES, ON_THIS_MACHINE)
        in_range("data.max_broken", self.max_broken, 0, what="a number of utterances, ")
        in_range("data.timestamps", self.timestamps, 0, 1, "a share from ")
        self.train = mixture(self.train or {}, self.pairs)
        self.utterances_per_pair = utterances_of(self.train, self.utterances_per_pair)
        self.utterances: dict[str, list[Utterance]] = {}
        self.skips = SkipBudget(self.max_broken)
        self.leaks: list[str] = []
        self.splicer: CrossPairSplicer | None = None
        self._sizes: dict[str, list[tuple[int, float]]] = {}
        self._durations: dict[str, list[float]] | None = None
        self._dataset: PairDataset | None = None

    def read(self, tokenizer: Tokenizer, window_s: float, max_tokens: int, *, by_duration: bool = False) -> None:
        """Reads the manifests and checks them against the model.

        Args:
            tokenizer: the model's.
            window_s: seconds of audio that it holds.
            max_tokens: label tokens that it holds.
            by_duration: put utterances of similar duration into a batch, since the longest decides what it costs.

        Raises:
            UserError: naming manifest and utterances.
        """
        check_manifests(self.train)
        make_labels = LabelMaker(tokenizer, self.language)
        held_out = HeldOut(self.held_out or [])
        for pair, entries in self.train.items():
            corpora = [read_manifest(entry.manifest) for entry in entries]
            for entry, utterances in zip(entries, corpora, strict=True):
                check_lengths(utterances, window_s, entry.manifest)
                check_labels(utterances, make_labels, max_tokens, entry.manifest)
                self.leaks += check_leaks(utterances, held_out, entry.manifest)
            self.utterances[pair] = list(chain(*corpora))
            self._sizes[pair] = [(len(u), entry.weight) for u, entry in zip(corpora, entries, strict=True)]
        if by_duration:
            self._durations = {pair: [u.duration for u in found] for pair, found in self.utterances.items()}
        if self.splice:
            sources: dict[str, list[Utterance]] = {}
            for manifest in self.splice.sources or []:
                found = read_manifest(manifest)
                self.leaks += check_leaks(found, held_out, manifest)
                for utterance in found:
                    sources.setdefault(utterance.pair, []).append(utterance)
            self.splicer = CrossPairSplicer(self.splice, self.utterances, sources, tokenizer, window_s, max_tokens)
        perturb = SpeedPerturbation(self.speed, window_s) if self.speed else None
        timestamps = None
        if self.timestamps:
            timestamps = TimestampLabels(self.timestamps, tokenizer, window_s, max_tokens)
        self._dataset = PairDataset(self.utterances, make_labels, perturb, self.max_broken, self.splicer, timestamps)
        self.skips.sizes = {pair: len(utterances) for pair, utterances in self.utterances.items()}
        if self.leaks:
            named = "; ".join(self.leaks[:3]) + (" ..." if len(self.leaks) > 3 else "")
            text = f"{len(self.leaks)} training transcripts are also in held-out manifests (all in run.json): {named}"
            rank_zero_only(warn)(f"warning: {text}")

    def train_dataloader(self) -> DataLoader[SpeechBatch]:
        """Batches from the trainer's current step to its last."""
        if self._dataset is None:
            raise RuntimeError("PairDataModule.read() must come before training; WhisperModule.setup() calls it")
        # Lightning asks for a loader with a state; the sampler needs none, it begins at the trainer's step.
        warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before the epoch")
        trainer = self.trainer
        sampler = PairBatchSampler(
            self._sizes,
            self.utterances_per_pair,
            trainer.max_steps,
            seed=self.seed,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            start=trainer.global_step,
            durations=self._durations,
        )
        return DataLoader(
            self._dataset,
            batch_sampler=sampler,
            num_workers=self.workers,
            collate_fn=collate,
            pin_memory=trainer.strategy.root_device.type == "cuda",
            multiprocessing_context="fork" if self.workers else None,
            worker_init_fn=_without_reset_connections,
        )

    def transfer_batch_to_device(self, batch: SpeechBatch, device: torch.device, dataloader_idx: int) -> SpeechBatch:
        """Copies from page-locked memory without waiting; Lightning's own would wait for a batch that is no tensor.

        Args:
            batch: on the CPU.
            device: where it goes.
            dataloader_idx: unused.
        """
        return batch.to(device, non_blocking=device.type == "cuda")

    def on_before_batch_transfer(self, batch: SpeechBatch, dataloader_idx: int) -> SpeechBatch:
        """Counts skipped utterances when their batch is trained on, not when a worker fetches it ahead.

        Raises:
            UserError: where more were skipped than allowed.
        """
        self.skips.add(chain(*(batch.skipped or [])))
        return batch

    def state_dict(self) -> dict[str, Any]:
        """What resuming cannot compute again: the utterances that each rank skipped. Every rank must call it."""
        return self.skips.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up an interrupted run's count of skipped utterances."""
        self.skips.load_state_dict(state_dict, self.trainer.global_rank, self.trainer.world_size)
