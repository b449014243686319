"""The interface of a model that can be decoded, whatever program runs it.

Shape suffixes: B utterances, S samples at 16 kHz, U tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor
from transformers import WhisperTokenizer

from backbone.token_times import TokenTimes
from backbone.window import Window


@dataclass(frozen=True)
class Attempt:
    """How the utterances of a batch are decoded.

    Attributes:
        prompt_BU: the prompts, equally long.
        most_B: the limit on each hypothesis's tokens; one token beyond it shows that the hypothesis is longer.
        repeats: as in `Guards`; tokens after a loop are not needed.
        temperature: of sampling; 0 does not sample.
        seeds_B: the seed of sampling for each utterance.
        judged: whether the mean log-probabilities are needed.
    """

    prompt_BU: list[list[int]]
    most_B: Sequence[int]
    repeats: int = 0
    temperature: float = 0.0
    seeds_B: Sequence[int] = ()
    judged: bool = False


class Written(NamedTuple):
    """An utterance's decoded tokens, and the mean log-probability of tokens and end token, where it was needed."""

    tokens: list[int]
    mean_log_probability: float = 0.0


class Engine(Protocol):
    """A model that can be decoded: in PyTorch, or by another program that reads a conversion of it.

    `encode` returns whatever the engine's other methods take.
    """

    tokenizer: WhisperTokenizer
    window: Window

    def encode(self, waveforms_BS: Tensor) -> Any:
        """Encode zero-padded waveforms."""

    def detect(self, encoded: Any) -> list[dict[str, float]]:
        """Return, for each utterance, the probability of each language tag as its first token."""

    def no_speech(self, encoded: Any) -> list[float]:
        """Return, for each utterance, the probability that nobody speaks."""

    def generate(self, encoded: Any, attempt: Attempt) -> list[Written]:
        """Return the tokens after the prompt; they may go on past the end token, or past the guards' limits."""

    def token_times(
        self,
        encoded: Any,
        prompt_BU: Sequence[Sequence[int]],
        texts: Sequence[Sequence[int]],
        durations_s: Sequence[float],
    ) -> list[TokenTimes | None]:
        """Return when the tokens of each text are spoken; see `backbone.token_times`."""
