"""Whisper's log-mel on the device, a batch at a time.

Shape suffixes: B utterances, S samples at 16 kHz, F mel bins, T frames of 10 ms.
"""

import torch
from torch import Tensor, nn
from transformers import WhisperFeatureExtractor

from backbone.window import FRAMES_PER_SECOND, Window

_CPU_ROWS = 4  # utterances at a time, so that intermediate tensors reuse memory


class LogMel(nn.Module):
    """Equals `WhisperFeatureExtractor` to 1e-4, but does not compute the frames of the padding.

    A frame of silence has the same value whatever its place, so only the frames that touch the longest waveform are
    transformed and the rest is filled in.

    Args:
        extractor: of the model.
        window: how much of its audio the model is given.
    """

    def __init__(self, extractor: WhisperFeatureExtractor, window: Window) -> None:
        super().__init__()
        self.n_fft, self.hop = extractor.n_fft, extractor.hop_length
        self.window = window
        filters_FK = torch.as_tensor(extractor.mel_filters, dtype=torch.float32).T.contiguous()
        self.register_buffer("filters_FK", filters_FK, persistent=False)
        self.register_buffer("hann", torch.hann_window(self.n_fft), persistent=False)

    @torch.no_grad()
    def forward(self, waveforms_BS: Tensor) -> Tensor:
        """Log-mel of zero-padded waveforms: (B, S) float32 -> (B, F, T), T the window's frames for S samples."""
        frames = self.window.frames_for(waveforms_BS.shape[1] / (self.hop * FRAMES_PER_SECOND))
        window_samples = frames * self.hop
        waveforms_BS = waveforms_BS[:, :window_samples]
        audible = min(waveforms_BS.shape[1] + self.n_fft, window_samples)
        padded_BS = nn.functional.pad(waveforms_BS, (0, audible - waveforms_BS.shape[1])).float()
        mel_BFT = padded_BS.new_empty(len(padded_BS), len(self.filters_FK), frames)
        rows = _CPU_ROWS if padded_BS.device.type == "cpu" else max(1, len(padded_BS))
        with torch.autocast(padded_BS.device.type, enabled=False):
            for part_BS, out_BFT in zip(padded_BS.split(rows), mel_BFT.split(rows), strict=True):
                self._transform(part_BS, out_BFT)
        return mel_BFT

    def _transform(self, padded_BS: Tensor, out_BFT: Tensor) -> None:
        """Compute the log-mel of the audible part, and fill in the silence after it."""
        spectrum = torch.stft(padded_BS, self.n_fft, self.hop, window=self.hann, return_complex=True)
        power_BKT = spectrum[..., :-1].abs().square_()
        log_BFT = (self.filters_FK @ power_BKT).clamp_(min=1e-10).log10_()
        floor_B11 = log_BFT.amax((1, 2), keepdim=True) - 8.0
        out_BFT[..., : log_BFT.shape[-1]] = torch.maximum(log_BFT, floor_B11, out=log_BFT)
        out_BFT[..., log_BFT.shape[-1] :] = floor_B11.clamp(min=-10.0)  # log10 of the smallest power
        out_BFT.add_(4.0).div_(4.0)
