"""What a model that is decoded offers, whatever program runs it.

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
        most_B: tokens that each hypothesis may have; one token more shows that it is longer.
        repeats: as in `Guards`; what follows a loop is not needed.
        temperature: 0, or that of sampling.
        seeds_B: of sampling, for each utterance.
        judged: whether the mean log-probabilities are needed.
    """

    prompt_BU: list[list[int]]
    most_B: Sequence[int]
    repeats: int = 0
    temperature: float = 0.0
    seeds_B: Sequence[int] = ()
    judged: bool = False


class Written(NamedTuple):
    """What an engine wrote for an utterance, and the mean log-probability of tokens and end, where that was needed."""

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
        """The probability of each language's tag as the first, for each utterance."""

    def no_speech(self, encoded: Any) -> list[float]:
        """The probability of each utterance that nobody speaks."""

    def generate(self, encoded: Any, attempt: Attempt) -> list[Written]:
        """The tokens after the prompt; they may go on after the end token, or after what the guards allow."""

    def token_times(
        self,
        encoded: Any,
        prompt_BU: Sequence[Sequence[int]],
        texts: Sequence[Sequence[int]],
        durations_s: Sequence[float],
    ) -> list[TokenTimes | None]:
        """When the tokens of each text are spoken, as `backbone.token_times` finds them."""
