"""Everything that someone may try on a device: refused in one line, nothing run, nothing left behind."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
from typing import Any

import pytest

from edgekit.agent import archive, canonical, disk, install
from edgekit.agent.manifest import LARGEST_TOLERANCE
from edgekit.agent.refusal import Refused

CLIMBING = (
    *("../evil", "model/../../evil", "/etc/evil", "model//evil", "./evil", ".hidden", "model/"),
    *("a\\..\\evil", "C:evil", "evil\n"),
)
ALIKE = (
    *("labels\u2024txt", "mode\u217c/toy.onnx", "la\u0062\u0301els.txt", "labels.txt\u200b"),
    *("\u202etxt.slebal", "\uff0e\uff0e/evil"),
)
NO_FILES = {
    "symlink": (tarfile.SYMTYPE, "/etc/passwd"),
    "hard link": (tarfile.LNKTYPE, "model/toy.onnx"),
    "device": (tarfile.CHRTYPE, ""),
    "fifo": (tarfile.FIFOTYPE, ""),
    "folder": (tarfile.DIRTYPE, ""),
    "long name": (b"L", ""),
    "extension": (b"x", ""),
    "sparse": (b"S", ""),
}
AMBIGUOUS = (
    *(b'{"a":1.5}', b'{"a":NaN}', b'{"a":1e400}', b'{"b":1,"a":1}', b'{"a":1,"a":1}', b'{"a": 1}'),
    *(b'{"a":99999999999999999999}', b'{"a":"\xff"}', b'{"a":"\\u0061"}', b"[]", b""),
)


def refused(device: Any, data: bytes, kind: str, words: str) -> None:
    """The device refuses these bytes for this reason, and is afterwards what it was; the self-test is not run."""
    before = device.tree()
    ran: list[Any] = []
    installer = device.installer(test=lambda slot, content: ran.append(slot) or {})
    with pytest.raises(Refused) as found:
        install.install_file(installer, io.BytesIO(data))
    assert (found.value.kind, "\n" in found.value.message) == (kind, False), found.value
    assert words in found.value.message, found.value
    assert ran == []
    assert device.tree() == before


def edited(data: bytes, name: str, **changes: Any) -> bytes:
    """A bundle in which one header was replaced by what tarfile writes for a changed entry."""
    with tarfile.open(fileobj=io.BytesIO(data)) as source:
        entry = source.getmember(name)
    for key, value in changes.items():
        setattr(entry, key, value)
    return data[: entry.offset] + entry.tobuf(tarfile.USTAR_FORMAT) + data[entry.offset + archive.BLOCK :]


def fronted(data: bytes, signatures: dict[str, str], files: dict[str, bytes] | None = None) -> bytes:
    """A bundle of any manifest, however wrong."""
    sink = io.BytesIO()
    front = archive.Envelope(data, canonical.encode({"roots": []}), canonical.encode(signatures))
    archive.write(sink, front, ((path, len(content), [content]) for path, content in sorted((files or {}).items())))
    return sink.getvalue()


def renamed(forge: Any, path: str) -> bytes:
    """A correctly signed bundle that lists a file, and holds it, under a name of the attacker's choice."""
    files = forge.contents()
    told = forge.manifest(files)
    told["files"][path] = told["files"].pop("labels.txt")
    files[path] = files.pop("labels.txt")
    data = canonical.encode(told)
    packed = fronted(data, forge.sign(data, [forge.ALICE]))[: -2 * archive.BLOCK]
    for name in sorted(files):
        entry = tarfile.TarInfo(name)
        entry.size = len(files[name])
        packed += entry.tobuf(tarfile.USTAR_FORMAT) + files[name] + bytes(-len(files[name]) % archive.BLOCK)
    return packed + bytes(2 * archive.BLOCK)


# ── signatures ──


def test_an_unsigned_bundle(device, forge):
    refused(device, forge.bundle(signers=()), "signature", "is not signed")


def test_a_foreign_signature(device, forge):
    refused(device, forge.bundle(signers=[forge.MALLORY]), "signature", "is not trusted here")


def test_a_signature_of_another_bundle_under_the_right_name(device, forge):
    files = forge.contents()
    other = {forge.ALICE.id: forge.ALICE.sign(b"something else")}
    refused(device, fronted(canonical.encode(forge.manifest(files)), other, files), "signature", "did not sign this")


def test_one_bit_of_a_signature(device, forge):
    data = forge.bundle()
    place = data.index(b'":"', data.index(b"signatures.json")) + 3
    flipped = data[:place] + (b"0" if data[place : place + 1] != b"0" else b"1") + data[place + 1 :]
    refused(device, flipped, "signature", "did not sign this")


def test_a_revoked_key(forge, tmp_path):
    device = forge.Device(tmp_path / "d", trusted=forge.root(bundle_keys=[forge.BOB], revoked=[forge.CAROL]))
    refused(device, forge.bundle(signers=[forge.CAROL]), "signature", "is revoked")


def test_a_key_that_a_newer_root_revokes(device, forge):
    newer = forge.root(2, root_keys=[forge.ALICE], bundle_keys=[forge.BOB], revoked=[forge.CAROL])
    device.installer().enrol(newer)
    refused(device, forge.bundle(signers=[forge.CAROL]), "signature", "is revoked")
    refused(device, forge.bundle(signers=[forge.ALICE]), "signature", "is not trusted here")


def test_below_the_threshold(forge, tmp_path):
    device = forge.Device(tmp_path / "d", trusted=forge.root(bundle_keys=[forge.ALICE, forge.BOB, forge.CAROL], thresholds=(1, 2)))
    refused(device, forge.bundle(signers=[forge.BOB]), "signature", "1 of 2 signatures hold")
    assert device.flash(forge.bundle(signers=[forge.BOB, forge.CAROL]))["active"]


def test_one_signature_under_two_names_counts_once(forge, tmp_path):
    device = forge.Device(tmp_path / "d", trusted=forge.root(bundle_keys=[forge.ALICE, forge.BOB], thresholds=(1, 2)))
    files = forge.contents()
    data = canonical.encode(forge.manifest(files))
    twice = {key.id: forge.ALICE.sign(data) for key in (forge.ALICE, forge.BOB)}
    refused(device, fronted(data, twice, files), "signature", "1 of 2 signatures hold")


def test_a_device_that_trusts_nobody(forge, tmp_path):
    device = forge.Device(tmp_path / "d")
    device.home.mkdir()
    refused(device, forge.bundle(), "signature", "trusts nobody yet")


# ── roots ──


def test_a_root_that_its_predecessor_did_not_sign(device, forge):
    own = forge.root(2, root_keys=[forge.MALLORY], bundle_keys=[forge.MALLORY])
    refused(device, forge.bundle(signers=[forge.MALLORY], roots=[own]), "signature", "by the keys of root 1")


def test_a_root_that_its_own_keys_did_not_sign(device, forge):
    half = forge.root(2, root_keys=[forge.BOB], bundle_keys=[forge.BOB], signers=[forge.ALICE])
    refused(device, forge.bundle(signers=[forge.BOB], roots=[half]), "signature", "0 of 1 signatures hold")


def test_a_root_that_skips_a_version(device, forge):
    far = forge.root(3, bundle_keys=[forge.BOB])
    refused(device, forge.bundle(signers=[forge.BOB], roots=[far]), "signature", "can't follow root 1")


def test_another_root_of_the_same_version(device, forge):
    twin = forge.root(1, bundle_keys=[forge.MALLORY])
    refused(device, forge.bundle(signers=[forge.MALLORY], roots=[twin]), "signature", "another one than the device's")


def test_an_older_root_does_not_come_back(device, forge):
    newer = forge.root(2, bundle_keys=[forge.BOB])
    device.flash(forge.bundle(1, signers=[forge.BOB], roots=[newer]), good=True)
    refused(device, forge.bundle(2, signers=[forge.ALICE], roots=[forge.root(1)]), "signature", "is not trusted here")
    assert device.installer().root() == newer


def test_an_expired_root(device, forge):
    late = forge.root(2, expires="2026-02-01")
    refused(device, forge.bundle(roots=[late]), "expired", "root expired on 2026-02-01")


def test_an_expired_root_that_is_handed_over_again_lets_the_next_one_in(forge, tmp_path):
    late, newer = forge.root(1, expires="2026-02-01"), forge.root(2, bundle_keys=[forge.BOB])
    device = forge.Device(tmp_path / "device", trusted=late)
    device.installer().enrol(late)
    refused(device, forge.bundle(1), "expired", "root expired on 2026-02-01")
    device.flash(forge.bundle(1, signers=[forge.BOB], roots=[newer]))
    assert device.installer().root() == newer


def test_a_root_is_rotated_by_old_and_new_keys_together(device, forge):
    newer = forge.root(2, root_keys=[forge.BOB], bundle_keys=[forge.CAROL], signers=[forge.ALICE, forge.BOB], revoked=[forge.ALICE])
    newest = forge.root(3, root_keys=[forge.BOB], bundle_keys=[forge.CAROL], revoked=[forge.ALICE])
    device.flash(forge.bundle(1, signers=[forge.CAROL], roots=[forge.root(1), newer, newest]))
    assert device.installer().root()["signed"]["version"] == 3


# ── time and place ──


def test_an_older_version(device, forge):
    device.flash(forge.bundle(7), good=True)
    refused(device, forge.bundle(6), "downgrade", "older than 7")


def test_a_replayed_bundle(device, forge):
    old = forge.bundle(1)
    device.flash(old, good=True)
    device.flash(forge.bundle(2), good=True)
    refused(device, old, "downgrade", "older than 2")


def test_the_same_version_with_another_content(device, forge):
    device.flash(forge.bundle(3), good=True)
    refused(device, forge.bundle(3, model=b"other "), "downgrade", "with another content")


def test_an_expired_bundle(device, forge):
    refused(device, forge.bundle(expires="2026-03-31"), "expired", "expired on 2026-03-31")
    assert device.flash(forge.bundle(expires="2999-12-31"))["active"]


def test_a_device_whose_clock_was_not_set(device, forge, monkeypatch):
    monkeypatch.setattr(install.time, "gmtime", lambda: (1970, 1, 2, 0, 0, 0, 0, 0, 0))
    refused(device, forge.bundle(expires="2026-03-31"), "expired", "clock shows 1970-01-02")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"architectures": ["aarch64"]}, "it is for aarch64, this device is x86_64"),
        ({"features": ["avx2", "avx512_vnni"]}, "lacks avx512_vnni"),
        ({"memory_mb": 2048}, "needs 2048 MiB"),
    ],
)
def test_another_target(device, forge, target, words):
    refused(device, forge.bundle(target=target), "target", words)


@pytest.mark.parametrize(
    ("runtime", "words"),
    [
        ({"at_least": "1.32"}, "this device has 1.31.1"),
        ({"below": "1.31"}, "this device has 1.31.1"),
        ({"name": "openvino"}, "are not installed"),
    ],
)
def test_another_runtime(device, forge, runtime, words):
    refused(device, forge.bundle(runtime=runtime), "target", words)


def test_a_newer_agent_is_needed(device, forge):
    refused(device, forge.bundle(agent=99), "target", "needs an agent of version 99")


# ── content ──


def test_a_swapped_file(device, forge):
    data, place = forge.bundle(), forge.bundle().index(b"model 1 1")
    refused(device, data[:place] + b"evil! 1" + data[place + 7 :], "format", "is not the file that was signed")


def test_a_swapped_manifest(device, forge):
    """The manifest and signatures of one bundle in front of the files of another, both signed."""
    first, second = forge.bundle(1, model=b"mild "), forge.bundle(1, model=b"sour ")
    front = first.index(b"agent.pyz", first.index(b"signatures.json"))
    behind = second.index(b"agent.pyz", second.index(b"signatures.json"))
    refused(device, first[:front] + second[behind:], "format", "is not the file that was signed")


@pytest.mark.parametrize("path", CLIMBING)
def test_paths_that_climb_or_hide(device, forge, path):
    refused(device, renamed(forge, path), "format", "is not of the form")


@pytest.mark.parametrize("path", ALIKE)
def test_letters_that_look_like_others(device, forge, path):
    refused(device, renamed(forge, path), "format", "is not of the form")


def test_names_that_are_one_where_case_does_not_count(device, forge):
    files = {**forge.contents(), "LABELS.txt": b"other"}
    refused(device, forge.bundle(files=files), "format", "are one name")


def test_a_file_that_would_replace_the_manifest(device, forge):
    files = {**forge.contents(), "Manifest.json": b"{}"}
    refused(device, forge.bundle(files=files), "format", "are one name")


def test_a_file_below_a_file(device, forge):
    files = {**forge.contents(), "labels.txt/evil": b"x"}
    refused(device, forge.bundle(files=files), "format", "lies below a file")


@pytest.mark.parametrize(("kind", "target"), NO_FILES.values(), ids=NO_FILES)
def test_what_is_no_plain_file(device, forge, kind, target):
    refused(device, edited(forge.bundle(), "labels.txt", type=kind, linkname=target), "format", "labels.txt")


@pytest.mark.parametrize("change", [{"mode": 0o4755}, {"uid": 1000}, {"uname": "root"}], ids=["setuid", "owner", "owner's name"])
def test_what_a_header_may_not_say(device, forge, change):
    refused(device, edited(forge.bundle(), "labels.txt", **change), "format", "is not a plain file")


def test_a_file_twice(device, forge):
    data = forge.bundle()
    place = data.index(b"labels.txt\0")
    block = data[place : place + 2 * archive.BLOCK]
    refused(device, data[:place] + block + data[place:], "format", "labels.txt")


def test_a_key_of_the_manifest_twice(device, forge):
    data = canonical.encode(forge.manifest(forge.contents()))
    twice = data[:-1] + b',"version":9}'
    refused(device, fronted(twice, forge.sign(twice, [forge.ALICE])), "format", "not in canonical form")


def test_a_file_that_is_not_listed(device, forge):
    data = forge.bundle()
    extra = archive.header("zzz.py", 4) + b"evil" + bytes(508)
    refused(device, data[: -2 * archive.BLOCK] + extra + bytes(2 * archive.BLOCK), "format", "more than its manifest lists")


@pytest.mark.parametrize("tail", [b"x", bytes(1), bytes(archive.BLOCK)])
def test_something_behind_the_end(device, forge, tail):
    refused(device, forge.bundle() + tail, "format", "more than its manifest lists")


def test_something_between_files(device, forge):
    data = bytearray(forge.bundle())
    place = data.index(b"{}\n", data.index(b"io.json\0")) + 100
    data[place] = 1
    refused(device, bytes(data), "format", "between its files")


def test_a_compressed_bomb(device, forge):
    refused(device, gzip.compress(bytes(50 << 20)), "format", "this is no bundle")


def test_a_size_that_lies(device, forge):
    """A header that announces gigabytes: nothing is read or reserved for it."""
    data = forge.bundle()
    place = data.index(b"labels.txt\0")
    refused(
        device,
        data[:place] + archive.header("labels.txt", archive.FILE_LIMIT) + data[place + archive.BLOCK :],
        "format",
        "the manifest says 3",
    )


def test_a_front_that_is_too_large(device):
    data = archive.header(archive.MANIFEST, 1 << 30) + bytes(1000)
    refused(device, data, "format", "1048576 at most are read")


def test_a_bundle_larger_than_the_disk(device, forge, monkeypatch):
    monkeypatch.setattr(disk, "free", lambda path: 9 << 20)
    told = forge.manifest(forge.contents())
    told["files"]["labels.txt"]["size"] = 3 << 20
    data = canonical.encode(told)
    refused(device, fronted(data, forge.sign(data, [forge.ALICE])), "space", "3 MB do not fit")


def test_more_than_any_bundle_holds(device, forge):
    told = forge.manifest(forge.contents())
    told["files"] |= {f"f{number}": {"size": archive.FILE_LIMIT, "sha256": "0" * 64} for number in range(20)}
    data = canonical.encode(told)
    refused(device, fronted(data, forge.sign(data, [forge.ALICE])), "format", "would unpack to")


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_bundle(device, forge, share):
    data = forge.bundle()
    refused(device, data[: int(len(data) * share)], "format", "")


def test_json_that_is_too_deep(device, forge):
    data = b'{"type":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    sink = io.BytesIO()
    archive.write(sink, archive.Envelope(data, b'{"roots":[]}', b"{}"), [])
    refused(device, sink.getvalue(), "format", "not canonical JSON")


@pytest.mark.parametrize("text", AMBIGUOUS)
def test_json_that_two_readers_could_read_differently(text):
    with pytest.raises(Refused, match="canonical"):
        canonical.decode(text, "text")


def test_a_self_test_that_lies_about_its_tolerance(device, forge):
    refused(device, forge.bundle(selftest={"tolerance": "0.9"}), "selftest", "tests nothing")
    refused(device, forge.bundle(selftest={"tolerance": "0.0"}), "selftest", "tests nothing")
    refused(device, forge.bundle(selftest={"tolerance": "1e9"}), "format", "is not of the form")
    assert LARGEST_TOLERANCE == 0.1


def test_a_first_model_that_fails_its_self_test(device, forge):
    device.flash(forge.bundle(1))
    before = device.tree()
    for name in ("other", "third"):
        with pytest.raises(Refused, match="outputs differ"):
            device.flash(forge.bundle(1, name=name, model=b"bad "))
    assert device.tree() == before


def test_a_manifest_that_names_what_it_does_not_list(device, forge):
    refused(device, forge.bundle(runner="other.pyz"), "format", "does not list it")


# ── the device's own folders ──


@pytest.mark.parametrize("place", ["", "models", "models/toy", "models/toy/slots", "slot"])
def test_a_world_writable_place(device, forge, place):
    slot = device.flash(forge.bundle(1), good=True)["slot"]
    folder = device.home / (f"models/toy/slots/{slot}" if place == "slot" else place)
    folder.chmod(0o777)
    refused(device, forge.bundle(2), "unsafe", "can be written by others")
    assert device.serves() == 1


def test_a_place_of_another_user(device, forge):
    device.flash(forge.bundle(1), good=True)
    if os.geteuid() != 0:
        pytest.skip("only root can give folders away")
    os.chown(device.home / "models/toy", 12345, 12345)
    refused(device, forge.bundle(2), "unsafe", "belongs to another user")


def test_slots_that_are_a_link_to_elsewhere(device, forge, tmp_path):
    device.flash(forge.bundle(1), good=True)
    elsewhere = tmp_path / "elsewhere"
    (device.home / "models/toy/slots").rename(elsewhere)
    (device.home / "models/toy/slots").symlink_to(elsewhere)
    refused(device, forge.bundle(2), "unsafe", "is a link")


@pytest.mark.parametrize("target", ["../../../../etc", "/etc", "slots/..", "slots/../../..", "slots/.new-x"])
def test_a_current_link_that_leads_elsewhere(device, forge, target):
    device.flash(forge.bundle(1), good=True)
    link = device.home / "models/toy/current"
    link.unlink()
    link.symlink_to(target)
    refused(device, forge.bundle(2), "unsafe", "leads out of the model's folder")


def test_a_link_in_the_way_of_an_upload(device, forge, tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    entry = forge.manifest(forge.contents())["files"]["model/toy.onnx"]
    (device.home / "incoming").mkdir()
    (device.home / "incoming" / f"{entry['sha256']}.part").symlink_to(victim)
    device.flash(forge.bundle(1))
    assert victim.read_bytes() == b"precious"
    assert device.serves() == 1


def test_every_byte_of_the_front_counts(device, forge):
    """Whatever single byte in front of the files is changed, nothing is let in."""
    data = forge.bundle()
    end = data.index(b"agent.pyz\0", data.index(b"signatures.json"))
    for place in range(0, end, 11):
        damaged = bytearray(data)
        damaged[place] ^= struct.unpack("B", b"\x01")[0]
        with pytest.raises(Refused):
            device.installer().offer(archive.read_envelope(io.BytesIO(bytes(damaged))))
    assert not (device.home / "incoming").exists()
