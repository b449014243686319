"""An encoder sped up for a CPU against transformers' own: outputs, gradients, and where it is left as it is."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from transformers import WhisperConfig, WhisperForConditionalGeneration

from backbone import products
from backbone.attention import EncoderAttention
from backbone.encoder import encode_one_by_one, speed_up
from backbone.window import take_short_windows

onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN")


@pytest.fixture
def avx512(monkeypatch: pytest.MonkeyPatch):
    """Whatever the processor."""
    monkeypatch.setattr(products, "_has_avx512", lambda: True)


def whisper(
    ffn: int = 1024, positions: int = 1024, width: int = 8, vocabulary: int = 300
) -> WhisperForConditionalGeneration:
    """Its widest activation has 4 MB in float32, where nothing else is said."""
    torch.manual_seed(0)
    sizes = {f"{side}_{name}": value for side in ("encoder", "decoder")
             for name, value in {"layers": 2, "attention_heads": 4, "ffn_dim": ffn}.items()}  # fmt: skip
    config = WhisperConfig(
        vocab_size=vocabulary, d_model=width, max_source_positions=positions, use_cache=False, pad_token_id=0, **sizes
    )
    return WhisperForConditionalGeneration(config)


def step(model: WhisperForConditionalGeneration, rows: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
    """The loss of a batch of noise, back-propagated."""
    torch.manual_seed(1)
    mel_BFT = torch.randn(rows, 80, 2 * model.config.max_source_positions).to(dtype)
    tokens_BU = torch.randint(300, (rows, 5))
    loss = model(input_features=mel_BFT, decoder_input_ids=tokens_BU, labels=tokens_BU).loss
    loss.backward()
    return loss.detach()


def rows_seen(model: WhisperForConditionalGeneration) -> list[int]:
    """How many utterances go through the encoder's first layer at a time, from now on."""
    seen: list[int] = []
    model.model.encoder.conv1.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    return seen


@pytest.mark.parametrize("checkpointing", [False, True])
def test_states_and_gradients_are_those_of_the_whole_batch(checkpointing: bool):
    theirs = whisper().double()
    ours = deepcopy(theirs)
    encode_one_by_one(ours)
    ours = deepcopy(ours)  # a copy encodes with its own weights
    if checkpointing:
        ours.train().activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    seen = rows_seen(ours)
    torch.testing.assert_close(step(ours, 3, torch.float64), step(theirs, 3, torch.float64), rtol=1e-12, atol=0)
    assert seen == [1, 1, 1]
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize(
    ("ffn", "positions", "dtype", "expected"),
    [
        (1024, 1024, torch.float32, [1, 1]),
        (1024, 1023, torch.float32, [2]),
        (1024, 1024, torch.bfloat16, [2]),
        (1024, 2048, torch.bfloat16, [1, 1]),
        (512, 250, torch.float32, [2]),  # the demo's
    ],
)
@torch.inference_mode()
def test_only_where_an_utterance_is_large(ffn: int, positions: int, dtype: torch.dtype, expected: list[int]):
    model = whisper(ffn, positions).to(dtype)
    encode_one_by_one(model)
    seen = rows_seen(model)
    model.model.encoder(torch.zeros(2, 80, 2 * positions, dtype=dtype))
    assert seen == expected


@torch.inference_mode()
def test_only_on_a_cpu_and_only_for_states():
    model = whisper()
    encode_one_by_one(model)
    seen = rows_seen(model)
    mel_BFT = torch.randn(2, 80, 2048)
    assert model.model.encoder(mel_BFT[:1]).last_hidden_state.shape == (1, 1024, 8)
    assert len(model.model.encoder(input_features=mel_BFT, output_hidden_states=True).hidden_states) == 3
    model.to("meta").model.encoder(mel_BFT.to("meta"))
    assert seen == [1, 2, 2]


@torch.inference_mode()
def test_a_short_window_is_small_again():
    model = whisper(positions=1024)
    take_short_windows(model)
    encode_one_by_one(model)
    seen = rows_seen(model)
    mel_BFT = torch.randn(2, 80, 2048)
    whole = model.model.encoder(mel_BFT).last_hidden_state
    model.model.encoder(mel_BFT[..., :1000])
    assert seen == [1, 1, 2] and whole.shape == (2, 1024, 8)


@onednn
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_by_onednn_is_the_step_in_double_precision(avx512, checkpointing: bool):
    ours = whisper(width=256)
    exact, plain = deepcopy(ours).double(), deepcopy(ours)
    speed_up(ours)
    speed_up(ours)  # twice is once
    assert ours.state_dict().keys() == exact.state_dict().keys()
    assert all(isinstance(layer.self_attn, EncoderAttention) for layer in ours.model.encoder.layers)
    if checkpointing:
        ours.train().activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    seen = rows_seen(ours)
    losses = [float(step(ours)), float(step(plain)), float(step(exact, dtype=torch.float64))]
    assert seen == [1, 1] and losses[0] == pytest.approx(losses[2], rel=1e-6)
    gradients = [{n: p.grad.double() for n, p in one.named_parameters() if p.grad is not None}
                 for one in (ours, plain, exact)]  # fmt: skip
    assert gradients[0].keys() == gradients[2].keys()
    for name, ours_too, plains, exactly in ((n, *(g[n] for g in gradients)) for n in gradients[0]):
        if exactly.norm() > 1e-9:  # keys have no bias, but a constant added to them would change nothing, either
            assert (ours_too - exactly).norm() < 1e-6 * exactly.norm() + 3 * (plains - exactly).norm(), name


@onednn
@pytest.mark.parametrize("positions", [512, 600, 1100])
def test_attention_in_blocks_is_pytorchs(avx512, positions: int):
    """One block, one and a part, two and a part."""
    model = whisper(width=256, positions=positions)
    exactly = deepcopy(model.model.encoder.layers[0].self_attn).double()
    speed_up(model)
    ours = model.model.encoder.layers[0].self_attn
    found = []
    for attention, dtype in ((ours, torch.float32), (exactly, torch.float64)):
        torch.manual_seed(0)
        states_BTD = (3 * torch.randn(2, positions, 256)).to(dtype).requires_grad_()
        out_BTD, _ = attention(states_BTD)
        torch.manual_seed(1)
        out_BTD.backward(torch.randn(out_BTD.shape).to(dtype))
        found.append([out_BTD.detach(), states_BTD.grad, *(p.grad for p in attention.parameters())])
    for ours_too, exact in zip(*found, strict=True):
        assert (ours_too - exact).norm() < 3e-6 * exact.norm()


@onednn
def test_a_step_keeps_less_for_the_backward_pass(avx512):
    """Of 17 tensors of a position's width that a layer keeps, GELU's output (four) and attention's (one) are gone."""

    def kept(model: WhisperForConditionalGeneration) -> int:
        sizes: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            mel_BFT = torch.randn(1, 80, 2048)
            model.model.encoder(mel_BFT).last_hidden_state.sum().backward()
        return sum(size for place, size in sizes.items() if place not in weights)

    model = whisper(width=256)
    whole = kept(model)
    speed_up(model)
    assert kept(model) == pytest.approx(whole - 2 * 5 * 1024 * 256 * 4, rel=0.02)


@pytest.mark.parametrize("autocast", [False, True])
def test_the_demos_shape_stays_as_it_is_to_the_last_bit(avx512, autocast: bool):
    theirs = whisper(512, 250, 128, 2809)
    ours = deepcopy(theirs)
    speed_up(ours)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        assert torch.equal(step(ours, 5), step(theirs, 5))
    for (name, parameter), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert (parameter.grad is None and other.grad is None) or torch.equal(parameter.grad, other.grad), name


@pytest.mark.parametrize("option", ["activation_dropout", "attention_dropout", "activation_function"])
def test_what_is_not_whispers_own_is_left_to_transformers(avx512, option: str):
    """Dropout is drawn as transformers draws it; another activation stays."""
    theirs = whisper(width=256)
    value = "relu" if option == "activation_function" else 0.2
    theirs = WhisperForConditionalGeneration(WhisperConfig.from_dict(theirs.config.to_dict() | {option: value})).train()
    ours = deepcopy(theirs)
    speed_up(ours)
    losses = []
    for model in (ours, theirs):
        torch.manual_seed(0)
        losses.append(float(step(model, 1)))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
