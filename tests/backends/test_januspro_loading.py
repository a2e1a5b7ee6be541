"""A Janus as it is published: bfloat16, with a head of its own of which its configuration does not speak, a byte-level
tokenizer that calls itself another, and padding that only the settings for generation know."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import BlipImageProcessorPil, PreTrainedTokenizerFast

from fedumm.backends.blip_vqa import model as blip
from fedumm.backends.januspro import model as janus
from fedumm.backends.januspro.backend import JanusProBackend
from fedumm.backends.januspro.load import load_pretrained
from fedumm.backends.januspro.prompts import Prompts
from fedumm.backends.registry import backend_for
from fedumm.backends.weights import WeightOptions
from fedumm.checkpoints import resolve_checkpoint
from fedumm.config import CentralConfig
from fedumm.errors import FedummError
from fedumm.features.encode import Encoder, stage_key
from fedumm.features.images import DistinctImages
from tiny_janus_model import PAD as PAD_TOKEN
from tiny_janus_model import SPECIAL, build_model, build_processor

CPU, ELSEWHERE = torch.device("cpu"), torch.device("meta")
"""What is not a CPU is treated as a GPU."""

HEAD, EMBEDDINGS = "lm_head.weight", "model.language_model.embed_tokens.weight"
PAD = SPECIAL.index(PAD_TOKEN)


def edit(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def byte_level(folder: Path, size: int) -> None:
    """A tokenizer of bytes with the special tokens at the same places, in the published tokenizer's words."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())[: size - len(SPECIAL)]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate([*SPECIAL, *alphabet])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    old = json.loads((folder / "tokenizer_config.json").read_text())
    names = ("bos_token", "eos_token", "image_token", "boi_token", "eoi_token")
    extra = {name: old[name] for name in names[2:]}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=old[names[0]], eos_token=old[names[1]], extra_special_tokens=extra
    )
    fast.save_pretrained(folder)
    edit(folder / "tokenizer_config.json", lambda c: c.update(tokenizer_class="LlamaTokenizerFast"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    processor = build_processor()
    model = build_model(processor).bfloat16()
    model.save_pretrained(path)
    processor.save_pretrained(path)
    byte_level(path, len(processor.tokenizer))

    def old(config: dict[str, Any]) -> None:
        del config["tie_word_embeddings"], config["text_config"]["tie_word_embeddings"]

    edit(path / "config.json", old)
    return path


@pytest.fixture
def published(whole: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    shutil.copytree(whole, tmp_path / "janus")
    return tmp_path / "janus"


@pytest.fixture
def said() -> Any:
    """What transformers says meanwhile."""
    records: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record.getMessage())

    ear = Ear(logging.WARNING)
    logging.getLogger("transformers").addHandler(ear)
    yield records
    logging.getLogger("transformers").removeHandler(ear)


def test_it_loads_without_a_warning(published: Path, said: list[str]) -> None:
    load_pretrained(str(published), CPU)
    load_pretrained(str(published), ELSEWHERE)
    assert said == []


def test_its_head_stays_its_own(published: Path) -> None:
    """Also when somebody ties weights again."""
    weights = load_file(published / "model.safetensors")
    model, _ = load_pretrained(str(published), ELSEWHERE)
    model.tie_weights()
    assert torch.equal(model.lm_head.weight, weights[HEAD])
    assert torch.equal(model.get_input_embeddings().weight, weights[EMBEDDINGS])
    assert not torch.equal(weights[HEAD], weights[EMBEDDINGS])
    assert model.config.tie_word_embeddings is model.config.text_config.tie_word_embeddings is False


def test_one_without_a_head_of_its_own_uses_the_embeddings(published: Path) -> None:
    weights = load_file(published / "model.safetensors")
    del weights[HEAD]
    save_file(weights, published / "model.safetensors", {"format": "pt"})
    model, _ = load_pretrained(str(published), CPU)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert torch.equal(model.lm_head.weight, weights[EMBEDDINGS].float())


def test_missing_weights_are_not_made_up(published: Path) -> None:
    weights = load_file(published / "model.safetensors")
    gone = [name for name in weights if "generation_head" in name]
    save_file({n: t for n, t in weights.items() if n not in gone}, published / "model.safetensors", {"format": "pt"})
    with pytest.raises(FedummError, match=r"lacks 4 of a Janus's weights, among them model\.generation_head\.proj_out"):
        load_pretrained(str(published), CPU)


@pytest.mark.parametrize("place", ["generation settings", "their own", "tokenizer", "nowhere"])
def test_where_padding_is_found(published: Path, place: str) -> None:
    if place == "their own":
        edit(
            published / "generation_config.json",
            lambda c: c["generation_kwargs"].update(pad_token_id=c.pop("pad_token_id")),
        )
    elif place == "nowhere":
        edit(published / "generation_config.json", lambda c: c.pop("pad_token_id"))
    elif place == "tokenizer":
        edit(published / "tokenizer_config.json", lambda c: c.update(pad_token="[UNK]"))
    prompts = Prompts(load_pretrained(str(published), CPU)[1])
    expected = {"nowhere": prompts.eos_id, "tokenizer": SPECIAL.index("[UNK]")}.get(place, PAD)
    assert prompts.eos_id != PAD
    assert prompts.pad_id == expected
    assert set(prompts.unconditional(prompts.caption("a red circle"))) == {prompts.bos_id, expected, prompts.boi_id}


def test_padding_of_another_tokenizer_is_refused(published: Path) -> None:
    edit(published / "generation_config.json", lambda c: c.update(pad_token_id=100002))
    with pytest.raises(FedummError, match=r"padding is token 100002 in generation_config\.json, and the tokenizer has"):
        load_pretrained(str(published), CPU)


# precision


def dtypes(module: torch.nn.Module) -> set[torch.dtype]:
    return {t.dtype for t in module.state_dict().values() if t.is_floating_point()}


@pytest.mark.parametrize(
    ("options", "large", "expected"),
    [
        ({}, False, torch.float32),
        ({}, True, torch.bfloat16),
        ({"precision": "bfloat16"}, True, torch.bfloat16),
        ({"precision": "float32"}, True, torch.float32),
        ({"dtype": "float16"}, False, torch.float16),
        ({"dtype": "float32"}, True, torch.float32),
    ],
    ids=str,
)
def test_what_type_the_weights_have_on_a_gpu(
    whole: Path, options: dict[str, Any], large: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr("fedumm.backends.weights.LARGE", 1000)
    config = CentralConfig(model_backend="januspro", **options)
    model, _ = backend_for(config).build_model_and_processor(str(whole), 4, 8, 0.0, ELSEWHERE)
    base = janus.base_of(model).model
    assert dtypes(base.vision_model) == dtypes(base.aligner) == dtypes(base.generation_head) == {expected}
    assert dtypes(base.language_model.embed_tokens) == {expected}
    assert dtypes(base.vqmodel) == {torch.float32}
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}


def test_the_vqmodel_of_a_float32_checkpoint_is_never_rounded(tmp_path: Path) -> None:
    build_model(processor := build_processor()).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    model, _ = load_pretrained(str(tmp_path), CPU, WeightOptions("bfloat16"))
    assert dtypes(model.model.language_model) == {torch.bfloat16}
    for name, tensor in model.model.vqmodel.state_dict().items():
        assert torch.equal(tensor, stored[f"model.vqmodel.{name}"]), name


def test_float32_weights_are_the_checkpoints_own(whole: Path) -> None:
    stored = load_file(whole / "model.safetensors")
    model, _ = load_pretrained(str(whole), ELSEWHERE)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, stored[name].float()), name


def pictures(count: int = 8) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@torch.no_grad()
def codes_in_float64(whole: Path, pixels: torch.Tensor) -> torch.Tensor:
    vq = load_pretrained(str(whole), CPU)[0].model.vqmodel.double()
    latents = vq.quant_conv(vq.encoder(pixels.double())).permute(0, 2, 3, 1).flatten(1, 2)
    book = torch.nn.functional.normalize(vq.quantize.embedding.weight, dim=-1)
    return (latents @ book.T).argmax(-1)


def test_codes_of_a_bfloat16_model_are_those_of_float64(whole: Path) -> None:
    """With and without autocast: a code is what is to be learnt."""
    model, _ = load_pretrained(str(whole), ELSEWHERE, WeightOptions("bfloat16"))
    expected = codes_in_float64(whole, pictures())
    assert torch.equal(janus.encode_for_generation(model, pictures()).long(), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(janus.encode_for_generation(model, pictures()).long(), expected)


@torch.no_grad()
def test_an_image_is_decoded_in_float32(whole: Path) -> None:
    model, _ = load_pretrained(str(whole), ELSEWHERE, WeightOptions("bfloat16"))
    codes = torch.arange(64)[None]
    with torch.autocast("cpu", torch.bfloat16):
        pixels = janus.decode_codes(model, codes)
    assert pixels.dtype == torch.float32
    torch.testing.assert_close(pixels.double(), model.model.vqmodel.double().decode(codes), rtol=1e-3, atol=1e-4)


def test_a_gpu_takes_no_short_cut_to_codes(whole: Path) -> None:
    """Convolutions of float32 tensors would be in TF32, of ten bits, by default."""
    model, _ = load_pretrained(str(whole), ELSEWHERE, WeightOptions("bfloat16"))
    vq, seen = model.model.vqmodel, []

    def look(*_: Any) -> None:
        seen.append((torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()))

    for part in (vq.encoder, vq.decoder):
        part.register_forward_pre_hook(look)
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    janus.decode_codes(model, janus.encode_for_generation(model, pictures(1)).long())
    assert seen == [(False, "highest")] * 2
    assert (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()) == before


def test_codes_made_in_bfloat16_are_never_taken_from_the_cache(whole: Path) -> None:
    backend = JanusProBackend(("t2i",))
    model, processor = load_pretrained(str(whole), ELSEWHERE, WeightOptions("bfloat16"))
    (stage,) = backend.frozen_stages(model, processor)
    assert json.loads(stage.settings)["in"] == "float32"
    encoder = Encoder(stage, torch.int32, CPU, DistinctImages([], lambda *_: None), lambda *_: None)
    now = stage_key(encoder)
    stage.module.bfloat16()
    assert stage_key(encoder) != now


def test_blips_pixels_are_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the library takes by default, which is another where torchvision is there."""
    real = blip.BlipProcessor.from_pretrained

    def other(where: str) -> Any:
        processor = real(where)
        monkeypatch.setattr(processor, "image_processor", "that of torchvision")
        return processor

    monkeypatch.setattr(blip.BlipProcessor, "from_pretrained", other)
    _, processor = blip.load_pretrained("tiny")
    assert type(processor.image_processor) is BlipImageProcessorPil
    folder = resolve_checkpoint("blip_vqa", "tiny")
    assert processor.image_processor.to_dict() == BlipImageProcessorPil.from_pretrained(folder).to_dict()
