"""Noise for sequences of actions: white, or coloured so that neighbours are alike."""

import torch
from jaxtyping import Float
from torch import Tensor


def coloured_noise(
    count: int, horizon: int, size: int, *, exponent: float, generator: torch.Generator
) -> Float[Tensor, "S L A"]:
    """Normal numbers of variance 1 whose power falls with frequency f as f ** -exponent.

    0 is white; 2 wanders slowly, as hands do (Pinneri et al. 2020). The lowest frequency, a
    constant offset, is as strong as the next one. Device: that of the generator.
    """
    if exponent == 0 or horizon < 3:  # two steps have one frequency beside the offset
        return torch.randn(
            count, horizon, size, generator=generator, device=generator.device, dtype=torch.float32
        )
    frequencies = torch.fft.rfftfreq(horizon, device=generator.device)
    frequencies[0] = frequencies[1]
    weights = frequencies ** (-exponent / 2)
    # The offset, and the highest frequency of an even number of steps, have no imaginary part.
    real_only = torch.zeros_like(weights, dtype=torch.bool)
    real_only[0] = True
    real_only[-1] = horizon % 2 == 0
    drawn = torch.randn(2, count, size, len(weights), generator=generator, device=generator.device)
    real = torch.where(real_only, 2**0.5 * drawn[0], drawn[0])
    imaginary = torch.where(real_only, 0.0, drawn[1])
    power = torch.where(real_only, 2.0, 4.0) * weights.square()
    deviation = power.sum().sqrt() / horizon
    values = torch.fft.irfft(torch.complex(real, imaginary) * weights, n=horizon, dim=-1)
    noise: Tensor = values.transpose(1, 2) / deviation
    return noise
