"""WordPiece tokens as people write them: and what comes out has the tokens that went in."""

# ruff: noqa: RUF001
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

import make_tiny_blip
import tiny_janus_model
from fedumm.backends.wordpiece import is_wordpiece, wordpiece_decoder
from fedumm.checkpoints import resolve_checkpoint
from support.answers import ANSWERS
from support.tokenizers_of_all_kinds import byte_level, cased_wordpiece

TOKENIZER = cased_wordpiece()
TOKENIZER.decoder = wordpiece_decoder()
NORMAL = """
x-ray|T2-weighted|state-of-art|covid-19|a/b|n/a|24/7|image_01|user@mail.com|x^2|a\\b|5–10|--
don't|women's|it's|couldn't've|o'clock|O'Brien|l'eau|y'all|it’s|the dogs' tails|5'
3.5|1,000|1,000,000|1,000.50|10:30|16:9|12:30:45|1.2.3|-5|.5|5%|12.5%|$5|€5|#1|~5|1/2
(left)|left (right)|[1]|(a) red; (b) blue|f (x)|{x}
no, thanks|left, right|1, 2 and 3|it is red.|it is red. it is big.|what?!|red...|note: red|...
"quoted"|say "red" twice|"stop" and "go"|5" wide|say 'stop' now|it's 'red' and 'blue'|rock 'n' roll|'|"
u.s.|p.m.|e.g. this|example.com|http://a.com/b-c|Dr. Smith|c++|“red”|«non»|¿qué?|black & white|1 + 1 = 2
"""


def through(text: str) -> str:
    decoded: str = TOKENIZER.decode(TOKENIZER.encode(text).ids, skip_special_tokens=False)
    return decoded


@pytest.mark.parametrize("text", [text for line in NORMAL.strip().split("\n") for text in line.split("|")])
def test_what_people_write_comes_back(text: str) -> None:
    assert through(text) == text


def test_most_answers_of_all_kinds_come_back_as_they_were_written() -> None:
    known = [answer for answer in ANSWERS if "[UNK]" not in TOKENIZER.encode(answer).tokens]
    assert sum(through(answer) == answer for answer in known) > 0.85 * len(known)


@given(st.text(st.sampled_from("aB1 -/'’\"“”.,:;!?%$#()[]{}&+=_@^\\–—…«»<>*|~`é5"), max_size=30))
def test_the_text_has_the_tokens_that_it_was_made_of(text: str) -> None:
    ids = TOKENIZER.encode(text).ids
    assert TOKENIZER.encode(TOKENIZER.decode(ids, skip_special_tokens=False)).ids == ids


@pytest.mark.parametrize("mark", ["'", '"', "-", "a'", "( ", "."])
def test_long_texts_end_too(mark: str) -> None:
    """Patterns look far ahead; one that tried everything would run into the test's time limit."""
    ids = TOKENIZER.encode(f"{mark} " * 2000).ids
    assert TOKENIZER.encode(TOKENIZER.decode(ids, skip_special_tokens=False)).ids == ids


@pytest.mark.parametrize(
    ("backend", "made"), [("blip_vqa", make_tiny_blip.build_processor), ("januspro", tiny_janus_model.build_processor)]
)
def test_the_shipped_tokenizers_decode_so_by_themselves(backend: str, made: Any, tmp_path: Path) -> None:
    folder = Path(resolve_checkpoint(backend, "tiny"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert is_wordpiece(tokenizer)
    texts = ["x-ray", "don't know", "3.5", "10:30", "women's", "1,000"]
    assert tokenizer.batch_decode(tokenizer(texts, add_special_tokens=False).input_ids) == texts
    made().save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert json.loads((tmp_path / name).read_text()) == json.loads((folder / name).read_text())


def test_tokenizers_of_other_kinds_keep_their_decoders() -> None:
    class Other:
        backend_tokenizer = byte_level()

    assert not is_wordpiece(Other())
    assert not is_wordpiece(object())
