"""The engines that can be asked for by name."""

from corpora.speak.engine import SpeechEngine
from corpora.speak.espeak import EspeakEngine
from corpora.speak.kokoro import Kokoro

ENGINES: dict[str, type[SpeechEngine]] = {"kokoro": Kokoro, "espeak": EspeakEngine}
