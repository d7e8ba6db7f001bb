"""CO2: energy times the grid's intensity, as codecarbon reckons it, with its source."""

from __future__ import annotations

import pytest
from codecarbon.core.emissions import Emissions
from codecarbon.core.units import Energy
from codecarbon.external.geography import GeoMetadata
from codecarbon.input import DataSource

from bench.errors import InputError
from bench.meters.carbon import CO2_OF, Carbon, carbon_findings, carbon_of
from bench.nouns.measurement import Measurement, measured


def test_grams_are_kwh_times_pue_times_intensity() -> None:
    assert Carbon(500.0, 1.2, "somewhere").grams(3.6e6) == pytest.approx(600.0)
    assert Carbon(713.0, 1.0, "India").grams(36.0) == pytest.approx(0.00713)


@pytest.mark.parametrize("country", ["IND", "FRA", "USA", "DEU", "CAN"])
def test_grams_are_those_of_codecarbon(country: str) -> None:
    place = GeoMetadata(country_iso_code=country, country_name=country)
    kilograms = Emissions(DataSource()).get_private_infra_emissions(Energy.from_energy(kWh=2.5), place)
    assert carbon_of(country).grams(2.5 * 3.6e6) == pytest.approx(1000 * kilograms)


def test_the_source_names_place_year_and_version() -> None:
    carbon = carbon_of("ind")
    assert 400 < carbon.intensity < 1000
    assert carbon.pue == 1.0
    place, version = carbon.source.split(", ")
    assert place.startswith("India 20")
    assert version.startswith("codecarbon 3")


@pytest.mark.parametrize(("country", "hint"), [("INDI", "IND"), ("XYZ", ""), ("", ""), ("India", "IND")])
def test_a_country_that_is_not_known(country: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        carbon_of(country)
    message = str(caught.value)
    assert message.startswith(f"--country {country}: no carbon intensity known")
    assert hint in message
    assert "\n" not in message


def test_every_energy_has_its_co2_estimated_where_the_energy_is() -> None:
    carbon = Carbon(720.0, 1.5, "India 2023, codecarbon 3.3.2")
    metrics = {
        "compress_energy": measured("compress_energy", 3.6e6, "RAPL"),
        "inference_energy_per_sample": measured("inference_energy_per_sample", 1.0, "model", estimated=True),
    }
    found = carbon_findings(metrics, {}, carbon)
    compress, inference = found.metrics["compress_co2"], found.metrics["inference_co2_per_sample"]
    assert [compress.value, inference.value] == pytest.approx([1080.0, 0.0003])
    assert (compress.unit, compress.estimated, inference.estimated) == ("g", False, True)
    assert compress.source == "RAPL x India 2023, codecarbon 3.3.2"


def test_without_energy_there_is_no_co2_for_the_same_reason() -> None:
    metrics: dict[str, Measurement] = {}
    found = carbon_findings(metrics, dict.fromkeys(CO2_OF, "too short"), Carbon(1.0, 1.0, "x"))
    assert found.metrics == {}
    assert found.unavailable == dict.fromkeys(CO2_OF.values(), "too short")


def test_co2_is_that_of_the_energy_net_of_idle() -> None:
    metrics = {
        name: measured(name, joules, "RAPL")
        for name, joules in {
            "compress_energy": 1.8e6,
            "compress_energy_gross": 3.6e6,
            "inference_energy_per_sample_gross": 2.0,
        }.items()
    }
    lacking = {"inference_energy_per_sample": "not above idle"}
    found = carbon_findings(metrics, lacking, Carbon(100.0, 1.0, "somewhere"))
    assert {name: metric.value for name, metric in found.metrics.items()} == {"compress_co2": 50.0}
    assert found.unavailable == {"inference_co2_per_sample": "not above idle"}
