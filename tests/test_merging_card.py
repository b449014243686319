"""The card's figures against those computed from the weights at once, and its lineage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from common.errors import UserError
from merging.command import main
from merging.layout import module_of
from tests.merging_models import whispers  # noqa: F401

PAIRS = ("ko_en", "ja_en", "de_en")


def _merge(root: Path, out: Path, *options: str) -> None:
    main(["ties", "--base", str(root / "base"), "--models", *(str(root / p / "model") for p in PAIRS), *options,
          "--out", str(out)])  # fmt: skip


def _table(card: str, head: str) -> dict[str, list[str]]:
    """The rows of the card's table that begins with a heading, by their first cell."""
    lines = card[card.index(f"| {head} |") :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: rest for first, *rest in cells}


def test_norms_angles_and_conflicts(whispers: Path, tmp_path: Path):  # noqa: F811
    _merge(whispers, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    base = load_file(whispers / "base" / "model.safetensors")
    names = sorted(base)
    vectors = [load_file(path) for path in (*(whispers / p / "model" / "model.safetensors" for p in PAIRS),
                                            tmp_path / "out" / "model.safetensors")]  # fmt: skip
    taus = [torch.cat([(v[name] - base[name]).flatten() for name in names]).double() for v in vectors]
    length = torch.cat([base[name].flatten() for name in names]).double().norm()
    rows = _table(card, "vector")
    assert list(rows) == [*(pair.replace("_", r"\_") for pair in PAIRS), "merged step"]
    for place, (norm, share, cosine) in enumerate(rows.values()):
        assert float(norm) == pytest.approx(taus[place].norm().item(), rel=1e-3)
        assert float(share.rstrip("%")) == pytest.approx(100 * (taus[place].norm() / length).item(), abs=0.006)
        others = [torch.cosine_similarity(taus[place], tau, dim=0).item() for tau in taus[:3] if tau is not taus[place]]
        assert float(cosine) == pytest.approx(sum(others) / len(others), abs=6e-4)

    modules = _table(card, "module")
    for module, (conflicts, _, ratio) in modules.items():
        parts = [torch.cat([(v[name] - base[name]).flatten() for name in names if module_of(name) == module])
                 for v in vectors]  # fmt: skip
        signs = torch.stack(parts[:3]).sign()
        at_odds = ((signs.max(0).values > 0) & (signs.min(0).values < 0)).float().mean().item()
        assert float(conflicts.rstrip("%")) == pytest.approx(100 * at_odds, abs=0.06), module
        mean = sum(part.norm() for part in parts[:3]) / 3
        assert float(ratio) == pytest.approx((parts[3].norm() / mean).item(), abs=0.006), module


def test_modules_cover_every_tensor_of_whisper(whispers: Path):  # noqa: F811
    names = load_file(whispers / "base" / "model.safetensors")
    assert {module_of(name) for name in names} == {
        "embeddings", "final norms", "encoder convolutions", "encoder self-attention", "encoder feed-forward",
        "decoder self-attention", "decoder cross-attention", "decoder feed-forward",
    }  # fmt: skip
    assert module_of("model.decoder.layers.1.final_layer_norm.bias") == "decoder feed-forward"
    assert module_of("model.decoder.layer_norm.bias") == "final norms"


def test_lineage_and_licences(whispers: Path, tmp_path: Path):  # noqa: F811
    root = tmp_path / "models"
    shutil.copytree(whispers, root)
    for folder in (root / "base", *(root / pair / "model" for pair in PAIRS)):
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Card\n")
    _merge(root, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "apache-2.0" and front["base_model"][0] == str(root / "base")
    rows = _table(card, "part")
    assert rows["base"][:2] == [f"`{root / 'base'}`", "apache-2.0"]
    (root / "ja_en" / "model" / "README.md").write_text("---\nlicense: mit\n---\n")
    _merge(root, tmp_path / "out")
    assert "license" not in yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---")[1])


def test_a_recipe_refuses_other_weights_than_it_was_made_with(whispers: Path, tmp_path: Path):  # noqa: F811
    root = tmp_path / "models"
    shutil.copytree(whispers, root)
    _merge(root, tmp_path / "out")
    recipe = str(tmp_path / "out" / "merge_recipe.yaml")
    path = root / "ja_en" / "model" / "model.safetensors"
    weights = load_file(path)
    weights["model.decoder.layers.1.fc1.bias"][7] += 0.25
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"ja_en/model: its weights are not those that the recipe was made with"):
        main(["ties", "--config", recipe, "--out", str(tmp_path / "again")])
    assert not (tmp_path / "again").exists()


def test_a_wrong_base_is_doubted(whispers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):  # noqa: F811
    models = [str(whispers / pair / "model") for pair in PAIRS]
    _merge(whispers, tmp_path / "right")
    assert "warning" not in capsys.readouterr().err
    other = tmp_path / "other"
    shutil.copytree(whispers / "base", other)
    weights = load_file(whispers / "base" / "model.safetensors")
    generator = torch.Generator().manual_seed(5)
    moved = {name: w + 0.2 * torch.randn(w.shape, generator=generator) for name, w in weights.items()}
    save_file(moved, other / "model.safetensors", metadata={"format": "pt"})
    main(["ties", "--base", str(other), "--models", *models, "--out", str(tmp_path / "wrong")])
    assert "is it what they were fine-tuned from?" in capsys.readouterr().err
