"""Hide the end of a clip and predict its features from the beginning.

The first three quarters of the time steps are context, the last quarter is the target. With
published weights, replace the configuration by
`AutoModel.from_pretrained("facebook/vjepa2-vitl-fpc64-256")`.

Run: python examples/03_predict_hidden_tokens.py
"""

import torch

from vjepa2 import VJEPA2Config, VJEPA2Model, VJEPA2VideoProcessor
from vjepa2.video.synthetic import make_motion_clip


def main() -> int:
    generator = torch.Generator().manual_seed(0)
    video = make_motion_clip("camera zooms in", num_frames=16, size=(96, 96), generator=generator)

    processor = VJEPA2VideoProcessor(crop_size=64)
    config = VJEPA2Config(
        crop_size=64,
        hidden_size=96,
        num_attention_heads=3,
        num_hidden_layers=4,
        pred_hidden_size=48,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=2,
    )
    torch.manual_seed(0)
    model = VJEPA2Model(config).eval()  # random weights: the numbers mean nothing, the shapes do

    inputs = processor(video, return_tensors="pt")
    t, h, w = model.encoder.grid(inputs["pixel_values_videos"])
    ids = torch.arange(t * h * w)[None]
    context, target = ids[:, : 3 * t // 4 * h * w], ids[:, 3 * t // 4 * h * w :]

    with torch.no_grad():
        outputs = model(**inputs, context_mask=[context], target_mask=[target], mask_index=0)
    predicted = outputs.predictor_output.last_hidden_state
    seen = outputs.predictor_output.target_hidden_state
    error = (predicted - seen).abs().mean().item()
    print(f"grid {t}x{h}x{w}, context {context.shape[1]} tokens, target {target.shape[1]} tokens")
    print(f"predicted {list(predicted.shape)}, mean absolute error {error:.3f}")
    return predicted.shape[1]


if __name__ == "__main__":
    main()
