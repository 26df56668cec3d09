"""clients/unity is a package that Unity takes as it is, also where it may not write."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "clients" / "unity"


def assets() -> list[Path]:
    """What Unity imports: it sees no folder whose name ends with ~."""
    return sorted(
        path
        for path in PACKAGE.rglob("*")
        if not any(part.endswith("~") for part in path.relative_to(PACKAGE).parts)
    )


def test_every_asset_of_the_unity_package_has_its_meta_file_and_no_two_have_one_guid() -> None:
    seen: dict[str, Path] = {}
    metas = [path for path in assets() if path.suffix == ".meta"]
    for path in assets():
        assert path.suffix == ".meta" or path.with_name(path.name + ".meta") in metas, path
    for meta in metas:
        assert meta.with_suffix("").exists(), meta
        guid = re.search(r"^guid: ([0-9a-f]{32})$", meta.read_text(), re.MULTILINE)
        assert guid, meta
        assert seen.setdefault(guid[1], meta) == meta
        assert ("folderAsset: yes" in meta.read_text()) == meta.with_suffix("").is_dir()


def test_the_unity_package_names_its_samples_and_the_version_of_the_other_kits() -> None:
    manifest = json.loads((PACKAGE / "package.json").read_text())
    web = json.loads((ROOT / "clients" / "web" / "package.json").read_text())
    assert manifest["version"] == web["version"]
    assert re.fullmatch(r"[a-z0-9.-]+", manifest["name"])
    for sample in manifest["samples"]:
        assert (PACKAGE / sample["path"]).is_dir(), sample


def test_every_condition_of_the_kit_for_unity_is_a_symbol_that_somebody_defines() -> None:
    definition = json.loads((PACKAGE / "Runtime" / "Relayd.asmdef").read_text())
    symbols = {"UNITY_WEBGL", "UNITY_EDITOR", "UNITY_2019_4_OR_NEWER"}
    symbols |= {"ENABLE_LEGACY_INPUT_MANAGER", "RELAYD_WEBSOCKET_SHARP"}
    symbols |= {each["define"] for each in definition["versionDefines"]}
    for path in PACKAGE.rglob("*.cs"):
        for condition in re.findall(r"^#(?:el)?if (.+)$", path.read_text(), re.MULTILINE):
            assert set(re.findall(r"\w+", condition)) <= symbols, (path, condition)
