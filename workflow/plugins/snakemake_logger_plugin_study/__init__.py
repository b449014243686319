"""Snakemake's progress in a line a job: what begins, what is done and how far the study is, what failed and why.

`python -m workflow run` puts this folder on Python's path and asks for it: `snakemake --logger study`.
"""

from __future__ import annotations

import sys
from logging import WARNING, LogRecord
from pathlib import Path
from time import monotonic
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

_LAST_LINES = 20


class LogHandler(LogHandlerBase):
    """A log handler that writes to stderr."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Start without any job."""
        self._jobs: dict[int, tuple[str, float]] = {}
        self._finished: list[int] = []
        self._failed = False
        self._uncounted = 0

    def emit(self, record: LogRecord) -> None:
        """Write what a record says of a job, and warnings."""
        event = getattr(record, "event", None)
        handlers = {
            LogEvent.RUN_INFO: self._plan,
            LogEvent.JOB_INFO: self._begin,
            LogEvent.JOB_FINISHED: self._note,
            LogEvent.PROGRESS: self._progress,
            LogEvent.JOB_ERROR: self._error,
        }
        if event in handlers:
            handlers[event](record)
        elif record.levelno >= WARNING and not self._failed and getattr(record, "exception", "") != "RuleException":
            _write(record.getMessage())

    def _plan(self, record: LogRecord) -> None:
        stats: dict[str, Any] = record.stats  # type: ignore[attr-defined]
        self._uncounted = stats.get("all", 0)  # the goal itself does nothing
        parts = ", ".join(f"{rule} {count}" for rule, count in stats.items() if rule not in ("all", "total"))
        _write(f"{stats['total'] - self._uncounted} jobs: {parts}")

    def _begin(self, record: LogRecord) -> None:
        message = record.rule_msg or record.rule_name  # type: ignore[attr-defined]
        self._jobs[record.jobid] = (message, monotonic())  # type: ignore[attr-defined]
        if record.rule_name != "all":  # type: ignore[attr-defined]
            _write(f"         begins  {message}")

    def _note(self, record: LogRecord) -> None:
        self._finished.append(record.job_id)  # type: ignore[attr-defined]

    def _progress(self, record: LogRecord) -> None:
        share = f"{record.done} of {record.total - self._uncounted}"  # type: ignore[attr-defined]
        for message, began in (self._jobs[job] for job in self._finished):
            if message != "all":
                _write(f"{share:>10} done  {message}, {monotonic() - began:.0f} s")
        self._finished.clear()

    def _error(self, record: LogRecord) -> None:
        self._failed = True
        message, _ = self._jobs.get(record.jobid, (record.rule_name, 0.0))  # type: ignore[attr-defined]
        _write(f"        failed  {message}")
        for log in record.log:  # type: ignore[attr-defined]
            lines = Path(log).read_text(encoding="utf-8", errors="replace").splitlines() if Path(log).is_file() else []
            _write("\n".join([f"{log}:", *(f"  {line}" for line in lines[-_LAST_LINES:])]))


def _write(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
