"""Libraries that train models take ours as they take the port's: Trainer and PEFT."""

from pathlib import Path

import peft
import pytest
import torch
import transformers
from torch import Tensor

from tiny_models import clip, tiny_config
from vjepa2 import VJEPA2ForVideoClassification

pytestmark = pytest.mark.parity


class Clips(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Four random clips with labels."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        pixels = clip(tiny_config(), batch=1, seed=index)[0]
        return {"pixel_values_videos": pixels, "labels": torch.tensor(index)}


@pytest.mark.filterwarnings("ignore:.*pin_memory.*")
@pytest.mark.parametrize("recompute", [False, True])
def test_trainer_lowers_the_loss(tmp_path: Path, recompute: bool) -> None:
    model = VJEPA2ForVideoClassification(tiny_config())
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=12,
        learning_rate=3e-3,
        per_device_train_batch_size=4,
        gradient_checkpointing=recompute,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=Clips())
    before = trainer.evaluate(Clips())["eval_loss"]
    trainer.train()
    assert trainer.evaluate(Clips())["eval_loss"] < 0.8 * before
    assert model.is_gradient_checkpointing is recompute
    model.save_pretrained(tmp_path / "tuned")
    again = VJEPA2ForVideoClassification.from_pretrained(tmp_path / "tuned")
    x = clip(model.config)
    torch.testing.assert_close(again(x).logits, model.eval()(x).logits)


def test_adapters_on_query_and_value(tmp_path: Path) -> None:
    model = VJEPA2ForVideoClassification(tiny_config()).eval()
    x = clip(model.config)
    plain = model(x).logits.detach()
    config = peft.LoraConfig(target_modules=["query", "value"], r=2, init_lora_weights=False)
    adapted = peft.get_peft_model(model, config).eval()
    expected = adapted(x).logits.detach()
    assert not torch.allclose(expected, plain)
    adapted.save_pretrained(tmp_path / "adapter")
    merged = adapted.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    again = VJEPA2ForVideoClassification.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(again(x).logits, expected, rtol=1e-4, atol=1e-5)
