"""whisper-medium is analysed within 1 GB."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from backbone.model_folder.architecture import expected_shapes
from backbone.model_folder.write import SafetensorsWriter
from tests.analysis_models import config, write

ROOT = Path(__file__).parent.parent
PROGRAM = """
import re, sys
from pathlib import Path
from analysis.analyze_models import analyze
analyze(sys.argv[2:], sys.argv[1], 5e-5, Path(sys.argv[1]).parent / "out")
print("PEAK", re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def write_medium(folder: Path) -> str:
    """Writes whisper-medium's tensors in float32 as a hole: 3 GB of zeros that take no room on the disk."""
    sizes = config(encoder=24, decoder=24, width=1024) | {
        "encoder_attention_heads": 16, "decoder_attention_heads": 16, "encoder_ffn_dim": 4096, "decoder_ffn_dim": 4096,
        "num_mel_bins": 80, "vocab_size": 51865, "max_source_positions": 1500, "max_target_positions": 448,
    }  # fmt: skip
    shapes = expected_shapes(sizes)
    write(folder, {}, **sizes)
    with SafetensorsWriter(folder / "model.safetensors", shapes, dict.fromkeys(shapes, "F32")):
        pass  # no tensor is written
    return str(folder)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_whisper_medium_fits_in_a_gigabyte(tmp_path: Path):
    folders = [write_medium(tmp_path / name) for name in ("base", "one", "two")]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *folders], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(re.search(r"PEAK (\d+)", done.stdout)[1]) * 1024 < 1e9
