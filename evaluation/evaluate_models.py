"""Score models on test sets: stored hypotheses, all figures, one table, one report page."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backbone.model_folder.candidates import Candidate, candidates
from common.audio import load_clip
from common.errors import UserError, nearest
from common.files import atomic_file, write_text
from common.printing import console, show, warn
from common.trust import audio_outside
from common.versions import versions
from decoding.transcriber import Hypothesis
from evaluation.evaluation_options import Decoding, EvaluationOptions
from evaluation.hypotheses import FASTER_WHISPER, StoredHypotheses, Task, by_guard, count_guarded, transcribe_missing
from evaluation.test_sets import EvaluationSet, read_sets
from scoring.contributions import UtteranceToScore, check_references
from scoring.report import write_report
from scoring.results import Results, differences, error_rates, estimate_to_dict, results_table, score_set, to_dict
from scoring.summary import failure_lines
from scoring.table import AVERAGES, Table, write_table
from scoring.terminal import to_terminal
from scoring.tokens import get_profile
from scoring.tolerant import rules_on
from scoring.transcript_files import to_row

_PACKAGES = ("crosspair", "torch", "transformers", "rapidfuzz", "jiwer", "regex", "numpy")


@dataclass(frozen=True)
class Evaluation:
    """An evaluation: what to score and how.

    Attributes:
        models: the models, in the table's order.
        test: manifests by pair (or single language).
        out: the folder of all results.
        seen, unseen: the pairs of the two averages.
        baseline: the model that the others' differences are tested against; None tests none.
        profile: the scoring profile.
        decoding: how to transcribe.
        decoded: the folder of the transcripts; None stands for `out/decoded`.
    """

    models: Sequence[Candidate]
    test: Mapping[str, str]
    out: Path
    seen: Sequence[str] = ()
    unseen: Sequence[str] = ()
    baseline: str | None = None
    profile: str = "cjk"
    decoding: Decoding = field(default_factory=Decoding)
    decoded: Path | None = None


def evaluation(options: EvaluationOptions) -> Evaluation:
    """Return the evaluation that checked options describe.

    Raises:
        UserError: where an entry of `models` is no model.
    """
    pairs, profile = (options.seen, options.unseen), options.profile or "cjk"
    models, out = candidates(options.models), Path(options.out)
    decoded = Path(options.decoded) if options.decoded else None
    return Evaluation(models, options.test, out, *pairs, options.baseline, profile, decoding=options, decoded=decoded)


def evaluate(job: Evaluation) -> Table:
    """Transcribe what is not transcribed yet, score everything, print the table and write all files.

    Raises:
        UserError: where a manifest, an audio file or a model cannot be read; everything decoded until then is stored.
    """
    _check(job)
    profile = get_profile(job.profile)
    sets = read_sets(job.test)
    for one in sets:
        check_references(one.transcripts({}), profile)
    job.out.mkdir(parents=True, exist_ok=True)  # an unwritable folder is reported before hours of decoding
    stored = {(model.name, one.name): _stored(job, model, one) for model in job.models for one in sets}
    _transcribe(job, sets, stored)
    groups = {model.name: model.group for model in job.models}
    written = {(model, one.name): _whole(stored[model, one.name], one) for model in groups for one in sets}
    results: Results = {
        model: {one.name: score_set(_texts(one, written[model, one.name]), job.profile) for one in sets}
        for model in groups
    }
    table = results_table(results, groups, seen=job.seen, unseen=job.unseen, baseline=job.baseline)
    tags = {model.name: model.language for model in job.models if model.language}
    cuts = {key: count_guarded(found) for key, found in written.items()}
    table = replace(table, tags=tags, guarded=by_guard(cuts))
    _write_hypotheses(job, results)
    scores = _scores(job, sets, stored, results, cuts)
    write_text(job.out / "scores.json", json.dumps(scores, ensure_ascii=False, indent=1))
    write_table(table, job.out)
    _write_report(job, sets, results, table)
    console().print(to_terminal(table), *failure_lines(results), sep="\n")
    show(f"report: {job.out / 'report.html'}")
    return table


def _stored(job: Evaluation, model: Candidate, one: EvaluationSet) -> StoredHypotheses:
    how = job.decoding
    made_from = {"model": model.identity, "manifest": one.identity, "language": model.language or how.language}
    made_from |= {"beams": how.beams, "backend": how.backend, "precision": how.precision}
    made_from |= {"guards": how.settings}
    made_from |= {"window": how.window} if how.window else {}
    return StoredHypotheses(job.decoded or job.out / "decoded", one.name, made_from)


def _transcribe(
    job: Evaluation, sets: Sequence[EvaluationSet], stored: Mapping[tuple[str, str], StoredHypotheses]
) -> None:
    pairs = ((model, one, stored[model.name, one.name]) for model in job.models for one in sets)
    tasks = [Task(model, files.missing(one.utterances), files) for model, one, files in pairs]
    total = len(job.models) * sum(len(one.utterances) for one in sets)
    if here := total - sum(len(task.utterances) for task in tasks):
        warn(f"{here:,} of {total:,} hypotheses are stored from an earlier call")
    tasks = [task for task in tasks if task.utterances]
    transcribe_missing(tasks, job.decoding, job.out / "ctranslate2", _versions(job.decoding.backend))


def _whole(stored: StoredHypotheses, one: EvaluationSet) -> dict[str, Hypothesis]:
    """Return the hypotheses of a whole test set; a missing one must not count as an empty one."""
    found = stored.read()
    if lost := [utterance for utterance in one.utterances if utterance.id not in found]:
        raise UserError(
            f"{stored.folder}: {len(lost)} hypotheses of {one.name} have disappeared since they were written, such as "
            f"{lost[0].id}; does another evaluation use the folder? Run again, only they are transcribed"
        )
    return {utterance.id: found[utterance.id] for utterance in one.utterances}


def _texts(one: EvaluationSet, written: Mapping[str, Hypothesis]) -> list[UtteranceToScore]:
    return one.transcripts({name: hypothesis.text for name, hypothesis in written.items()})


def _write_hypotheses(job: Evaluation, results: Results) -> None:
    """Write `hypotheses.jsonl`: one line for each utterance and model, with alignment and counts."""
    with atomic_file(job.out / "hypotheses.jsonl") as partial, partial.open("w", encoding="utf-8") as stream:
        for model, by_set in results.items():
            for name, result in by_set.items():
                head = {"model": model, "set": name, "profile": result.profile}
                for utterance in result.utterances:
                    stream.write(json.dumps(head | to_row(utterance), ensure_ascii=False) + "\n")


def _scores(
    job: Evaluation,
    sets: Sequence[EvaluationSet],
    stored: Mapping[tuple[str, str], StoredHypotheses],
    results: Results,
    cuts: Mapping[tuple[str, str], Mapping[str, int]],
) -> dict[str, Any]:
    """Return the content of `scores.json`: every figure with its interval, and what it was made from."""
    models = {}
    for model in job.models:
        by_set = results[model.name]
        models[model.name] = found = {
            "path": model.path,
            "group": model.group,
            "identity": model.identity,
            "weights": model.opened.weights_hash,
            **({"language": model.language} if model.language else {}),
            "sets": {
                name: {"made_from": files.made_from, "made_with": files.made_with(), "cut": cuts[of, name]}
                | to_dict(by_set[name])
                for (of, name), files in stored.items()
                if of == model.name
            },
        }
        for figure, prefix in (("mer", ""), ("tolerant", "tolerant_")):
            rates = error_rates(by_set, job.seen, job.unseen, figure)
            found[f"{prefix}averages"] = {name: estimate_to_dict(rates[name]) for name in AVERAGES if name in rates}
            if job.baseline not in (None, model.name):
                against = differences(by_set, results[job.baseline], job.seen, job.unseen, figure)
                found[f"{prefix}minus_baseline"] = {
                    name: estimate_to_dict(one) | {"significant": one.significant} for name, one in against.items()
                }
    how = job.decoding
    tests = {
        one.name: {"manifest": one.manifest, "identity": one.identity}
        | {"utterances": len(one.utterances), "labelled": bool(one.labels)}
        for one in sets
    }
    return {
        "profile": job.profile,
        "tolerant_rules": list(rules_on()),
        "decoding": {
            **{"language": how.language, "beams": how.beams, "backend": how.backend, "precision": how.precision},
            "guards": how.settings,
        },
        "baseline": job.baseline,
        "seen": list(job.seen),
        "unseen": list(job.unseen),
        "test": tests,
        "versions": _versions(),
        "models": models,
    }


def _write_report(job: Evaluation, sets: Sequence[EvaluationSet], results: Results, table: Table) -> None:
    how = job.decoding
    by_id = {(one.name, utterance.id): utterance for one in sets for utterance in one.utterances}
    notes = {
        "Language tag": how.language + table.own_tags,
        "Decoding": ("greedy" if how.beams == 1 else f"{how.beams} beams") + f", {how.precision}",
        "Guards": how.in_words + table.by_guard,
        "Backend": how.backend,
        "Versions": ", ".join(f"{name} {version}" for name, version in _versions(how.backend).items()),
    }
    if get_profile(job.profile).takes_labels:
        labelled = ", ".join(one.name for one in sets if one.labels)
        used = f"normalised references and loanwords of {labelled}"
        notes["Corpus labels"] = used if labelled else "none beside the manifests"
    for one in sets:
        if outside := audio_outside(one.manifest, {utterance.audio.parent for utterance in one.utterances}):
            notes[f"Sound of {one.name}"] = f"from {outside}, outside the test set's folder"
            warn(f"{job.out / 'report.html'}: holds sound from {outside}; mind that before you pass it on")
    write_report(job.out / "report.html", results, table, audio=lambda *key: load_clip(by_id[key]), notes=notes)


def _check(job: Evaluation) -> None:
    """Report mistakes that would otherwise show only after hours of decoding."""
    names = [model.name for model in job.models]
    if job.baseline is not None and job.baseline not in names:
        raise UserError(f"the baseline {job.baseline!r} is none of the models: {', '.join(names)}")
    for option, pair in [("seen", pair) for pair in job.seen] + [("unseen", pair) for pair in job.unseen]:
        if pair not in job.test:
            known = f"{nearest(pair, job.test)}; there are: {', '.join(job.test)}"
            raise UserError(f"{option} names {pair!r}, which is no test set{known}")
    for model in job.models:
        model.folder  # noqa: B018  (raises where the model is not found)
    if not any((job.out / name).exists() for name in ("scores.json", "decoded")):
        for name in ("hypotheses.jsonl", "report.html", "table.json", "table.md", "table.csv", "table.tex"):
            if (job.out / name).exists():
                raise UserError(f"{job.out}: holds a {name} of no evaluation (there is no scores.json); choose --out")


def _versions(backend: str = "") -> dict[str, str]:
    own = ("faster-whisper", "ctranslate2") if backend == FASTER_WHISPER else ()
    return {"python": platform.python_version()} | versions([*_PACKAGES, *own])
