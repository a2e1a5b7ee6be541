"""GenEval's own detector, with small random models: names, thresholds, masks, boxes, texts of colours."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    BatchEncoding,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessorPil,
    SwinConfig,
)

from fedumm.detectors import get_detector
from fedumm.detectors.mask2former_clip import COLORS, Mask2FormerClip
from fedumm.errors import FedummError

LABELS = {0: "dog", 1: "mouse", 2: "cat"}


class Texts:
    """A tokenizer of characters; remembers what it was given."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, texts: list[str], **_: Any) -> BatchEncoding:
        self.seen += texts
        ids = [[0, *[2 + ord(c) % 90 for c in t][:38], 1] for t in texts]
        return BatchEncoding({"input_ids": torch.tensor([row + [1] * (40 - len(row)) for row in ids])})


class FixedFinder(torch.nn.Module):
    """Says what it is told to, whatever it is shown."""

    def __init__(self, logits: torch.Tensor, masks: torch.Tensor) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace(id2label=LABELS)
        self.output = SimpleNamespace(class_queries_logits=logits[None], masks_queries_logits=masks[None])

    def forward(self, pixel_values: torch.Tensor, pixel_mask: torch.Tensor) -> Any:
        return self.output


@pytest.fixture(scope="module")
def clip() -> tuple[Any, Any, Any]:
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**small, "vocab_size": 100, "bos_token_id": 0, "eos_token_id": 1},
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return CLIPModel(config).eval(), images, Texts()


IMAGES = Mask2FormerImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 128}, size_divisor=32)


def test_random_weights_run_from_image_to_colour(clip: Any) -> None:
    torch.manual_seed(0)
    swin = SwinConfig(
        image_size=64, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4], window_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=swin, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_layers=1, decoder_layers=2,
        num_attention_heads=2, num_queries=5, encoder_feedforward_dim=16, dim_feedforward=16, num_labels=3,
        id2label=LABELS, label2id={v: k for k, v in LABELS.items()},
    )  # fmt: skip
    finder = Mask2FormerForUniversalSegmentation(config).eval()
    with torch.no_grad():
        finder.class_predictor.weight.mul_(20)  # sure enough of something to pass the threshold
    detector = Mask2FormerClip((finder, IMAGES), clip)
    (look,) = detector.look([Image.effect_noise((100, 60), 90).convert("RGB")])
    assert look.detections
    for found in look.detections:
        assert found.name in {"dog", "computer mouse", "cat"}
        assert 0 <= found.box[0] < found.box[2] <= 100
        assert 0 <= found.box[1] < found.box[3] <= 60
        assert 0.3 < found.confidence <= 1
        assert look.color_of(found) in COLORS


def test_scores_names_and_boxes_are_those_of_the_masks(clip: Any) -> None:
    """A 64 x 64 image is seen as it is, without padding; masks have a quarter of its size."""
    masks = torch.full((3, 16, 16), -9.0)
    masks[0, 4:8, 2:6] = 9.0
    masks[1, 8:16, 8:16] = 9.0
    logits = torch.tensor([[0.0, 4.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0], [9.0, 0.0, 0.0, 0.0]])
    detector = Mask2FormerClip((FixedFinder(logits, masks), IMAGES), clip)
    (look,) = detector.look([Image.new("RGB", (64, 64))])
    by_name = {d.name: d for d in look.detections}
    assert set(by_name) == {"computer mouse", "dog"}, "COCO's mouse; what has no mask is nothing"
    assert by_name["computer mouse"].box == pytest.approx((8, 16, 24, 32), abs=1)
    assert by_name["dog"].box == pytest.approx((32, 32, 64, 64), abs=1)
    share = logits.softmax(-1)
    assert by_name["dog"].confidence == pytest.approx(share[1, 0].item(), rel=0.05)
    assert by_name["dog"].confidence < share[1, 0].item(), "times how sure the mask is"


def test_masks_cover_the_whole_image(clip: Any) -> None:
    """50 x 70 is scaled to 64 x 96, a multiple of 32, and not padded."""
    masks = torch.full((1, 16, 24), -9.0)
    masks[0, :, 11:24] = 9.0
    detector = Mask2FormerClip((FixedFinder(torch.tensor([[5.0, 0.0, 0.0, 0.0]]), masks), IMAGES), clip)
    (look,) = detector.look([Image.new("RGB", (70, 50))])
    assert look.detections[0].box == pytest.approx((44 / 96 * 70, 0, 70, 50), abs=1)


def test_counting_asks_for_more_confidence() -> None:
    detector = Mask2FormerClip.__new__(Mask2FormerClip)
    assert detector.threshold({"tag": "counting"}) == 0.9
    assert detector.threshold({"tag": "colors"}) == 0.3


def test_a_colour_is_asked_for_with_three_templates_and_nothing_around(
    clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, images, texts = clip
    texts.seen.clear()
    masks = torch.full((1, 16, 16), -9.0)
    masks[0, 4:12, 4:12] = 9.0
    detector = Mask2FormerClip(
        (FixedFinder(torch.tensor([[5.0, 0.0, 0.0, 0.0]]), masks), IMAGES), (model, images, texts)
    )
    picture = Image.new("RGB", (64, 64), (200, 0, 0))
    (look,) = detector.look([picture])
    shown: list[Any] = []
    monkeypatch.setattr(
        detector, "_clip_images", lambda images, **o: shown.extend(images) or clip[1](images=images, **o)
    )
    color = look.color_of(look.detections[0])
    assert texts.seen[:3] == ["a photo of a red dog", "a photo of a red-colored dog", "a photo of a red object"]
    assert len(texts.seen) == 30
    pixels = np.asarray(shown[0])
    assert {tuple(p) for p in pixels.reshape(-1, 3)} <= {(200, 0, 0), (153, 153, 153)}
    assert (pixels == (200, 0, 0)).all(2).mean() > 0.9
    # The same by hand.
    with torch.no_grad():
        seen = model.get_image_features(**clip[1](images=shown, return_tensors="pt"))
        seen = seen if isinstance(seen, torch.Tensor) else seen.pooler_output
        rows = []
        for name in COLORS:
            own = Texts()(
                [f"a photo of a {name} dog", f"a photo of a {name}-colored dog", f"a photo of a {name} object"]
            )
            said = model.get_text_features(**own)
            said = said if isinstance(said, torch.Tensor) else said.pooler_output
            rows.append((said / said.norm(dim=1, keepdim=True)).mean(0))
        angles = torch.stack([row @ seen[0] / row.norm() for row in rows])
    assert color == COLORS[int(angles.argmax())]


def test_missing_weights_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FedummError, match="does not hold what GenEval's detector needs"):
        get_detector("mask2former+clip", str(tmp_path), str(tmp_path))
