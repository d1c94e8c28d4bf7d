"""The built wheel holds exactly one top-level package and works outside the source tree."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True, timeout=120)
    [built] = out.glob("*.whl")
    return built


def test_top_level_is_exactly_vjepa2(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"vjepa2"}
    assert "vjepa2/py.typed" in names
    assert "vjepa2/assets/motion-tiny/model.safetensors" in names
    assert any(name.endswith("LICENSE") for name in names)


def test_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size < 14 * 2**20


def test_installed_wheel_works_outside_the_tree(wheel: Path, tmp_path: Path) -> None:
    # The dependencies of this environment are visible; the package itself comes from the wheel.
    venv.create(tmp_path / "env", system_site_packages=False, with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    dependencies = next(path for path in sys.path if path.endswith("site-packages"))
    code = (
        f"import sys; sys.path[:0] = [{str(site)!r}]; sys.path.append({dependencies!r})\n"
        "import vjepa2\n"
        f"assert vjepa2.__file__.startswith({str(site)!r}), vjepa2.__file__\n"
        "from vjepa2.cli.main import run\n"
        "sys.argv = ['vjepa2', 'demo', '--out', 'demo', '--json']\n"
        "run()\n"
    )
    done = subprocess.run(
        [str(python), "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "demo").is_dir()
