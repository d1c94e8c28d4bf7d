"""One weights file: its parts, the choice of the encoder, probes, bare dictionaries."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from original_files import FAMILIES, Tensors, action, probe_one, v2, wrapped
from vjepa2.errors import CheckpointFormatError, ConfigError
from vjepa2.weights.original import WeightsFile, read_weights_file


def read(content: Any, folder: Path) -> WeightsFile:
    path = folder / "x.pt"
    torch.save(content, path)
    return read_weights_file(path)


def same(found: Tensors, wanted: Tensors) -> bool:
    return set(found) == set(wanted) and all(torch.equal(found[n], wanted[n]) for n in wanted)


class TestParts:
    def test_what_a_training_checkpoint_holds(self, tmp_path: Path) -> None:
        content = {
            **v2().content,
            "scaler": None,
            "loss": 0.25,
            "lr": 1e-4,
            "world_size": 128,
            "name": "run 7",
            "done": True,
            "masks": [1, 2],
        }
        file = read(content, tmp_path)
        assert file.layout == "nested" and file.path == tmp_path / "x.pt"
        assert set(file.parts) == {"encoder", "target_encoder", "predictor"}
        assert same(dict(file.parts["predictor"]), content["predictor"])
        assert file.facts == {
            "epoch": 4,
            "loss": 0.25,
            "lr": 1e-4,
            "world_size": 128,
            "name": "run 7",
            "done": True,
        }
        assert file.others == {
            "opt": "a dictionary of 2 entries",
            "scaler": "nothing",
            "masks": "a list of 2 entries",
        }
        assert file.heads == () and file.encoder_keys == ("target_encoder", "encoder")

    def test_an_old_pickle_without_a_zip_around_it(self, tmp_path: Path) -> None:
        sample = v2()
        path = tmp_path / "old.tar"
        torch.save(sample.content, path, _use_new_zipfile_serialization=False)
        assert same(sample.load(path).state_dict(), sample.expected)

    def test_an_empty_encoder_leaves_the_predictor_readable(self, tmp_path: Path) -> None:
        sample = action()
        file = read({"encoder": {}, "predictor": sample.content["predictor"]}, tmp_path)
        assert file.encoder_keys == ()
        assert same(dict(file.parts["predictor"]), sample.content["predictor"])
        with pytest.raises(CheckpointFormatError, match="holds no encoder"):
            file.checkpoint()

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ([1, 2], "holds a list of 2 entries, not a dictionary"),
            (torch.ones(2), "holds a Tensor, not a dictionary"),
            ({}, "holds a dictionary of 0 entries"),
            (None, "holds nothing"),
            ({"encoder": [torch.ones(1)]}, "'encoder' of .* is a list of 1 entries"),
            ({"encoder": {3: torch.ones(1)}}, "must map names to tensors, but '3' is a Tensor"),
            ({"classifiers": [{"a": 1}]}, r"'classifiers\[0\]' of .*'a' is a int"),
            ({"encoder": {"a": torch.ones(2, device="meta")}}, "must be plain tensors"),
        ],
    )
    def test_refused(self, tmp_path: Path, content: Any, words: str) -> None:
        with pytest.raises(CheckpointFormatError, match=words):
            read(content, tmp_path)

    def test_more_values_than_are_stored(self, tmp_path: Path) -> None:
        """A shape of a million millions over four bytes would keep the check of values busy."""
        wide = torch.ones(1).expand(10**6, 10**6)
        with pytest.raises(CheckpointFormatError, match="more values than are stored"):
            read({"encoder": {"a": wide}}, tmp_path)


class TestChoice:
    ORDER = ("target_encoder", "ema_encoder", "encoder")

    @pytest.mark.parametrize("first", range(3))
    def test_averaged_before_trained(self, tmp_path: Path, first: int) -> None:
        sample = v2()
        present = self.ORDER[first:]
        content = {key: sample.tensors() for key in reversed(present)}
        checkpoint = read({**content, "predictor": {}}, tmp_path).checkpoint()
        assert checkpoint.origin is not None and checkpoint.origin.from_key == present[0]

    def test_asked_for(self, tmp_path: Path) -> None:
        sample = v2()
        file = read(sample.content, tmp_path)
        chosen = file.checkpoint(from_key="encoder")
        assert chosen.origin is not None and chosen.origin.from_key == "encoder"
        name = "encoder.layernorm.bias"
        assert torch.equal(
            chosen.tensors[name], sample.content["encoder"]["module.backbone.norm.bias"]
        )

    @pytest.mark.parametrize("key", ["ema_encoder", "opt", "epoch", "", "Encoder"])
    def test_absent(self, tmp_path: Path, key: str) -> None:
        with pytest.raises(
            CheckpointFormatError, match=rf"no encoder '{key}'\. Encoders there: target_encoder, en"
        ):
            read(v2().content, tmp_path).checkpoint(from_key=key)

    def test_empty(self, tmp_path: Path) -> None:
        content = {**v2().content, "ema_encoder": {}}
        with pytest.raises(CheckpointFormatError, match=r"'ema_encoder' \(it is empty\)"):
            read(content, tmp_path).checkpoint(from_key="ema_encoder")

    @pytest.mark.parametrize("empty", ["target_encoder", "ema_encoder"])
    def test_an_empty_average_is_not_replaced_in_silence(self, tmp_path: Path, empty: str) -> None:
        sample = v2()
        content = {
            "encoder": sample.content["encoder"],
            empty: {},
            "predictor": sample.content["predictor"],
        }
        file = read(content, tmp_path)
        with pytest.raises(CheckpointFormatError, match=f"'{empty}' of .* is empty.*from_key='enc"):
            file.checkpoint()
        chosen = file.checkpoint(from_key="encoder")
        assert chosen.origin is not None and chosen.origin.from_key == "encoder"

    def test_a_damaged_twin_does_not_stand_in_the_way_of_the_one_asked_for(
        self, tmp_path: Path
    ) -> None:
        sample = v2()
        del sample.content["encoder"]["module.backbone.norm.bias"]
        file = read(sample.content, tmp_path)
        with pytest.raises(CheckpointFormatError, match="from_key='target_encoder' or 'encoder'"):
            file.checkpoint()
        assert same(file.checkpoint(from_key="target_encoder").tensors, sample.expected)

    def test_tables_of_positions_may_differ(self, tmp_path: Path) -> None:
        sample = v2()
        sample.content["encoder"]["module.backbone.pos_embed"] = torch.ones(1, 8, 24)
        checkpoint = read(sample.content, tmp_path).checkpoint()
        assert checkpoint.origin is not None and not checkpoint.origin.dropped
        assert same(checkpoint.tensors, sample.expected)


class TestBare:
    @pytest.mark.parametrize("family", ["v2", "v21_deep", "v21_distilled", "action"])
    @pytest.mark.parametrize("ending", [".pt", ".safetensors"])
    def test_our_names(self, tmp_path: Path, family: str, ending: str) -> None:
        sample = FAMILIES[family](0)
        path = tmp_path / f"x{ending}"
        save_file(sample.expected, path) if ending != ".pt" else torch.save(sample.expected, path)
        assert read_weights_file(path).layout == "ours"
        assert same(sample.load(path).state_dict(), sample.expected)

    @pytest.mark.parametrize("ending", [".pt", ".safetensors"])
    def test_metas_names(self, tmp_path: Path, ending: str) -> None:
        sample = v2()
        bare = {**sample.tensors(), **sample.content["predictor"]}
        path = tmp_path / f"x{ending}"
        save_file(bare, path) if ending != ".pt" else torch.save(bare, path)
        assert read_weights_file(path).layout == "meta"
        model = sample.load(path)
        assert same(model.state_dict(), sample.expected)
        assert model.load_report is not None and model.load_report.from_key == ""

    def test_predictor_of_the_second_generation(self, tmp_path: Path) -> None:
        """Its modality vectors have the names of the encoder's."""
        sample = FAMILIES["v21_deep"](0)
        checkpoint = read(sample.content["predictor"], tmp_path).checkpoint()
        own = {n: t for n, t in sample.expected.items() if n.startswith("predictor.")}
        assert same(checkpoint.tensors, own)

    def test_there_are_no_sub_dictionaries_to_choose_from(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointFormatError, match="leave from_key='encoder' out"):
            read(v2().expected, tmp_path).checkpoint(from_key="encoder")


class TestProbes:
    def test_alone_and_bare(self, tmp_path: Path) -> None:
        sample = probe_one()
        for content in (
            sample.content,
            sample.tensors(),
            {**v2().expected, **sample.expected},
            {**v2().tensors(), **sample.tensors()},
        ):
            assert same(read(content, tmp_path).probe().tensors, sample.expected)

    def test_choice(self, tmp_path: Path) -> None:
        first = probe_one().tensors()
        file = read({"classifiers": [first, {n: t + 1 for n, t in first.items()}]}, tmp_path)
        assert torch.equal(
            file.probe(head=1).tensors["classifier.bias"], first["module.linear.bias"] + 1
        )
        with pytest.raises(ConfigError, match="holds 2 probes"):
            file.probe()
        for head in (2, -1):
            with pytest.raises(ConfigError, match=f"head={head} does not exist: .* holds 2"):
                file.probe(head=head)

    def test_classifiers_of_another_kind(self, tmp_path: Path) -> None:
        tensors = probe_one().tensors()
        for value, words in (
            ([], "'classifiers' is a list of 0 entries, not a list of dictionaries"),
            (tensors, f"'classifiers' is a dictionary of {len(tensors)} tensors, not a list"),
            ({0: tensors}, "'classifiers' is a dictionary of 1 entries, not a list"),
            (None, "'classifiers' is nothing, not a list"),
        ):
            with pytest.raises(CheckpointFormatError, match=f"holds no probe: {words}"):
                read({"classifiers": value, "epoch": 1}, tmp_path).probe()

    @pytest.mark.parametrize("content", [v2().content, v2().expected, v2().tensors()])
    def test_none(self, tmp_path: Path, content: Any) -> None:
        with pytest.raises(CheckpointFormatError, match="holds no probe"):
            read(content, tmp_path).probe()


def test_views_of_the_file_and_no_copy(tmp_path: Path) -> None:
    """8 MiB in a fused matrix: reading and naming it must not make 8 MiB of new memory."""
    big = {"module.backbone.blocks.0.attn.qkv.weight": torch.ones(3 * 512, 1365)}
    path = tmp_path / "x.pt"
    torch.save({"encoder": big, "predictor": {}}, path)
    before = anonymous_kib()
    found = read_weights_file(path).checkpoint().tensors
    assert sum(float(tensor.sum()) for tensor in found.values()) == 3 * 512 * 1365
    assert anonymous_kib() - before < 2048


def anonymous_kib() -> int:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1])
    raise AssertionError("no Anonymous line")


def test_wrappers_of_the_action_model(tmp_path: Path) -> None:
    sample = action()
    assert all(not name.startswith("module.backbone.") for name in sample.tensors())
    for key in ("encoder", "predictor"):
        bare = {name.removeprefix("module."): t for name, t in sample.content[key].items()}
        sample.content[key] = wrapped(bare)
    assert same(sample.load(sample.save(tmp_path)).state_dict(), sample.expected)
