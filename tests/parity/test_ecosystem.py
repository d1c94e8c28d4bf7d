"""The model inside other people's training tools: Trainer, PEFT, accelerate."""

import copy
from pathlib import Path
from typing import Any

import accelerate
import peft
import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.utils.data import Dataset

from tiny_models import clip, randomise, tiny_config
from vjepa2 import VJEPA2ForVideoClassification, VJEPA2Model
from vjepa2.models.outputs import ImageClassifierOutput

pytestmark = pytest.mark.parity


def make_model(**changes: Any) -> VJEPA2ForVideoClassification:
    return randomise(VJEPA2ForVideoClassification(tiny_config(**changes)))


class Clips(Dataset[dict[str, Tensor]]):
    """Four clips with their labels."""

    def __init__(self) -> None:
        self.pixels = clip(tiny_config(), batch=4)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"pixel_values_videos": self.pixels[index], "labels": torch.tensor(index)}


def arguments(folder: Path, **changes: Any) -> transformers.TrainingArguments:
    return transformers.TrainingArguments(
        str(folder),
        max_steps=2,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        save_strategy="no",
        **changes,
    )


@pytest.mark.parametrize("recompute", [False, True])
def test_trainer(tmp_path: Path, recompute: bool) -> None:
    model = make_model()
    before = copy.deepcopy(model.state_dict())
    trainer = transformers.Trainer(
        model=model,
        args=arguments(tmp_path, gradient_checkpointing=recompute),
        train_dataset=Clips(),
        eval_dataset=Clips(),
    )
    trainer.train()
    assert model.is_gradient_checkpointing == recompute
    changed = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    # Weight decay never reaches the predictor: it has no gradients.
    assert changed == {name for name in before if not name.startswith("vjepa2.predictor.")}
    measured = trainer.evaluate()
    model.eval()
    with torch.no_grad():
        data = Clips()
        wanted = model(data.pixels, torch.arange(4)).loss.item()
    assert measured["eval_loss"] == pytest.approx(wanted, rel=1e-5)
    predictions = trainer.predict(Clips())
    assert predictions.predictions.shape == (4, 5)


def test_trainer_saves_what_we_load(tmp_path: Path) -> None:
    model = make_model()
    trainer = transformers.Trainer(model=model, args=arguments(tmp_path), train_dataset=Clips())
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    # It writes no config.json for a model that is not its own; `save_pretrained` does.
    again = VJEPA2ForVideoClassification.from_pretrained(tmp_path / "saved", config=model.config)
    model.save_pretrained(tmp_path / "own")
    complete = VJEPA2ForVideoClassification.from_pretrained(tmp_path / "own")
    x = clip(model.config)
    with torch.no_grad():
        wanted = model.eval()(x).logits
        torch.testing.assert_close(again(x).logits, wanted)
        torch.testing.assert_close(complete(x).logits, wanted)


def test_peft(tmp_path: Path) -> None:
    """Adapters that name `query` and `value`, as people write them for the port."""
    model = make_model().eval()
    x, labels = clip(model.config), torch.tensor([0, 4])
    with torch.no_grad():
        before = model(x).logits
    wrapped = peft.get_peft_model(
        model,
        peft.LoraConfig(r=2, target_modules=["query", "value"], modules_to_save=["classifier"]),
    )
    adapted = {name for name, part in model.named_modules() if hasattr(part, "lora_A")}
    assert len(adapted) == 2 * (2 + 2)  # two matrices of every block of encoder and predictor
    with torch.no_grad():
        torch.testing.assert_close(wrapped.eval()(x).logits, before)  # nothing learned yet
    wrapped.train()
    optimizer = torch.optim.AdamW([p for p in wrapped.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(3):
        loss = wrapped(x, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    with torch.no_grad():
        learned = wrapped.eval()(x).logits
    assert not torch.allclose(learned, before)
    wrapped.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(make_model(), tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(again(x).logits, learned)
        merged = again.merge_and_unload()
        merged.save_pretrained(tmp_path / "merged")
        merged = VJEPA2ForVideoClassification.from_pretrained(tmp_path / "merged")
        torch.testing.assert_close(merged(x).logits, learned, atol=1e-5, rtol=1e-4)


def test_peft_on_every_projection_reaches_the_patches_too() -> None:
    """The name "proj" is that of attention's output and of the patch embedding."""
    model = make_model()
    x = clip(model.config)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["proj"])).eval()
    patches = model.vjepa2.encoder.embeddings.patch_embeddings
    assert hasattr(patches.proj, "lora_A")
    with torch.no_grad():
        before = wrapped(x).logits
        torch.testing.assert_close(before, make_model().eval()(x).logits)
        nn.init.normal_(patches.proj.lora_B["default"].weight)
        assert not torch.allclose(wrapped(x).logits, before)


def test_peft_with_recomputation_and_a_frozen_base() -> None:
    model = make_model()
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["query"]))
    wrapped.train()(clip(model.config), labels=torch.tensor([0, 4])).loss.backward()
    gradients = [
        (name, parameter.grad)
        for name, parameter in wrapped.named_parameters()
        if "lora_B" in name and "encoder" in name
    ]
    assert len(gradients) == 2
    assert all(gradient is not None and gradient.any() for _, gradient in gradients)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_accelerate(precision: str) -> None:
    """With bf16 accelerate rebuilds every output in float32."""
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = accelerate.Accelerator(cpu=True, mixed_precision=precision)
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loader = torch.utils.data.DataLoader(Clips(), batch_size=2)
    prepared, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    losses = []
    for _ in range(2):
        for batch in loader:
            out = prepared(**batch, output_hidden_states=True)
            assert type(out) is ImageClassifierOutput
            assert out.loss is out["loss"] and out.logits.dtype == torch.float32
            assert {level.dtype for level in out.hidden_states} == {torch.float32}
            accelerator.backward(out.loss)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(out.loss.item())
    assert losses[2] + losses[3] < losses[0] + losses[1]
    assert accelerator.unwrap_model(prepared, keep_fp32_wrapper=False) is model
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("classifier", [False, True])
def test_accelerate_offloading(tmp_path: Path, classifier: bool) -> None:
    """Weights that wait on disk and come in part by part give the same outputs."""
    kind = VJEPA2ForVideoClassification if classifier else VJEPA2Model
    model = randomise(kind(tiny_config())).eval()
    x = clip(model.config)
    with torch.no_grad():
        wanted = model(x, output_hidden_states=True)
    model.save_pretrained(tmp_path)
    streamed = kind.from_pretrained(tmp_path, device_map={"": "disk"})
    assert all(parameter.is_meta for parameter in streamed.parameters())
    with torch.no_grad():
        got = streamed(x, output_hidden_states=True)
    assert got.keys() == wanted.keys()
    torch.testing.assert_close(got[0], wanted[0])
    for one, other in zip(got.hidden_states, wanted.hidden_states, strict=True):
        torch.testing.assert_close(one, other)
