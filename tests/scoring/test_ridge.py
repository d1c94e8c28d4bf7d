"""Ridge regression among the samples against the normal equations, and its choice of a penalty."""

import torch

from vjepa2.scoring.ridge import PENALTIES, ridge_weights


def samples(noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    known = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    true = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    wanted = known @ true
    return known, wanted + noise * torch.randn(40, 2, generator=generator, dtype=torch.float64)


def slope(rows: torch.Tensor, targets: torch.Tensor, penalty: float) -> torch.Tensor:
    added = penalty * torch.eye(rows.shape[1], dtype=rows.dtype)
    return torch.linalg.solve(rows.T @ rows + added, rows.T @ targets)


def test_the_weights_are_those_of_leave_one_out() -> None:
    """Every penalty is tried by really leaving each sample out."""
    for noise in (0.01, 3.0):
        known, wanted = samples(noise)
        scale = float(torch.linalg.eigvalsh(known @ known.T).clamp(min=0).mean())
        errors = []
        for penalty in PENALTIES:
            error = 0.0
            for left in range(len(known)):
                rest = torch.arange(len(known)) != left
                guess = known[left] @ slope(known[rest], wanted[rest], penalty * scale)
                error += float((guess - wanted[left]).square().sum())
            errors.append(error)
        best = PENALTIES[errors.index(min(errors))]
        found = known.T @ ridge_weights(known @ known.T, wanted)
        torch.testing.assert_close(found, slope(known, wanted, best * scale), atol=1e-8, rtol=1e-6)
