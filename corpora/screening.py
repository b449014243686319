"""Which of a corpus's records can be used: text and audio examined, leaks refused, oddities noted."""

import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from common.constants import DURATION_TOLERANCE_S, SAMPLE_RATE_HZ, WINDOW_S
from common.manifest import check_plain
from corpora.manifest_counts import ManifestCounts, counted, tokens_of
from corpora.readers.clips import BrokenRecord, Header, measure
from corpora.readers.reader import LeftOut, Notice, Reader, Record
from corpora.readers.source import SourceFiles
from datamodules.leaks import HeldOut, sentence_keys

EXAMPLES_A_KIND = 5
Sentence = tuple[str, bytes | str, str]  # the kind of key (transcript or sentence), the key, the split


@dataclass
class Prepared:
    """What a preparation made, and what it left out or noticed on the way."""

    folder: Path
    title: str = ""
    statistics: dict[str, ManifestCounts] = field(default_factory=dict)
    drawn: dict[str, list[str]] = field(default_factory=dict)
    skipped: list[LeftOut] = field(default_factory=list)
    notices: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    labels: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    splits: dict[str, Counter[str]] = field(default_factory=dict)

    def notice(self, kind: str, message: str) -> None:
        """Count a notice, keeping the first few messages of its kind."""
        self.notices[kind] += 1
        if len(self.examples.setdefault(kind, [])) < EXAMPLES_A_KIND:
            self.examples[kind].append(message)

    def lines(self) -> list[str]:
        """The preparation as lines for the terminal."""
        lines = [self.title]
        for split, places in sorted(self.splits.items()):
            named = [f"{place} ({count:,})" for place, count in list(places.items())[:EXAMPLES_A_KIND]]
            lines.append(f"  {split} from {', '.join(named)}{', ...' * (len(places) > EXAMPLES_A_KIND)}")
        for name, statistics in sorted(self.statistics.items()):
            lines += ["", f"{self.folder / name}.jsonl", *statistics.lines()]
        if self.skipped:
            lines += ["", f"{counted(len(self.skipped), 'utterance')} left out"]
            lines += [f"  {item.id}: {item.reason}" for item in self.skipped[:EXAMPLES_A_KIND]]
            if len(self.skipped) > EXAMPLES_A_KIND:
                lines.append(f"  ... all in {self.folder / 'corpus.json'}")
        if self.notices:
            lines += ["", "noticed"]
            for kind, count in self.notices.most_common():
                times = f", {count:,} times, the first" if count > 1 else ""
                lines.append(f"  {kind}{times}: {self.examples[kind][0]}")
        return lines


def usable(
    reader: Reader, source: SourceFiles, held_out: HeldOut, prepared: Prepared
) -> Iterator[tuple[Record, Header]]:
    """The records that can be used, with their audio's headers; the others go to `prepared.skipped`.

    Args:
        reader: of the corpus.
        source: the corpus.
        held_out: the sentences that training must not hold.
        prepared: takes what is left out or noticed.
    """
    ids: set[tuple[str, str]] = set()
    found_before: set[Sentence] = set()
    for item in tqdm(reader.read(source), reader.name, unit=" utterances", disable=None, leave=False):
        if isinstance(item, Notice):
            prepared.notice(item.kind, item.message)
            continue
        if isinstance(item, LeftOut):
            prepared.skipped.append(item)
            continue
        record = replace(item, text=" ".join(unicodedata.normalize("NFC", item.text).split()))
        check_plain(record.text, record.where)
        place = (reader.manifest(record), record.id)
        try:
            _refuse(record, held_out, is_known=place in ids)
            header = measure(source, record.clip)
        except BrokenRecord as error:
            prepared.skipped.append(LeftOut(record.id, f"{record.where}: {error}"))
            continue
        ids.add(place)
        if record.split_from:
            prepared.splits.setdefault(record.split, Counter())[record.split_from] += 1
        _notice_oddities(record, header, reader, prepared)
        _notice_twins(record, held_out, found_before, prepared)
        yield record, header


def _refuse(record: Record, held_out: HeldOut, is_known: bool) -> None:
    if not tokens_of(record.text):
        raise BrokenRecord(f"the text is {record.text!r}: not a word in it")
    if record.split != "test" and (place := held_out.sentence(record.source_sentence_id)):
        raise BrokenRecord(f"leak: the sentence {record.source_sentence_id} is held out for testing, in {place}")
    if is_known:
        raise BrokenRecord("the id stands twice in the manifest")


def _notice_oddities(record: Record, header: Header, reader: Reader, prepared: Prepared) -> None:
    file, rate_hz = f"{record.where}: {record.clip.name}", header.sample_rate_hz
    if rate_hz < SAMPLE_RATE_HZ:
        prepared.notice("low sample rate", f"{file} has {rate_hz} Hz, Whisper takes {SAMPLE_RATE_HZ} Hz")
    elif reader.sample_rate_hz not in (None, rate_hz):
        prepared.notice("other sample rate", f"{file} has {rate_hz} Hz, {reader.name} has {reader.sample_rate_hz} Hz")
    if header.duration_s > WINDOW_S:
        prepared.notice("too long", f"{file} lasts {header.duration_s:.1f} s, Whisper's window holds {WINDOW_S:g} s")
    if header.channels != 1:
        prepared.notice("several channels", f"{file} has {header.channels} channels, to be averaged")
    stated_s = record.stated_duration_s
    if stated_s is not None and abs(stated_s - header.duration_s) > DURATION_TOLERANCE_S:
        lasts = f"the audio lasts {header.duration_s:.2f} s (taken)"
        prepared.notice("other duration", f"{record.where}: the field 'duration' is {stated_s:g}, {lasts}")


def _notice_twins(record: Record, held_out: HeldOut, found_before: set[Sentence], prepared: Prepared) -> None:
    """Notice sentences that are in both training and test, where the test set is of this corpus or held out."""
    keys = sentence_keys(record.text, record.source_sentence_id)
    others = ("train", "dev") if record.split == "test" else ("test",)
    for what, key in keys.items():
        shared = record.text if what == "transcript" else record.source_sentence_id
        places = [f"this corpus's {split} split" for split in others if (what, key, split) in found_before]
        if what == "transcript" and record.split != "test":
            places.append(held_out.transcript(record.text))
        for place in filter(None, places):
            prepared.notice(f"{what} in training and test", f"{record.where}: {shared!r} is also in {place}")
        found_before.add((what, key, record.split))
