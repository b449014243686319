"""`prepare.py check`: open the audio of every utterance of manifests, and print one line for each problem."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.constants import DURATION_TOLERANCE_S, MAX_TOKENS, SAMPLE_RATE_HZ, WINDOW_S
from common.errors import UserError, first_line
from common.manifest import Utterance, iter_manifest
from common.printing import show
from common.progress_meter import progress
from common.sound_files import opened
from corpora.manifest_counts import character_name, counted, lasting, surprises, tokens_of
from datamodules.leaks import sentence_keys

PROMPT_TOKENS = 4
SILENCE_PEAK = 10 ** (-50 / 20)
CLIPPED_RUN = 4

ERROR, WARNING = "error", "warning"
Finding = tuple[str, str, str]  # level, kind, message; an error breaks training or distorts scores, a warning may


def check(paths: Iterable[Path], tokenizer: str | None = None) -> int:
    """Print the findings in manifests and folders of manifests; returns 1 where there is an error, else 0.

    Raises:
        UserError: where a path holds no manifest, or a manifest cannot be read as one.
    """
    manifests = list(dict.fromkeys(manifest for path in paths for manifest in _manifests(path)))
    counts: Counter[tuple[str, str]] = Counter()
    checked = _Checked(_token_counter(tokenizer))
    for manifest in manifests:
        files = Counter(str(utterance.audio) for utterance in iter_manifest(manifest, check_audio=False))
        utterances = iter_manifest(manifest, check_audio=False)
        for utterance in progress(utterances, str(manifest), files.total()):
            shared = files[str(utterance.audio)] > 1
            for level, kind, message in checked.findings(utterance, manifest, shared):
                counts[level, kind] += 1
                show(f"{level:<7} {manifest} {utterance.id}: {kind}: {message}")
        if not files:
            raise UserError(f"{manifest}: the manifest holds no utterance")
    if counts:
        show("")
    whole = f"{counted(checked.utterances, 'utterance')}, {lasting(checked.seconds)}"
    show(f"{whole} in {counted(len(manifests), 'manifest')}:{'' if counts else ' nothing found'}")
    for (level, kind), count in sorted(counts.items()):
        show(f"  {level:<7} {count:>6,} {kind}")
    return int(any(level == ERROR for level, _ in counts))


def _manifests(path: Path) -> list[Path]:
    found = sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
    if not found:
        raise UserError(f"{path}: no .jsonl manifest in this folder; prepare a corpus into it first")
    return found


@dataclass
class _Checked:
    """What was checked so far, kept as hashes: neither audio nor text of a million-line manifest stays in memory."""

    count_tokens: Callable[[str], int] | None
    utterances: int = 0
    seconds: float = 0.0
    seen: dict[int, str] = field(default_factory=dict)

    def findings(self, utterance: Utterance, manifest: Path, shared: bool) -> Iterator[Finding]:
        """Yield the problems of one utterance, by itself and compared with earlier ones.

        Args:
            utterance: what to check.
            manifest: its manifest.
            shared: whether other utterances of the manifest lie in the same file.
        """
        place = f"{manifest} {utterance.id}"
        self.utterances += 1
        self.seconds += utterance.duration
        yield from self._of_text(utterance)
        samples, found = _open(utterance, shared)
        for level, kind, text in found:  # an error must be repaired, so it names the file
            yield level, kind, f"{text} ({utterance.audio})" if level == ERROR else text
        if self._seen("id", place, "", place):
            yield ERROR, "id twice", "ids must be unique within a manifest"
        keys = sentence_keys(utterance.text, utterance.source_sentence_id)
        if samples is not None:
            keys["audio"] = samples.tobytes()
        split, other = ("test", "") if (utterance.split or manifest.stem) == "test" else ("", "test")
        for what, key in keys.items():
            twin = self._seen(what, key, split, place)
            if leak := self.seen.get(hash((what, key, other))):
                level = WARNING if what == "transcript" else ERROR
                yield level, f"{what} in training and test", f"also in {leak}"
            elif twin and what != "sentence":
                yield WARNING, f"{what} twice", f"also in {twin}"

    def _seen(self, what: str, key: bytes | str, split: str, place: str) -> str | None:
        """Return where the same content was found before, None if it is new."""
        first = self.seen.setdefault(hash((what, key, split)), place)
        return None if first is place else first

    def _of_text(self, utterance: Utterance) -> Iterator[Finding]:
        if not tokens_of(utterance.text):
            yield ERROR, "text", f"not a word in {utterance.text!r}"
        if strange := surprises(utterance.text, utterance.languages):
            names = ", ".join(map(character_name, sorted(strange)[:5]))
            yield WARNING, "alphabet", f"not of {utterance.pair}: {names} in {utterance.text!r}"
        size = len(utterance.text.encode()) + PROMPT_TOKENS  # Whisper's tokens are one or more bytes each
        if size > MAX_TOKENS and self.count_tokens is None:
            yield WARNING, "label length", f"up to {size} tokens, the most is {MAX_TOKENS}; --tokenizer counts them"
        elif size > MAX_TOKENS and (size := self.count_tokens(utterance.text) + PROMPT_TOKENS) > MAX_TOKENS:
            yield ERROR, "label length", f"{size} tokens, the most is {MAX_TOKENS}"


def _open(utterance: Utterance, shared: bool) -> tuple[np.ndarray | None, list[Finding]]:
    """Decode an utterance's part of its file: float32 samples (S,), and level, kind and message of each finding."""
    found: list[Finding] = []
    try:
        with opened(utterance.audio) as file:
            rate_hz, whole_s, channels = file.samplerate, file.frames / file.samplerate, file.channels
            file.seek(min(round(utterance.offset * rate_hz), file.frames))
            wanted = round(utterance.duration * rate_hz)
            samples = file.read(wanted, dtype="float32", always_2d=True).mean(axis=1)
    except UserError as error:
        reason = str(error).removeprefix(f"{utterance.audio}: ").removeprefix("the audio cannot be read: ")
        return None, [(ERROR, "unreadable audio", reason)]
    if rate_hz < SAMPLE_RATE_HZ:
        found.append((WARNING, "sample rate", f"{rate_hz} Hz, Whisper takes {SAMPLE_RATE_HZ} Hz"))
    if channels > 1:
        found.append((WARNING, "channels", f"{channels} channels, averaged in training"))
    if utterance.duration > WINDOW_S:
        found.append((ERROR, "too long", f"{utterance.duration:.2f} s, Whisper's window holds {WINDOW_S:g} s"))
    held_s = len(samples) / rate_hz
    if utterance.duration - held_s > DURATION_TOLERANCE_S:
        found.append((ERROR, "duration", f"{utterance.duration:.2f} s by the manifest, {held_s:.2f} s in the audio"))
    elif not shared and whole_s - utterance.offset - utterance.duration > DURATION_TOLERANCE_S:
        found.append((WARNING, "duration", f"{utterance.duration:.2f} s by the manifest, {whole_s:.2f} s in the audio"))
    return samples, found + list(_of_samples(samples) if len(samples) else ())


def _of_samples(samples: np.ndarray) -> Iterator[Finding]:
    if broken := int(np.count_nonzero(~np.isfinite(samples))):
        yield ERROR, "samples", f"{broken} of {len(samples)} samples are not finite numbers"
        return
    size = np.abs(samples)
    peak = float(size.max())
    if peak < SILENCE_PEAK:
        yield ERROR, "silence", f"the loudest sample is {peak:.5f}"
    # A peak level reached once means a normalised recording; held over several samples it means clipping.
    edges = np.flatnonzero(np.diff(size >= min(peak, 1.0) * 0.9999, prepend=False, append=False))
    runs = edges[1::2] - edges[::2]
    clipped = int(runs[runs >= CLIPPED_RUN].sum())
    if clipped and peak > 0.5:
        yield WARNING, "clipping", f"{clipped} samples at the level {peak:.2f}"


def _token_counter(name: str | None) -> Callable[[str], int] | None:
    if name is None:
        return None
    from transformers import WhisperTokenizerFast

    try:
        tokenizer = WhisperTokenizerFast.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise UserError(f"--tokenizer {name}: no Whisper tokenizer there ({first_line(error)})") from None
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))
