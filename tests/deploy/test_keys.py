"""Keys and roots on the builder's side."""

from __future__ import annotations

import stat

import pytest

from edgekit.agent import trust
from edgekit.cli.main import main
from edgekit.core.errors import BundleError, InputError
from edgekit.deploy.bundle import sign_bundle
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
