"""The public surface is what `__all__` says, sorted, complete and really there."""

import ast
from pathlib import Path

import vjepa2


def test_all_is_sorted_and_complete() -> None:
    assert vjepa2.__all__ == sorted(vjepa2.__all__)
    assert set(vjepa2.__all__) == {*vjepa2._LOCATIONS, "__version__"}
    assert dir(vjepa2) == vjepa2.__all__


def test_every_public_name_resolves_to_its_own_definition() -> None:
    for name, module in vjepa2._LOCATIONS.items():
        value = getattr(vjepa2, name)
        assert value.__name__ == name
        assert value.__module__ == module
        assert value.__doc__


def test_type_checkers_see_the_same_names_as_the_runtime() -> None:
    tree = ast.parse(Path(vjepa2.__file__).read_text())
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == vjepa2._LOCATIONS
