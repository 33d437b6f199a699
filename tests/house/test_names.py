"""A file is named after what it does; names that fit anything are not names."""

import re

from tests.house.repository import ROOT, shown, sources

BANNED = re.compile(r"(^|_)(utils?|helpers?|common|managers?|misc|stuff|base_?utils|tools?)($|_)")
FOLDERS = ("hwc", "tests", "benchmarks")


def banned_parts(path: str) -> list[str]:
    return [part for part in path.removesuffix(".py").split("/") if BANNED.search(part)]


def test_no_file_or_folder_has_a_name_that_fits_anything():
    assert {shown(p): found for f in FOLDERS for p in sources(ROOT / f) if (found := banned_parts(shown(p)))} == {}


def test_the_rule_bites():
    for name in ("utils", "util", "graph_utils", "helpers", "common", "manager", "cache_manager", "misc"):
        assert banned_parts(f"hwc/{name}.py") == [name]
        assert banned_parts(f"hwc/{name}/model.py") == [name]
    assert banned_parts("hwc/graph/commute_pool.py") == []


def test_every_source_folder_is_a_package():
    folders = {path.parent for path in sources()}
    assert [shown(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []
