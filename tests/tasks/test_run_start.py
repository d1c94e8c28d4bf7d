"""A run's folder is checked, and the caller's random numbers are not touched."""

from pathlib import Path

import pytest
import torch

from vjepa2.errors import OutputError
from vjepa2.tasks.run_start import run_folder, running


def test_a_folder_may_be_new_but_is_no_file(tmp_path: Path) -> None:
    assert run_folder(tmp_path / "new") == tmp_path / "new"
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        run_folder(tmp_path / "file")


def test_the_callers_random_numbers_go_on() -> None:
    torch.manual_seed(4)
    wanted = torch.rand(6)
    torch.manual_seed(4)
    first = torch.rand(3)
    with running("cpu") as processes:
        assert processes.is_first and processes.device.type == "cpu"
        torch.manual_seed(0)
        torch.rand(10)
    assert torch.equal(torch.cat([first, torch.rand(3)]), wanted)
