import os

import pytest

from governance.profiles import ProfileError
from resources import profiles
from resources.settings import PROJECT


def write(folder, tenant, name, text):
    file = folder / tenant / f"{name}.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return file


def test_a_profile_is_found_by_its_organisation_and_name(tmp_path):
    write(tmp_path, "acme", "brand", "says: x\nrisk: low")
    assert profiles.profile(tmp_path, "acme", "brand").risk == "low"
    assert profiles.profile(tmp_path, "acme", "other") is None
    assert profiles.profile(tmp_path, "other", "brand") is None
    assert profiles.profile(tmp_path / "nowhere", "acme", "brand") is None
    assert profiles.names(tmp_path) == [("acme", "brand")]
    assert profiles.names(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("tenant", "name"), [("..", "brand"), ("acme", "../acme/brand"), ("acme", "a\nb"), ("", ""), ("acme", "x" * 300)]
)
def test_a_name_leads_nowhere_else(tmp_path, tenant, name):
    write(tmp_path, "acme", "brand", "says: x")
    assert profiles.profile(tmp_path / "acme" / "..", tenant, name) is None


def test_a_change_is_seen_at_once(tmp_path):
    file = write(tmp_path, "acme", "brand", "says: x\nrisk: low")
    before = profiles.profile(tmp_path, "acme", "brand")
    stat = file.stat()
    file.write_text("says: x\nrisk: high")
    assert profiles.profile(tmp_path, "acme", "brand").risk == "high"
    new = write(tmp_path, "acme", "new", "says: x\nrisk: floor")
    new.replace(file)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert profiles.profile(tmp_path, "acme", "brand").risk == "floor"
    assert profiles.profile(tmp_path, "acme", "brand").digest != before.digest
    file.unlink()
    assert profiles.profile(tmp_path, "acme", "brand") is None


@pytest.mark.parametrize("text", ["risk: low", "says: [", "says: x\nrisk: 3"])
def test_a_faulty_file_is_named_and_stays_so_until_it_is_mended(tmp_path, text):
    write(tmp_path, "acme", "brand", text)
    for _ in range(2):
        with pytest.raises(ProfileError, match=r"^profile acme/brand: .+$"):
            profiles.profile(tmp_path, "acme", "brand")
    write(tmp_path, "acme", "brand", "says: mended")
    assert profiles.profile(tmp_path, "acme", "brand").says == "mended"


def test_a_file_that_is_no_text_is_named(tmp_path):
    write(tmp_path, "acme", "brand", "").write_bytes(b"says: \xff\xfe")
    with pytest.raises(ProfileError, match="acme/brand"):
        profiles.profile(tmp_path, "acme", "brand")


def test_the_profiles_that_are_shipped_can_be_read():
    folder = PROJECT / "samples" / "profiles"
    found = profiles.names(folder)
    assert len(found) == 3
    assert all(profiles.profile(folder, tenant, name) for tenant, name in found)
