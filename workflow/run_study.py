"""Start a study's workflow as soon as nothing that an earlier call started is running."""

import fcntl
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from common.configs import read_yaml
from common.errors import UserError
from common.files import sole_writer
from common.printing import warn
from workflow.plan import Study

_PLUGINS = Path(__file__).parent / "plugins"
_PROFILE = Path(__file__).parent / "profiles" / "default" / "config.yaml"


def run(study: Study, file: Path, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by Snakemake.

    Killing only `make` or only Snakemake leaves the other, a training or an evaluation running. Two at once would do
    all work twice, so this call waits; then it does what the first one has not done.

    Args:
        study: the study.
        file: its file.
        arguments: Snakemake's own.
    """
    root = Path(study.root)
    root.mkdir(parents=True, exist_ok=True)
    lock = os.open(root / ".study.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        warn(f"{root}: another call is running this study; waiting for it")
        fcntl.flock(lock, fcntl.LOCK_EX)
    for folder in map(Path, study.folders):
        for written in (folder, *(folder / run for run in study.runs)):
            _wait_for_writer(written)
    os.set_inheritable(lock, True)  # Snakemake holds the lock as long as it lives
    words = ["-m", "snakemake", "--configfile", str(file), *_profile(), "--logger", "study", *arguments]
    path = os.pathsep.join(filter(None, [str(_PLUGINS), os.environ.get("PYTHONPATH")]))
    os.execve(sys.executable, [sys.executable, *words], os.environ | {"PYTHONPATH": path})


def _profile() -> list[str]:
    """Return the default profile's options as arguments; Snakemake prints a line for a profile that it reads itself."""
    options = read_yaml(_PROFILE).items()
    words = [word for key, value in options for word in (f"--{key}", *(value if isinstance(value, list) else ()))]
    return ["--workflow-profile", "none", *words]


def _wait_for_writer(folder: Path) -> None:
    waiting = False
    while folder.is_dir():
        try:
            with sole_writer(folder):
                return
        except UserError as error:
            if not waiting:
                warn(f"{error}; waiting")
            waiting = True
            time.sleep(1)
