"""From a reader's records to manifests by split and `corpus.json`, in one pass and bounded memory."""

import contextlib
import dataclasses
import hashlib
import heapq
import json
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, TextIO

from common.errors import UserError
from common.files import atomic_file, check_name
from common.manifest import Span, Utterance, to_row
from common.trust import nearest_folders, trust
from corpora.derived import RECORD, check_own_manifest, earlier_manifests, write_json
from corpora.manifest_counts import ManifestCounts
from corpora.readers.clips import ClipStore, Header
from corpora.readers.reader import Reader, Record, languages_of
from corpora.readers.source import SourceFiles
from corpora.screening import Prepared, usable
from datamodules.leaks import HeldOut


def prepare(
    reader: Reader,
    source: SourceFiles,
    folder: Path,
    *,
    train_utterances: int | None = None,
    seed: int = 0,
    held_out: Iterable[Path] = (),
) -> Prepared:
    """Read a corpus and write `<split>.jsonl` and `corpus.json` under `folder`; manifests may then use its audio.

    Labels that have no field in the manifest go to `<split>.labels.json`, by id.
    Training utterances whose source sentence is in a `held_out` manifest are left out. With `train_utterances`, each
    pair's training manifest is a sample of that size: the utterances with the smallest SHA-256 of seed and id, so that
    the sample depends neither on the order of files nor on the rest of the corpus.

    Args:
        reader: knows the corpus's layout.
        source: the corpus.
        folder: where to write.
        train_utterances: how many training utterances of each pair to draw; None for all.
        seed: of the draw.
        held_out: test manifests whose sentences training must not contain.

    Raises:
        UserError: where the corpus is not laid out as its reader expects, no utterance is left, or `folder` holds
            another corpus.
    """
    held_out = sorted(held_out)
    earlier = earlier_manifests(folder, corpus=corpus_name(reader), reader=reader.name)
    prepared = Prepared(folder, f"{corpus_name(reader)} from {source.hub_id or source.root}, licence: {reader.licence}")
    with contextlib.ExitStack() as stack:
        manifests = _Manifests(reader, ClipStore(source, folder), prepared, earlier, stack)
        draws: dict[tuple[str, str], list[tuple[int, int, Record, Header]]] = defaultdict(list)  # heaps
        for place, (record, header) in enumerate(usable(reader, source, HeldOut(held_out), prepared)):
            if train_utterances is None or record.split != "train":
                manifests.write(record, header)
                continue
            draw = draws[record.pair, reader.manifest(record)]
            digest = hashlib.sha256(f"{seed}:{record.id}".encode()).hexdigest()
            push = heapq.heappush if len(draw) < train_utterances else heapq.heappushpop
            push(draw, (-int(digest, 16), place, record, header))
        for (pair, name), draw in draws.items():
            if len(draw) < train_utterances:
                prepared.notice("short draw", f"{pair}: {train_utterances} asked of {len(draw)} utterances")
            for _, _, record, header in sorted(draw, key=lambda entry: entry[1]):  # in the corpus's order
                manifests.write(record, header)
                prepared.drawn.setdefault(name, []).append(record.id)
        _refuse_nothing(prepared, train_utterances, draws, source)
    about = _about(reader, source, prepared, held_out) | {"train_utterances": train_utterances, "seed": seed}
    for name in sorted(set(earlier) - set(about["manifests"])):
        prepared.notice("manifest of an earlier preparation", f"{folder / name}: not in corpus.json any more")
    for name, labels in prepared.labels.items():
        write_json(folder / f"{name}.labels.json", labels)
    write_json(folder / RECORD, about)
    trust(source.root)
    for outside in nearest_folders(manifests.outside):
        if trust(outside):
            reason = "it is noted, and from now on expected there"
            prepared.notice("audio outside the source", f"{outside}: {reason}")
    return prepared


def configured(reader: type[Reader], values: dict[str, Any]) -> Reader:
    """Make the reader with its options from the parsed command line."""
    return reader(**{item.name: values[item.name] for item in dataclasses.fields(reader)})


def held_out_manifests(reader: Reader, folder: Path, named: list[Path] | None) -> list[Path]:
    """The test manifests training must not overlap with: those known for the corpus, and the user's.

    Args:
        reader: of the corpus.
        folder: the corpus's output folder; known test sets lie beside it.
        named: the user's own test manifests.

    Raises:
        UserError: where the corpus is known to overlap with a test set, and none is found or named.
    """
    found = sorted(folder.parent.glob(reader.held_out)) if reader.held_out else []
    if reader.held_out and not found and not named:
        other = reader.held_out.split("/")[0]
        missing = f"{reader.name} shares sentences with {other}, and there is no {folder.parent / reader.held_out}"
        raise UserError(f"{missing}; run `python prepare.py {other}` first, or name test manifests by --held-out")
    return list({path.resolve(): path for path in [*found, *(named or [])]}.values())


def _utterance(record: Record, header: Header, reader: Reader, store: ClipStore) -> Utterance:
    def clean(span: Span) -> Span:
        start_s, end_s = (time_s and min(time_s, header.duration_s) for time_s in (span.start, span.end))
        return Span(span.language, start_s, end_s, span.text and unicodedata.normalize("NFC", span.text))

    same = ("id", "text", "pair", "speaker", "source_sentence_id", "split")
    return Utterance(
        audio=store.store(record.clip, header),
        duration=round(header.duration_s, 6),
        matrix_language=record.matrix_language or languages_of(record.pair)[0],
        offset=record.clip.start_s,
        spans=record.spans and tuple(map(clean, record.spans)),
        source=corpus_name(reader),
        licence=reader.licence,
        **{name: getattr(record, name) for name in same},
    )


def corpus_name(reader: Reader) -> str:
    """The corpus's name: the reader's, or the one its user gave."""
    return getattr(reader, "corpus", reader.name)


class _Manifests:
    """One open manifest for each split; all get their final names together, when the stack closes without an error."""

    def __init__(
        self,
        reader: Reader,
        store: ClipStore,
        prepared: Prepared,
        earlier: Collection[str],
        stack: contextlib.ExitStack,
    ) -> None:
        self._reader, self._store, self._prepared, self._stack = reader, store, prepared, stack
        self._earlier = earlier
        self._files: dict[str, TextIO] = {}
        self.outside: set[Path] = set()

    def write(self, record: Record, header: Header) -> None:
        name = self._reader.manifest(record)
        for part in name.split("/"):
            check_name(part, f"{record.where}: the split")
        path = (self._prepared.folder / f"{name}.jsonl").absolute()
        if name not in self._files:
            if f"{name}.jsonl" not in self._earlier:
                check_own_manifest(path, record.id)
            partial = self._stack.enter_context(atomic_file(path))
            self._files[name] = self._stack.enter_context(partial.open("w", encoding="utf-8", newline="\n"))
        utterance = _utterance(record, header, self._reader, self._store)
        if record.clip.name.startswith("/"):
            self.outside.add(utterance.audio.parent)
        self._files[name].write(json.dumps(to_row(utterance, path.parent), ensure_ascii=False) + "\n")
        self._prepared.statistics.setdefault(name, ManifestCounts()).add(utterance)
        if record.labels:
            self._prepared.labels.setdefault(name, {})[record.id] = record.labels


def _refuse_nothing(prepared: Prepared, wanted: int | None, draws: dict, source: SourceFiles) -> None:
    if not prepared.statistics:
        first = f"; the first: {prepared.skipped[0].reason}" if prepared.skipped else ""
        raise UserError(f"{source.root}: no utterance left, {len(prepared.skipped)} left out{first}")
    if wanted is not None and not draws:
        found = ", ".join(sorted(prepared.statistics))
        raise UserError(f"--train-utterances {wanted}: the corpus has no training split, only {found}")


def _about(reader: Reader, source: SourceFiles, prepared: Prepared, held_out: list[Path]) -> dict[str, Any]:
    manifests = {f"{name}.jsonl": counts.as_dict() for name, counts in sorted(prepared.statistics.items())}
    for name, ids in prepared.drawn.items():
        manifests[f"{name}.jsonl"]["drawn_ids"] = ids
    notices = prepared.notices.most_common()
    return {
        "corpus": corpus_name(reader),
        "reader": reader.name,
        "options": dataclasses.asdict(reader),
        "licence": reader.licence,
        "source": str(source.root.absolute()),
        "hub_id": source.hub_id,
        "revision": source.revision,
        "held_out": [str(path) for path in held_out],
        "manifests": manifests,
        "skipped": [item._asdict() for item in prepared.skipped],
        "notices": [{"kind": kind, "count": n, "examples": prepared.examples[kind]} for kind, n in notices],
    }
