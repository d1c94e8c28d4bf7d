"""Help comes at once: nothing heavy is imported before a verb runs."""

import subprocess
import sys
import time

import pytest

# Not pydantic: recent releases of typer read the options of a verb with it.
HEAVY = ("torch", "av", "transformers", "numpy", "huggingface_hub", "safetensors", "rich")


def loaded_after(code: str) -> set[str]:
    """Heavy modules that a fresh interpreter holds after `code`, also if that exits."""
    program = (
        f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', *(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stdout.splitlines()[-1].split()[1:])


CALL = "sys.argv = ['vjepa2', {arguments}]; import vjepa2.cli.main; vjepa2.cli.main.run()"


def test_the_command_itself_does_not_need_pydantic() -> None:
    code = "import vjepa2.cli.main; assert 'pydantic' not in sys.modules"
    assert loaded_after(code) == set()


@pytest.mark.parametrize(
    "arguments", ["'--help'", "'--version'", "'embed', '--help'", "'embed', '--outt'", "''"]
)
def test_help_and_wrong_usage_load_nothing_heavy(arguments: str) -> None:
    assert loaded_after(CALL.format(arguments=arguments)) == set()


def test_the_test_can_fail() -> None:
    assert "torch" in loaded_after(CALL.format(arguments="'info'"))
    assert loaded_after("import numpy; sys.exit(0)") == {"numpy"}


def seconds(code: str) -> float:
    """Shortest of five runs, so that a busy machine does not count."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, timeout=60
        )
        times.append(time.perf_counter() - start)
    return min(times)


def test_help_takes_less_than_a_third_of_a_second() -> None:
    help_code = "import sys; " + CALL.format(arguments="'--help'")
    assert seconds(help_code) - seconds("pass") < 0.3
