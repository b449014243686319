"""The data module: a few utterances of each language pair a step, and nothing held in memory but the manifests."""

from __future__ import annotations

from pathlib import Path

import lightning as L
from torch.utils.data import DataLoader

from common.errors import UserError, nearest
from datamodules.batch import SpeechBatch
from datamodules.dataset import LabelMaker, PairDataset, check_lengths, collate
from datamodules.manifest import Utterance, read_manifest
from datamodules.prompts import Tokenizer
from datamodules.sampler import PairBatchSampler

# How the manifests of the study's own corpora are made, shown when one is missing.
PREPARE_COMMANDS = {
    "aihub": "python prepare.py aihub --source FOLDER",
    "jecs": "python prepare.py jecs --source FOLDER",
    "unicom": "python prepare.py unicom --source FOLDER",
    "demo": "python prepare.py demo",
    "backbone": "make backbone",
}


class PairDataModule(L.LightningDataModule):
    """Feeds mixed-pair batches of `utterances_per_pair` utterances of each pair, the same for (seed, step, rank).

    Args:
        train: for each pair its manifest, or several.
        pairs: which of them to train on, in this order; all where none are named.
        utterances_per_pair: utterances of each pair a step on each rank.
        language: which language tag the decoder is given: matrix, embedded, two_tag, or a code.
        workers: processes that decode audio; 0 decodes in the main process.
        seed: of the order; None takes the run's own (`seed_everything`).
    """

    def __init__(
        self,
        train: dict[str, str | list[str]] | None = None,
        pairs: list[str] | None = None,
        utterances_per_pair: int = 3,
        language: str = "matrix",
        workers: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if utterances_per_pair < 1:
            raise UserError(f"data.utterances_per_pair is {utterances_per_pair}, expected 1 or more")
        self.train = _chosen(train or {}, pairs)
        self.utterances_per_pair = utterances_per_pair
        self.language = language
        self.workers = workers
        self.seed = seed
        self.utterances: dict[str, list[Utterance]] = {}
        self._labels: LabelMaker | None = None

    def check_manifests(self) -> None:
        """Refuses to start without data.

        Raises:
            UserError: listing every manifest that is missing and how to make it.
        """
        if not self.train:
            raise UserError("data.train names no manifest: choose a recipe, e.g. --config erm.yaml")
        missing = [path for paths in self.train.values() for path in paths if not Path(path).is_file()]
        if missing:
            lines = [f"  {path}    {_how_to_prepare(path)}" for path in missing]
            raise UserError(
                "these training manifests are missing:\n" + "\n".join(lines) + "\n"
                "To try everything now without any corpus: `python prepare.py demo`, then add `--config demo.yaml`."
            )

    def read(self, tokenizer: Tokenizer, window_s: float, max_tokens: int) -> None:
        """Reads and checks the manifests against what the model holds: `window_s` seconds, `max_tokens` label tokens.

        Raises:
            UserError: naming manifest and utterance.
        """
        self.check_manifests()
        self._labels = LabelMaker(tokenizer, self.language, max_tokens)
        for pair, paths in self.train.items():
            self.utterances[pair] = [utterance for path in paths for utterance in read_manifest(path)]
            check_lengths(self.utterances[pair], window_s, ", ".join(paths))
            for utterance in self.utterances[pair]:
                self._labels(utterance)

    def train_dataloader(self) -> DataLoader[SpeechBatch]:
        """Batches from the trainer's present step to its last."""
        if self._labels is None:
            raise RuntimeError("PairDataModule.read() must come before training; WhisperModule.setup() calls it")
        trainer = self.trainer
        sampler = PairBatchSampler(
            {pair: len(utterances) for pair, utterances in self.utterances.items()},
            self.utterances_per_pair,
            trainer.max_steps,
            seed=self.seed,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            start=trainer.global_step,
        )
        return DataLoader(
            PairDataset(self.utterances, self._labels),
            batch_sampler=sampler,
            num_workers=self.workers,
            collate_fn=collate,
            pin_memory=trainer.strategy.root_device.type == "cuda",
            persistent_workers=False,
            multiprocessing_context="fork" if self.workers else None,
        )


def _chosen(train: dict[str, str | list[str]], pairs: list[str] | None) -> dict[str, list[str]]:
    unknown = [pair for pair in pairs or [] if pair not in train]
    if unknown:
        raise UserError(
            f"data.pairs names {', '.join(unknown)}, for which data.train has no manifest{nearest(unknown[0], train)} "
            f"It has: {', '.join(train) or 'none'}"
        )
    return {pair: [train[pair]] if isinstance(train[pair], str) else list(train[pair]) for pair in pairs or train}


def _how_to_prepare(path: str) -> str:
    for corpus, command in PREPARE_COMMANDS.items():
        if corpus in Path(path).parts:
            return f"<- {command}"
    return "<- python prepare.py --help"
