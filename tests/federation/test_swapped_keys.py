"""A server that passes on other keys than those that sites sent, in a whole run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fedumm.errors import FedummError, PublicError
from fedumm.federation.client.host import Host
from fedumm.federation.protocol.mask_messages import MaskSharesRequest
from fedumm.federation.server.masked_round import MaskedRound
from fedumm.secure_aggregation.masks import KeyPair
from support.sites import Sites
from support.toy import lora_options, toy_config

FOUR = tuple(f"site-{number}" for number in range(1, 5))
Change = Callable[[MaskSharesRequest], MaskSharesRequest]


def swapped(monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    """A server that passes on something else than the keys that came."""
    honest = MaskedRound.shares_request

    def dishonest(masked: MaskedRound) -> MaskSharesRequest | None:
        request = honest(masked)
        return change(request) if request else None

    monkeypatch.setattr(MaskedRound, "shares_request", dishonest)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda r: replace(r, keys={**r.keys, "site-2": [KeyPair.new().public, KeyPair.new().public]}),
            "the keys of site-2 may not be its own: the signature is of other keys",
        ),
        (lambda r: replace(r, signatures={}), "may not be its own: they are not signed"),
        (
            lambda r: replace(r, signatures={**r.signatures, "site-2": [b"c" * 5000, b""]}),
            "what site-2 signed with is no certificate and signature",
        ),
        (lambda r: replace(r, signatures={**r.signatures, "site-9": [b"", b""]}), "signatures of others"),
    ],
)
def test_a_server_that_puts_other_keys_in_their_place_gets_no_update(
    change: Change, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whoever looks at the run reads whose keys they are."""
    swapped(monkeypatch, change)
    sites = Sites(tmp_path / "run", None, FOUR, num_rounds=1, secure_aggregation=True, max_train_samples=96)
    with pytest.raises(FedummError, match="0 usable update"):
        sites.run()
    reasons = [r["reason"] for r in sites.records("client")]
    assert sum(why in reason for reason in reasons) >= 3
    assert not any("was not there when masks" in reason for reason in reasons)


def test_a_site_that_can_not_sign_takes_no_part(tmp_path: Path) -> None:
    """It depends on the site alone: no job can leave signatures out."""
    config = toy_config(**lora_options(secure_aggregation=True))
    with pytest.raises(PublicError, match="only with what its startup kit signs"):
        Host("site-1", config, lambda *_: None, tmp_path)
