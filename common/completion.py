"""Completion of the five scripts' options in bash, also after `python`.

    source <(python -m common.completion)

Put this line into ~/.bashrc, after a `cd` to the project's folder. It needs the extra `completion`.
"""

import subprocess
import sys
from pathlib import Path

from common.errors import UserError, run_script
from common.printing import show

SCRIPTS = ("prepare.py", "train.py", "merge.py", "evaluate.py", "analyze.py")
_ROOT = Path(__file__).parent.parent


def script() -> str:
    """Return the script that bash reads.

    Raises:
        UserError: if shtab is not installed.
    """
    parts = []
    for name in SCRIPTS:
        command = [sys.executable, str(_ROOT / name), "--print-completion", "bash"]
        found = subprocess.run(command, capture_output=True, text=True, cwd=_ROOT)
        if found.returncode:
            raise UserError(found.stderr.strip().removeprefix("error: "))
        parts.append(found.stdout)
    parts.append(Path(__file__).with_name("behind_python.bash").read_text(encoding="utf-8"))
    return "\n".join(parts)


if __name__ == "__main__":
    run_script(lambda: show(*script().split("\n")))
