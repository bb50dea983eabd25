"""Keys and roots on the builder's side."""

from __future__ import annotations

import os
import stat

import pytest

from edgekit.agent import archive, canonical, trust
from edgekit.agent.refusal import Refused
from edgekit.cli.main import main
from edgekit.core.errors import BundleError, InputError
from edgekit.deploy import keys as keys_module
from edgekit.deploy.bundle import sign_bundle
from edgekit.deploy.connection import connect
from edgekit.deploy.flash import flash
from edgekit.deploy.keys import KeyFolder
from edgekit.deploy.reading import open_bundle, verify


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Guessing a passphrase may be cheap here."""
    monkeypatch.setattr("edgekit.deploy.keys._ROUNDS", 2)


def nothing(name, new):
    return None


@pytest.fixture
def folder(tmp_path):
    return KeyFolder(tmp_path / "keys")


def test_the_first_key_comes_with_a_root_that_trusts_it(folder):
    made = folder.create("release", nothing)
    assert made.roles == ("root", "bundle")
    assert folder.root()["signed"]["version"] == 1
    assert folder.create("second", nothing).roles == ()


def test_secrets_are_written_with_mode_600_and_never_over_others(folder):
    folder.create("release", nothing)
    path = folder.path / "release.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    before = path.read_bytes()
    with pytest.raises(InputError, match="is there already"):
        folder.create("release", nothing)
    assert path.read_bytes() == before


def test_a_passphrase_protects_a_key(folder):
    folder.create("release", lambda name, new: b"correct horse")
    assert b"correct horse" not in b"".join(path.read_bytes() for path in folder.path.rglob("*") if path.is_file())
    assert folder.secret("release", lambda name, new: b"correct horse")
    with pytest.raises(InputError, match="can't be unlocked") as found:
        folder.secret("release", lambda name, new: b"battery staple")
    assert "battery" not in str(found.value)
    assert found.value.__cause__ is None


@pytest.mark.parametrize("text", [b"", b"\nsecond line\n"])
def test_an_empty_passphrase_protects_nothing(tmp_path, capsys, monkeypatch, text):
    keys = tmp_path / "keys"
    (tmp_path / "words").write_bytes(text)
    monkeypatch.setenv("EDGEKIT_PASSPHRASE", "")
    for more in ([], ["--passphrase-file", str(tmp_path / "words")]):
        assert main(["keys", "new", "release", "--keys", str(keys), *more]) == 2
        assert "is empty" in capsys.readouterr().err
        assert not keys.exists()


def test_a_passphrase_is_bytes(tmp_path, monkeypatch):
    keys = str(tmp_path / "keys")
    (tmp_path / "words").write_bytes(b"caf\xe9\n")
    monkeypatch.setenv("EDGEKIT_PASSPHRASE", os.fsdecode(b"caf\xe9"))
    assert main(["keys", "new", "release", "--keys", keys]) == 0
    words = ["keys", "root", "--root-key", "release", "--bundle-key", "release", "--keys", keys]
    assert main([*words, "--passphrase-file", str(tmp_path / "words")]) == 0


def test_a_public_half_from_elsewhere_is_never_overwritten(folder):
    folder.create("release", nothing)
    (folder.path / "bob.pub").write_bytes(b"bob's own")
    with pytest.raises(InputError, match=r"bob\.pub: is there already"):
        folder.create("bob", nothing)
    assert (folder.path / "bob.pub").read_bytes() == b"bob's own"
    assert not (folder.path / "bob.key").exists()


def test_a_key_that_others_can_read_is_refused(folder):
    folder.create("release", nothing)
    (folder.path / "release.key").chmod(0o640)
    with pytest.raises(InputError, match="can be read by others"):
        folder.secret("release", nothing)


@pytest.mark.parametrize("name", ["../evil", "", ".hidden", "a b", "a/b"])
def test_bad_names(folder, name):
    with pytest.raises(InputError, match="no name for a key"):
        folder.create(name, nothing)


def test_rotation_needs_old_and_new_keys_and_revokes_what_is_left_out(folder):
    for name in ("old", "new", "builder"):
        folder.create(name, nothing)
    planned = folder.plan_root(["new"], ["builder"])
    keys = {name: folder.secret(name, nothing) for name in ("old", "new")}
    assert folder.write_root(planned, {"new": keys["new"]}).name == "2.pending.json"
    assert folder.root()["signed"]["version"] == 1
    done = folder.sign_root(folder.roots / "2.pending.json", {"old": keys["old"]})
    assert done.name == "2.json"
    assert not (folder.roots / "2.pending.json").exists()
    assert folder.info("old").revoked
    assert folder.info("builder").roles == ("bundle",)
    with pytest.raises(InputError, match="'old' is revoked, and stays so"):
        folder.plan_root(["old"], ["old"])


def test_a_root_that_waits_for_signatures_gives_way_to_no_other(folder):
    for name in ("old", "new", "other"):
        folder.create(name, nothing)
    keys = {name: folder.secret(name, nothing) for name in ("old", "new", "other")}
    pending = folder.write_root(folder.plan_root(["new"], ["new"]), {"new": keys["new"]})
    with pytest.raises(InputError, match="another root waits for signatures"):
        folder.write_root(folder.plan_root(["other"], ["other"]), {"other": keys["other"]})
    with pytest.raises(InputError, match="another root waits for signatures"):
        folder.write_root(folder.plan_root(["old"], ["old"]), {"old": keys["old"]})
    assert folder.write_root(folder.plan_root(["new"], ["new"]), {"old": keys["old"]}).name == "2.json"
    assert not pending.exists()


def test_a_chain_grows_no_longer_than_devices_read(folder, monkeypatch):
    longest = [{}] * keys_module._MOST_ROOTS
    assert archive.decode_roots(canonical.encode({"roots": longest}))
    with pytest.raises(Refused):
        archive.decode_roots(canonical.encode({"roots": [*longest, {}]}))
    monkeypatch.setattr(keys_module, "_MOST_ROOTS", 2)
    folder.create("release", nothing)
    keys = {"release": folder.secret("release", nothing)}
    folder.write_root(folder.plan_root(["release"], ["release"]), keys)
    with pytest.raises(InputError, match="devices follow 2 roots at most"):
        folder.plan_root(["release"], ["release"])


def test_a_root_expires_on_a_day_to_come(folder):
    folder.create("release", nothing)
    for day, words in (("2027-02-31", "is no day"), ("2020-01-01", "is past")):
        with pytest.raises(InputError, match=words):
            folder.plan_root(["release"], ["release"], expires=day)


@pytest.mark.parametrize("content", [b"{}", b'{"signatures":{},"signed":{}}'])
def test_what_is_no_root_is_not_signed(folder, tmp_path, content):
    folder.create("release", nothing)
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"x\.json"):
        folder.sign_root(tmp_path / "x.json", {"release": folder.secret("release", nothing)})


def test_a_threshold_that_can_t_be_reached(folder):
    folder.create("a", nothing)
    with pytest.raises(InputError, match="1 bundle keys can't give 2 signatures"):
        folder.plan_root(["a"], ["a"], bundle_threshold=2)


def test_an_unknown_key_names_the_nearest(folder):
    folder.create("release", nothing)
    with pytest.raises(InputError, match="did you mean 'release'"):
        folder.plan_root(["relaese"], ["release"])


def test_signatures_of_several_hands_add_up(folder, real, tmp_path):
    for name in ("a", "b"):
        folder.create(name, nothing)
    keys = {name: folder.secret(name, nothing) for name in ("a", "b")}
    folder.write_root(folder.plan_root(["a"], ["a", "b"], bundle_threshold=2), keys)
    bundle = tmp_path / "x.edgekit"
    bundle.write_bytes(real(1).read_bytes())
    sign_bundle(bundle, {"a": keys["a"]}, folder.chain())
    with pytest.raises(BundleError, match="1 of 2 signatures hold"):
        verify(bundle, folder.chain()[0])
    sign_bundle(bundle, {"b": keys["b"]}, folder.chain())
    found = verify(bundle, folder.chain()[0])
    assert (len(found.signed_by), found.root) == (2, 2)
    with open_bundle(bundle) as opened, open_bundle(real(1)) as before:
        assert opened.manifest == before.manifest
        assert trust.key_id(folder.public("a")) in opened.signatures


def test_who_signs_elsewhere_leaves_the_chain_as_it_is(folder, real, tmp_path):
    elsewhere = KeyFolder(tmp_path / "elsewhere")
    folder.create("a", nothing)
    elsewhere.create("b", nothing)
    (folder.path / "b.pub").write_bytes((elsewhere.path / "b.pub").read_bytes())
    keys = {"a": folder.secret("a", nothing), "b": elsewhere.secret("b", nothing)}
    folder.write_root(folder.plan_root(["a"], ["a", "b"], bundle_threshold=2), keys)
    bundle = tmp_path / "x.edgekit"
    bundle.write_bytes(real(1).read_bytes())
    sign_bundle(bundle, {"a": keys["a"]}, folder.chain()[:1])
    sign_bundle(bundle, {"a": keys["a"]}, folder.chain())
    sign_bundle(bundle, {"b": keys["b"]}, elsewhere.chain())
    with open_bundle(bundle) as opened:
        assert opened.roots == folder.chain()
    with connect(f"dir://{tmp_path}/device") as device:
        assert flash(device, bundle, root=folder.first_root()).active


def test_a_bundle_leads_from_the_first_root_and_holds_for_the_newest(folder, real, tmp_path, capsys):
    for name in ("a", "b"):
        folder.create(name, nothing)
    keys = {name: folder.secret(name, nothing) for name in ("a", "b")}
    stranger = KeyFolder(tmp_path / "stranger")
    stranger.create("c", nothing)
    old, strange = tmp_path / "old.edgekit", tmp_path / "strange.edgekit"
    for path in (old, strange):
        path.write_bytes(real(1).read_bytes())
    words = ["--keys", str(folder.path)]
    sign_bundle(old, {"a": keys["a"]}, folder.chain())
    assert main(["verify", str(old), *words]) == 0
    folder.write_root(folder.plan_root(["b"], ["b"]), keys)
    sign_bundle(strange, {"b": keys["b"]}, stranger.chain())
    assert main(["verify", str(old), *words]) == 2
    assert "is revoked" in capsys.readouterr().err
    assert main(["verify", str(strange), *words]) == 2
    assert "root 1 is another one than the device's" in capsys.readouterr().err


def test_the_commands_from_key_to_verdict(real, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("EDGEKIT_PASSPHRASE", "open sesame")
    keys = str(tmp_path / "keys")
    bundle = tmp_path / "x.edgekit"
    bundle.write_bytes(real(1).read_bytes())
    assert main(["keys", "new", "release", "--keys", keys]) == 0
    assert main(["keys", "list", "--keys", keys]) == 0
    assert main(["verify", str(bundle), "--keys", keys]) == 2
    assert main(["keys", "sign", str(bundle), "--keys", keys]) == 0
    assert main(["verify", str(bundle), "--keys", keys]) == 0
    told = capsys.readouterr()
    assert "trusted for root and bundle" in told.out
    assert "every byte is what was signed" in told.out
    assert "is not trusted here" in told.err
    assert "sesame" not in told.out + told.err


def test_nobody_to_ask_for_a_passphrase(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("EDGEKIT_PASSPHRASE", raising=False)
    assert main(["keys", "new", "release", "--keys", str(tmp_path / "keys")]) == 2
    assert "there is nobody to ask" in capsys.readouterr().err
    assert main(["keys", "new", "release", "--keys", str(tmp_path / "keys"), "--no-passphrase"]) == 0
