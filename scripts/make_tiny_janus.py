#!/usr/bin/env python
"""Make the checkpoint ``tiny`` for ``januspro``: a Janus of about 2.5 M parameters, from scratch.

    python scripts/make_tiny_janus.py --out src/fedumm/checkpoints/tiny_januspro

It is trained on the project's own scenes (``fedumm.data.shapes``), and only on combinations of
the part ``known``: fine-tuning on ``--dataset shapes`` finds colours on shapes that it has not seen.
First the VQ-VAE learns to code images, and the understanding tower to say what is in each patch; both
then stay as they are, while language model, aligners and heads learn to answer and to draw. The
result is written as float16 in the native layout of ``deepseek-community/Janus-Pro-1B``.

The run is seeded and uses two threads.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.utils import clip_grad_norm_
from transformers import JanusForConditionalGeneration, JanusProcessor

from fedumm.backends.januspro.backend import JanusProBackend
from fedumm.backends.januspro.model import answer_loss, image_losses, question_states
from fedumm.backends.januspro.prompts import Prompts
from fedumm.data.shapes.compose import EXTRA_SHAPES, SHAPES, caption
from fedumm.data.shapes.questions import ask
from fedumm.data.shapes.scene import COLORS
from fedumm.detectors.exact import ExactDetector
from fedumm.generation import score_images
from fedumm.generation.prompts import shapes_prompts
from fedumm.metrics.geneval import summarise
from fedumm.tasks import T2I
from tiny_janus_model import CODES, build_model, build_processor, enlarge_normalised_states
from tiny_janus_scenes import Bank


class Trainer:
    """AdamW with one cycle of the learning rate and clipped gradients."""

    def __init__(self, weights: Sequence[torch.nn.Parameter], lr: float, steps: int) -> None:
        self.weights, self.start = list(weights), time.monotonic()
        self.optimizer = torch.optim.AdamW(self.weights, lr=lr, betas=(0.9, 0.95), weight_decay=0.01, fused=True)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, lr, steps, pct_start=0.1)

    def step(self, loss: torch.Tensor) -> None:
        """Update the weights."""
        loss.backward()
        clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()

    def say(self, text: str) -> None:
        """Print with the time."""
        print(f"{text}  {time.monotonic() - self.start:.0f} s", flush=True)


def _quantise(vq: Any, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Nearest codes by angle: quantised latents with the gradient passed straight through, loss, and indices."""
    flat = F.normalize(latents, dim=1).permute(0, 2, 3, 1)
    codebook = F.normalize(vq.quantize.embedding.weight, dim=-1)
    index = (flat.flatten(0, 2) @ codebook.T).argmax(-1)
    chosen = codebook[index].view_as(flat)
    loss = F.mse_loss(chosen, flat.detach()) + 0.25 * F.mse_loss(flat, chosen.detach())
    return (flat + (chosen - flat).detach()).permute(0, 3, 1, 2), loss, index


def train_vq(model: JanusForConditionalGeneration, train: Bank, test: Bank, steps: int, lr: float, seed: int) -> None:
    """Teach the VQ-VAE to give images back; codes that nobody uses are moved to where latents are."""
    vq = model.model.vqmodel.to(memory_format=torch.channels_last)
    trainer, rng = Trainer(list(vq.parameters()), lr, steps), np.random.default_rng([seed, 1])
    used = torch.zeros(CODES)

    def reconstruct(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        latents = vq.quant_conv(vq.encoder(pixels.contiguous(memory_format=torch.channels_last)))
        quantised, loss, index = _quantise(vq, latents)
        return vq.decoder(vq.post_quant_conv(quantised)), loss, index, latents

    for step in range(1, steps + 1):
        pixels = train.pixels[torch.from_numpy(rng.integers(len(train.scenes), size=32))].float()
        image, loss, index, latents = reconstruct(pixels)
        trainer.step(F.l1_loss(image, pixels) + F.mse_loss(image, pixels) + loss)
        used += torch.bincount(index, minlength=CODES)
        if step % 100 == 1 and step <= 0.6 * steps:
            _revive(vq, used, latents.detach(), rng)
            used.zero_()
        if step % 250 == 0:
            with torch.inference_mode():
                image, _, index, _ = reconstruct(test.pixels[:200].float())
                error = (image - test.pixels[:200].float()).abs().mean()
            trainer.say(f"vq {step}: mean absolute error {error:.4f} of 2, {len(index.unique())} codes in use")


@torch.no_grad()
def _revive(vq: Any, used: torch.Tensor, latents: torch.Tensor, rng: np.random.Generator) -> None:
    flat = F.normalize(latents, dim=1).permute(0, 2, 3, 1).flatten(0, 2)
    dead = torch.nonzero(used == 0)[:, 0]
    rows = torch.from_numpy(rng.choice(len(flat), len(dead), replace=len(dead) > len(flat)))
    vq.quantize.embedding.weight[dead] = flat[rows]


def train_tower(
    model: JanusForConditionalGeneration, train: Bank, test: Bank, steps: int, lr: float, seed: int
) -> None:
    """Teach the tower to say what is in each patch, through linear heads that are thrown away.

    Three images in four have their colours mixed at random and are asked for shapes only: what a shape
    is does not depend on its colour, and the combinations held back are recognised, too.
    """
    tower = model.model.vision_model
    labels, held = train.patches(), test.patches()
    heads = torch.nn.ModuleList([torch.nn.Linear(96, 1 + len(names)) for names in (SHAPES, COLORS)])
    trainer = Trainer([*tower.parameters(), *heads.parameters()], lr, steps)
    rng = np.random.default_rng([seed, 2])

    def logits(pixels: torch.Tensor) -> list[torch.Tensor]:
        states = tower(pixels.float()).last_hidden_state
        return [head(states).transpose(1, 2) for head in heads]

    size, mixed = 64, 48
    for step in range(1, steps + 1):
        rows = torch.from_numpy(rng.integers(len(train.scenes), size=size))
        truth, pixels = labels[rows], train.pixels[rows].float()
        mixes = rng.normal(size=(mixed, 3, 3)).astype(np.float32)
        mixes /= np.abs(mixes).sum(2, keepdims=True)
        pixels[:mixed] = torch.einsum("bij,bjhw->bihw", torch.from_numpy(mixes), pixels[:mixed])
        shape, color = logits(pixels)
        trainer.step(F.cross_entropy(shape, truth[:, 0]) + F.cross_entropy(color[mixed:], truth[mixed:, 1]))
        if step % 250 == 0:
            with torch.inference_mode():
                named = [own.argmax(1) for own in logits(test.pixels)]
                shown = held[:, 0] > 0
                right = [(n == held[:, i])[shown].float().mean() for i, n in enumerate(named)]
            trainer.say(f"tower {step}: patches with a shape right: shape {right[0]:.3f}, colour {right[1]:.3f}")


class Texts:
    """Batches of questions and of captions on a bank's scenes."""

    def __init__(self, prompts: Prompts, bank: Bank, seed: int) -> None:
        self.prompts, self.bank, self.rng = prompts, bank, np.random.default_rng([seed, 3])

    def questions(self, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[str]]:
        """Ids and labels, padded on the right, features, and answers' types."""
        rows = self.rng.integers(len(self.bank.scenes), size=size)
        ids, labels, kinds = [], [], []
        for row in rows:
            (question,) = ask(self.rng, self.bank.scenes[row], 1)
            prompt = self.prompts.with_image(self.prompts.question(question.text))
            answer = list(self.prompts.answer(question.answer, 16))
            ids.append(prompt + answer[:-1])
            labels.append([-100] * (len(prompt) - 1) + answer)
            kinds.append(question.answer_type)
        longest = max(map(len, ids))
        pad = [longest - len(i) for i in ids]
        return (
            torch.tensor([i + [0] * p for i, p in zip(ids, pad, strict=True)]),
            torch.tensor([i + [-100] * p for i, p in zip(labels, pad, strict=True)]),
            self.bank.features[rows].float(),
            kinds,
        )

    def captions(self, size: int, drop: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Ids padded on the left, their mask, and codes."""
        rows = self.rng.integers(len(self.bank.scenes), size=size)
        ids = []
        for row in rows:
            text = caption(self.bank.scenes[row], bool(self.rng.integers(2)))["prompt"]
            prompt = self.prompts.caption(text)
            ids.append(self.prompts.unconditional(prompt) if self.rng.random() < drop else prompt)
        longest = max(map(len, ids))
        padded = torch.tensor([[0] * (longest - len(i)) + list(i) for i in ids])
        mask = torch.tensor([[0] * (longest - len(i)) + [1] * len(i) for i in ids])
        return padded, mask, self.bank.codes[rows].long()


def train_language(
    model: JanusForConditionalGeneration, processor: Any, train: Bank, test: Bank, steps: int, lr: float, seed: int,
    out: Path,
) -> None:  # fmt: skip
    """Teach everything that is not frozen by now to answer and to draw."""
    janus = model.model
    modules = [
        janus.language_model, model.lm_head, janus.aligner,
        janus.generation_embeddings, janus.generation_aligner, janus.generation_head,
    ]  # fmt: skip
    trainer = Trainer([p for module in modules for p in module.parameters()], lr, steps)
    prompts = Prompts(processor)
    texts, held = Texts(prompts, train, seed), Texts(prompts, test, seed + 1)
    for step in range(1, steps + 1):
        ids, labels, features, _ = texts.questions(32)
        said = answer_loss(model, ids, labels, janus.aligner(features))
        drawn = image_losses(model, *texts.captions(64, drop=0.1)).mean()
        trainer.step(said + drawn)
        if step % 250 == 0:
            shown = "  ".join(f"{kind} {value:.3f}" for kind, value in accuracy(model, held, 4).items())
            with torch.inference_mode():
                loss = image_losses(model, *held.captions(200, drop=0.0)).mean()
            trainer.say(f"language {step}: loss {said:.3f} {drawn:.3f}, held out: {loss:.3f} nats a code  {shown}")
        if step % 500 == 0:
            trainer.say(f"GenEval: {drawing(model, processor)}")
            model.save_pretrained(out)


@torch.inference_mode()
def accuracy(model: JanusForConditionalGeneration, texts: Texts, count: int) -> dict[str, float]:
    """Share of answers whose first token is right, by type."""
    hits: dict[str, list[bool]] = {}
    for _ in range(count):
        ids, labels, features, kinds = texts.questions(100)
        states = question_states(model, ids, model.model.aligner(features), use_cache=False)
        first = (labels != -100).int().argmax(1)
        rows = torch.arange(len(ids))
        right = model.lm_head(states[rows, first]).argmax(-1) == labels[rows, first]
        for kind, hit in zip(kinds, right.tolist(), strict=True):
            hits.setdefault(kind, []).append(hit)
    return {kind: sum(h) / len(h) for kind, h in sorted(hits.items())}


def drawing(model: JanusForConditionalGeneration, processor: Any) -> str:
    """GenEval by category, on captions to test with."""
    backend, prompts = JanusProBackend((T2I.name,)), shapes_prompts(96)
    processor.context = 512
    images = backend.draw(
        model, processor, [prompt["prompt"] for prompt in prompts], range(len(prompts)), torch.device("cpu")
    )
    verdicts = score_images(images, prompts, ExactDetector())
    result = summarise((prompt["tag"], v.correct) for prompt, v in zip(prompts, verdicts, strict=True))
    return "  ".join(f"{tag} {share:.2f}" for tag, (share, _) in result.categories.items())


def stages(args: argparse.Namespace, model: JanusForConditionalGeneration, processor: JanusProcessor) -> Iterator[str]:
    """Train part after part; yields the name of what is done."""
    test = Bank(processor, 600, args.seed + 1, "test")
    if args.frozen:
        made = JanusForConditionalGeneration.from_pretrained(args.frozen, dtype=torch.float32).model
        model.model.vqmodel.load_state_dict(made.vqmodel.state_dict())
        model.model.vision_model.load_state_dict(made.vision_model.state_dict())
    else:
        train = Bank(processor, args.bank, args.seed, "known")
        train_vq(model, train, test, args.vq_steps, args.vq_lr, args.seed)
        yield "vq"
        train_tower(model, train, test, args.tower_steps, args.tower_lr, args.seed)
        yield "tower"
    # The language model learns many more scenes by heart than the others; and with few shapes alone it
    # would learn which colours go with which, and not to combine them.
    train = Bank(processor, args.language_bank, args.seed, "known", (*SHAPES, *EXTRA_SHAPES))
    for bank in (train, test):
        bank.encode(model)
    torch.manual_seed(args.seed)
    train_language(model, processor, train, test, args.steps, args.lr, args.seed, args.out)
    yield "language"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bank", type=int, default=12000, help="scenes for the VQ-VAE and the tower")
    parser.add_argument("--language_bank", type=int, default=40000, help="scenes for the language model")
    parser.add_argument("--frozen", default="", help="take VQ-VAE and tower from this folder, made before with --out")
    parser.add_argument("--vq_steps", type=int, default=3000)
    parser.add_argument("--vq_lr", type=float, default=1e-3)
    parser.add_argument("--tower_steps", type=int, default=5000)
    parser.add_argument("--tower_lr", type=float, default=1e-3)
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--enlarge", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(2)  # the order of sums, and so the result, does not depend on the number of cores
    torch.manual_seed(args.seed)
    processor = build_processor()
    model = build_model(processor)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(processor.tokenizer)} tokens", flush=True)
    for _ in stages(args, model, processor):
        model.save_pretrained(args.out)
    enlarge_normalised_states(model, args.enlarge)
    model.half().save_pretrained(args.out)
    processor.save_pretrained(args.out)


if __name__ == "__main__":
    main()
