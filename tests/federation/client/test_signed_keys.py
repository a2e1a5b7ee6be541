"""Keys of masked sums that a server puts in the place of a site's, or has kept of an earlier try, are refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from fedumm.config import FederateConfig
from fedumm.errors import PublicError
from fedumm.federation.client.masking import Masking
from fedumm.federation.protocol.mask_messages import MaskKeysRequest, MaskSharesRequest, UnmaskRequest
from fedumm.federation.protocol.messages import RoundTask, TensorPayload
from fedumm.federation.runners.flare.site_identity import SiteIdentity, read_identity
from fedumm.secure_aggregation.masks import KeyPair
from fedumm.secure_aggregation.secret_sharing import SHARE, join
from support.certificates import DAY, certificate, der, key_of, write_startup

SITES = ("a", "b", "c", "d", "e")
ROWS = dict.fromkeys(SITES, 10)
CONFIG = FederateConfig(model_backend="blip_vqa", dataset="easy_vqa", num_clients=5, secure_aggregation=True)
PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)


def identity_of(
    site: str, run: str = "run", own: x509.Certificate | None = None, owner: str = "", root: str = "root"
) -> SiteIdentity:
    """Of whoever has the key of ``owner``: it need not be the site's own."""
    shown = own or certificate(site, owner=owner)
    return SiteIdentity(run, key_of(owner or site), shown, certificate(root, root=root, authority=True), ["server"])


class Try:
    """Five sites that have made keys for a round."""

    def __init__(self, folder: Path, number: int = 7, run: str = "run", sites: tuple[str, ...] = SITES) -> None:
        self.hosts = {s: Masking(s, CONFIG, folder / s, identity_of(s, run)) for s in sites}
        asked = MaskKeysRequest(number, {s: [s] for s in sites})
        answers = [own.keys(asked) for own in self.hosts.values()]
        self.keys = {s: pair for answer in answers for s, pair in answer.keys.items()}
        self.signatures = {s: signed for answer in answers for s, signed in answer.signatures.items()}
        self.asked = MaskSharesRequest(number, self.keys, len(sites) // 2 + 1, self.signatures)


def new_pair() -> list[bytes]:
    return [KeyPair.new().public, KeyPair.new().public]


def test_it_is_the_kits_key_that_signs_the_run_the_round_the_site_and_both_keys(tmp_path: Path) -> None:
    """Verified without a line of ours."""
    own = Try(tmp_path)
    shown, signature = own.signatures["b"]
    key = x509.load_der_x509_certificate(shown).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.public_numbers() == key_of("b").public_key().public_numbers()
    sealing, masking = (key.hex() for key in own.keys["b"])
    said = f'["fedumm keys for masks", "run", 7, "b", "{sealing}", "{masking}"]'
    key.verify(signature, said.encode(), PSS, hashes.SHA256())
    with pytest.raises(InvalidSignature):
        key.verify(signature, said.replace(" 7,", " 8,").encode(), PSS, hashes.SHA256())
    assert own.hosts["a"].shares(own.asked).shares["a"].keys() == set("bcde")


def signed(**given: Any) -> Callable[[Try, Path], MaskSharesRequest]:
    """Keys that somebody else has made and signed as those of b."""

    def change(own: Try, folder: Path) -> MaskSharesRequest:
        host = Masking("b", CONFIG, folder / "other", identity_of("b", **given))
        made = host.keys(MaskKeysRequest(7, {"b": ["b"]}))
        return replace(own.asked, keys={**own.keys, **made.keys}, signatures={**own.signatures, **made.signatures})

    return change


SWAPS: dict[str, tuple[Callable[[Try, Path], MaskSharesRequest], str]] = {
    "keys of the server's": (lambda own, _: replace(own.asked, keys={**own.keys, "b": new_pair()}), "other keys"),
    "one key of the server's": (
        lambda own, _: replace(own.asked, keys={**own.keys, "b": [own.keys["b"][0], KeyPair.new().public]}),
        "other keys",
    ),
    "both in the other order": (
        lambda own, _: replace(own.asked, keys={**own.keys, "b": own.keys["b"][::-1]}), "other keys",
    ),
    "no signature": (
        lambda own, _: replace(own.asked, signatures={s: x for s, x in own.signatures.items() if s != "b"}),
        "not signed",
    ),
    "no signature of anybody": (lambda own, _: replace(own.asked, signatures={}), "not signed"),
    "another's signature": (
        lambda own, _: replace(own.asked, signatures={**own.signatures, "b": own.signatures["c"]}), "another name",
    ),
    "its certificate with another's signature": (
        lambda own, _: replace(
            own.asked, signatures={**own.signatures, "b": [own.signatures["b"][0], own.signatures["c"][1]]}
        ),
        "other keys",
    ),
    "of another round": (
        lambda own, folder: replace(
            own.asked,
            keys={**own.keys, "b": (old := Try(folder / "old", number=6)).keys["b"]},
            signatures={**own.signatures, "b": old.signatures["b"]},
        ),
        "another round",
    ),
    "of another run": (signed(run="other"), "another run"),
    "of another root": (signed(own=certificate("b", root="false root")), "not of this federation"),
    "of another root of the same name": (
        signed(own=certificate("b", root="false root", issuer="root")), "not of this federation",
    ),
    "over": (signed(own=certificate("b", since=-2 * DAY, until=-timedelta(seconds=5))), "not valid today"),
    "not yet": (signed(own=certificate("b", since=timedelta(hours=1))), "not valid today"),
    "another site's certificate": (signed(own=certificate("c"), owner="c"), "another name"),
    "the server's": (signed(own=certificate("server"), owner="server"), "another name"),
    "an administrator's": (signed(own=certificate("b", role="project_admin")), "none of a site"),
    "the server's role": (signed(own=certificate("b", role="server")), "none of a site"),
    "one that may issue others": (signed(own=certificate("b", authority=True)), "none of a site"),
    "no certificate": (
        lambda own, _: replace(own.asked, signatures={**own.signatures, "b": [b"0" * 99, b"1" * 256]}),
        "can't be read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", SWAPS)
def test_no_share_is_given_for_keys_that_are_not_signed_by_their_site(what: str, tmp_path: Path) -> None:
    change, why = SWAPS[what]
    own = Try(tmp_path)
    with pytest.raises(PublicError, match=f"the keys of [b-e] may not be its own: .*{why}"):
        own.hosts["a"].shares(change(own, tmp_path))


def test_the_servers_certificate_is_no_client_of_that_name() -> None:
    """It is like a site's in all but the name, which the kit tells."""
    assert "none of a site" in identity_of("a").problem("server", b"x", identity_of("server").sign(b"x"))
    assert identity_of("a").problem("b", b"x", identity_of("b").sign(b"x")) == ""
    role = identity_of("b", own=certificate("b", role="client"))
    assert identity_of("a").problem("b", b"x", role.sign(b"x")) == ""
    weak = der(certificate("w", bits=1024))
    assert "2048 bits" in identity_of("a").problem("w", b"x", [weak, b""])


def task(*members: str) -> RoundTask:
    adapter = TensorPayload("values", b"")
    return RoundTask(round=7, train=True, adapter=adapter, assignments={}, masked=dict.fromkeys(members, 10))


def test_keys_of_an_earlier_try_do_not_count_at_a_host_that_was_not_in_it(tmp_path: Path) -> None:
    """The server knows what d and e masked with then, having said that they were lost: a's update would be bare."""
    first, second = Try(tmp_path / "1"), Try(tmp_path / "2")
    keys = {s: (first if s in "de" else second).keys[s] for s in SITES}
    signatures = {s: (first if s in "de" else second).signatures[s] for s in SITES}
    asked = replace(second.asked, keys=keys, signatures=signatures)
    shares = {s: second.hosts[s].shares(asked).shares[s] for s in "abc"}
    old = {s: first.hosts[s].shares(first.asked).shares[s]["a"] for s in "de"}
    sealed = {**{s: shares[s]["a"] for s in "bc"}, **old}
    second.hosts["a"].check_task(task(*SITES), ROWS)
    with pytest.raises(PublicError, match="too few of those in the sum"):
        second.hosts["a"].unmask(UnmaskRequest(7, ["a", "d", "e"], {"a": sealed}))


def test_who_was_shown_other_keys_does_not_count(tmp_path: Path) -> None:
    """a masks towards two alone if only these are shown to it, and the others would hear that these two are lost."""
    own = Try(tmp_path)
    few = MaskSharesRequest(7, {s: own.keys[s] for s in "abc"}, 2, {s: own.signatures[s] for s in "abc"})
    shares = {s: own.hosts[s].shares(few if s == "a" else own.asked).shares[s] for s in SITES}
    for host, summed in {"b": "ade", "c": "acde"}.items():
        own.hosts[host].check_task(task(*SITES), ROWS)
        asked = UnmaskRequest(7, [*summed], {host: {s: shares[s][host] for s in SITES if s != host}})
        if host == "b":
            with pytest.raises(PublicError, match="too few of those in the sum"):
                own.hosts[host].unmask(asked)
        else:
            # Three of the sum have shown themselves, and nothing is given of a.
            assert own.hosts[host].unmask(asked).shares[host].keys() == set("bcde")


@pytest.mark.parametrize(("needed", "bare"), [(3, True), (4, False)])
def test_one_of_five_on_the_servers_side_has_both_shares_of_another_unless_more_are_needed(
    needed: int, bare: bool, tmp_path: Path
) -> None:
    """What is not protected: a is in the sum by what b and c are told, and lost by what a and d are."""
    own = Try(tmp_path)
    asked = replace(own.asked, threshold=needed)
    shares = {s: own.hosts[s].shares(asked).shares[s] for s in SITES}
    halves: dict[str, dict[int, bytes]] = {"seed": {}, "key": {}}
    for place, host in enumerate(SITES, 1):
        own.hosts[host].check_task(task(*SITES), ROWS)
        sealed = {s: shares[s][host] for s in SITES if s != host}
        if host == "e":
            both = own.hosts[host]._opened(host, sealed)["a"]
            halves["seed"][place], halves["key"][place] = both[:SHARE], both[SHARE:]
            continue
        summed = "abcd" if host in "bc" else "bcde"
        given = own.hosts[host].unmask(UnmaskRequest(7, [*summed], {host: sealed})).shares[host]["a"]
        halves["seed" if host in "bc" else "key"][place] = given
    with contextlib.nullcontext() if bare else pytest.raises((AssertionError, ValueError)):
        assert KeyPair.of(join(halves["key"])).public == own.keys["a"][1]
    assert (max(map(len, halves.values())) >= needed) == bare


def test_masks_are_towards_all_who_were_shown_or_not_at_all(tmp_path: Path) -> None:
    own = Try(tmp_path)
    for site in SITES:
        own.hosts[site].shares(own.asked)
    with pytest.raises(PublicError, match="not of those who agreed"):
        own.hosts["a"].check_task(task(*"abc"), ROWS)


FAULTS: dict[str, Callable[[Path], object]] = {
    "startup/client.key can't be read": lambda s: (s / "client.key").unlink(),
    "startup/client.crt can't be read": lambda s: (s / "client.crt").unlink(),
    "startup/rootCA.pem can't be read": lambda s: (s / "rootCA.pem").unlink(),
    "startup/fed_client.json can't be read": lambda s: (s / "fed_client.json").unlink(),
    "certificates, key or fed_client.json can't be read": lambda s: (s / "client.crt").write_bytes(b"x"),
    "fed_client.json can't be read .KeyError": lambda s: (s / "fed_client.json").write_text(json.dumps({})),
    "the signature is of other": lambda s: write_startup(s, "site-1", own=certificate("site-1", owner="other")),
    "another name": lambda s: write_startup(s, "site-1", own=certificate("site-2", owner="site-1")),
    "not valid today": lambda s: write_startup(s, "site-1", own=certificate("site-1", until=-timedelta(seconds=5))),
    "not of this federation": lambda s: write_startup(s, "site-1", own=certificate("site-1", root="false root")),
}


@pytest.mark.parametrize("why", FAULTS)
def test_a_kit_that_can_not_sign_is_told_of_without_its_place(why: str, tmp_path: Path) -> None:
    startup = write_startup(tmp_path / "startup", "site-1")
    assert read_identity(startup, "site-1", "run").problem("site-1", b"", []) == "they are not signed"
    FAULTS[why](startup)
    with pytest.raises(PublicError, match=why) as raised:
        read_identity(startup, "site-1", "run")
    assert str(tmp_path) not in str(raised.value)
