"""The contracts of pyproject.toml, which `lint-imports` enforces, cover all that there is."""

import tomllib

from resources.settings import PROJECT

CONTRACTS = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]


def test_every_package_and_every_room_of_the_graph_is_in_a_layer():
    layers = {name.strip() for layer in CONTRACTS["contracts"][0]["layers"] for name in layer.split(":")}
    packages = {path.parent.name for path in PROJECT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert {name.partition(".")[0] for name in layers} == packages == {*CONTRACTS["root_packages"]}
    rooms = {path.stem for path in (PROJECT / "platform_assets").iterdir() if not path.stem.startswith("__")}
    assert {name.partition(".")[2] for name in layers if name.startswith("platform_assets.")} == rooms


def test_no_contract_has_an_exception():
    assert not [name for contract in CONTRACTS["contracts"] for name in contract if name.startswith("ignore")]
