"""whisper-medium is analysed within 1 GB."""

from __future__ import annotations

import json
import math
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

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
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    sizes = {"d_model": 1024, "encoder_layers": 24, "decoder_layers": 24}
    heads = {"encoder_attention_heads": 16, "decoder_attention_heads": 16}
    config = WhisperConfig(**sizes, **heads, encoder_ffn_dim=4096, decoder_ffn_dim=4096, vocab_size=51865)
    with torch.device("meta"):
        shapes = {name: list(p.shape) for name, p in WhisperForConditionalGeneration(config).named_parameters()}
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    folder.mkdir()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return str(folder)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_whisper_medium_fits_in_a_gigabyte(tmp_path: Path):
    folders = [write_medium(tmp_path / name) for name in ("base", "one", "two")]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *folders], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(re.search(r"PEAK (\d+)", done.stdout)[1]) * 1024 < 1e9
