"""Completion of the five scripts' options in bash, also behind `python`.

    source <(python -m common.completion)

Put this line into ~/.bashrc, behind a `cd` to the project's folder. It needs the extra `completion`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from common.errors import UserError, run_script

SCRIPTS = ("prepare.py", "train.py", "merge.py", "evaluate.py", "analyze.py")
_ROOT = Path(__file__).parent.parent

# bash completes the command `python`; if its first word is one of our scripts, its words go to that script's function.
_BEHIND_PYTHON = """
_crosspair_behind_python() {
  local script=$(basename "${COMP_WORDS[1]:-}")
  case "$script" in
    %s)
      if [ "$COMP_CWORD" -ge 2 ]; then
        COMP_WORDS=("${COMP_WORDS[@]:1}"); COMP_CWORD=$((COMP_CWORD - 1))
        "_shtab_${script//./_}"
        return
      fi ;;
  esac
  COMPREPLY=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o filenames -F _crosspair_behind_python python python3
"""


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
    return "\n".join(parts) + _BEHIND_PYTHON % "|".join(SCRIPTS)


if __name__ == "__main__":
    run_script(lambda: print(script()))
