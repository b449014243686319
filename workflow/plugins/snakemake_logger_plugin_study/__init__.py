"""Snakemake's progress, a line for each event: what begins, what is done and how far the study is, what failed and why.

`python -m workflow run` puts this folder on Python's path and asks for it: `snakemake --logger study`.
"""

from logging import WARNING
from pathlib import Path
from time import monotonic
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from common.printing import warn

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

    def emit(self, record: Any) -> None:
        """Write what a record says of a job, and warnings."""
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO:
            self._uncounted = record.stats.get("all", 0)  # the goal itself does nothing
            parts = (f"{rule} {count}" for rule, count in record.stats.items() if rule not in ("all", "total"))
            warn(f"{record.stats['total'] - self._uncounted} jobs: {', '.join(parts)}")
        elif event == LogEvent.JOB_INFO:
            message = record.rule_msg or record.rule_name
            self._jobs[record.jobid] = (message, monotonic())
            if record.rule_name != "all":
                warn(f"         begins  {message}")
        elif event == LogEvent.JOB_FINISHED:
            self._finished.append(record.job_id)
        elif event == LogEvent.PROGRESS:
            share = f"{record.done} of {record.total - self._uncounted}"
            for message, began in (self._jobs[job] for job in self._finished):
                if message != "all":
                    warn(f"{share:>10} done  {message}, {monotonic() - began:.0f} s")
            self._finished.clear()
        elif event == LogEvent.JOB_ERROR:
            self._failed = True
            message, _ = self._jobs.get(record.jobid, (record.rule_name, 0.0))
            warn(f"        failed  {message}")
            for log in (Path(log) for log in record.log):
                lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
                warn(f"{log}:", *(f"  {line}" for line in lines[-_LAST_LINES:]))
        elif record.levelno >= WARNING and not self._failed and getattr(record, "exception", "") != "RuleException":
            warn(*record.getMessage().split("\n"))
