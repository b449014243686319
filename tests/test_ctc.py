"""The auxiliary CTC loss against a sum over all alignments, and its share in the token losses."""

from __future__ import annotations

from itertools import groupby, product

import torch

from backbone.loss import CTCHead, mix

END, TIMESTAMP = 2, 3


def test_equals_the_sum_over_all_alignments():
    torch.manual_seed(0)
    head = CTCHead(width=5, vocabulary=4, end=END).double()
    encoded_BTD = torch.randn(2, 6, 5, dtype=torch.float64)
    labels_BU = torch.tensor([[-100, TIMESTAMP, 0, 1, TIMESTAMP, END], [-100, 1, 1, END, -100, -100]])
    lengths_B = torch.tensor([4 * 320 - 1, 6 * 320 - 1])  # 4 and 6 positions of 20 ms
    losses_B = head(encoded_BTD, lengths_B, labels_BU)
    for row, (positions, text) in enumerate([(4, (0, 1)), (6, (1, 1))]):
        probabilities_TV = head.projection(encoded_BTD[row]).softmax(-1).detach()
        total = 0.0
        for path in product(range(4), repeat=positions):
            if tuple(token for token, _ in groupby(path) if token != END) == text:
                total += float(torch.stack([probabilities_TV[t, token] for t, token in enumerate(path)]).prod())
        torch.testing.assert_close(losses_B[row], -torch.tensor(total).log() / 2, check_dtype=False)


def test_too_little_audio_counts_nothing():
    head = CTCHead(width=5, vocabulary=3, end=END)
    losses_B = head(torch.randn(1, 4, 5), torch.tensor([0]), torch.tensor([[0, 1, END]]))
    assert losses_B.tolist() == [0.0]


def test_mixing_by_hand():
    losses_BU = torch.tensor([[0.0, 1.0, 3.0], [0.0, 2.0, 0.0]])
    labels_BU = torch.tensor([[-100, 0, END], [-100, END, -100]])
    mixed_BU = mix(losses_BU, torch.tensor([10.0, 20.0]), labels_BU, 0.25)
    torch.testing.assert_close(mixed_BU, torch.tensor([[0.0, 3.25, 4.75], [0.0, 6.5, 0.0]]))
