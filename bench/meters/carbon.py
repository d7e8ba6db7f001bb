"""CO2 equivalent of energy, by a grid's yearly carbon intensity as codecarbon carries it."""

from __future__ import annotations

import difflib
import logging
from dataclasses import dataclass
from typing import Any

from bench.errors import InputError
from bench.meters.findings import Findings
from bench.nouns.measurement import JOULES_PER_KWH, Measurement, measured

PUE = 1.0
CO2_OF = {"compress_energy": "compress_co2", "inference_energy_per_sample": "inference_co2_per_sample"}


@dataclass(frozen=True)
class Carbon:
    """Grams of CO2 equivalent a kWh of the grid, and the overhead factor of the place (PUE)."""

    intensity: float
    pue: float
    source: str

    def grams(self, joules: float) -> float:
        """CO2 equivalent: kWh x PUE x intensity."""
        return joules / JOULES_PER_KWH * self.pue * self.intensity


def load_codecarbon() -> Any:
    """The codecarbon package, silent: its logger writes to stderr, from its import on."""
    logging.getLogger("codecarbon").disabled = True
    import codecarbon.input

    return codecarbon


def carbon_of(country: str) -> Carbon:
    """The intensity of `country` (ISO 3166 alpha-3) with year and source. Raises `InputError`."""
    codecarbon = load_codecarbon()
    mixes: dict[str, dict[str, Any]] = codecarbon.input.DataSource().get_global_energy_mix_data()
    mix = mixes.get(country.upper())
    if mix is None or mix.get("carbon_intensity") is None:
        close = difflib.get_close_matches(country.upper(), mixes, n=3)
        hint = f"; near it: {', '.join(close)}" if close else ""
        raise InputError(f"--country {country}: no carbon intensity known, use an ISO code such as IND{hint}")
    source = f"{mix['country_name']} {mix['year']}, codecarbon {codecarbon.__version__}"
    return Carbon(float(mix["carbon_intensity"]), PUE, source)


def carbon_findings(metrics: dict[str, Measurement], unavailable: dict[str, str], carbon: Carbon) -> Findings:
    """CO2 of every energy in `metrics`; where an energy is missing, so is its CO2, for the same reason."""
    findings = Findings()
    for energy_name, name in CO2_OF.items():
        energy = metrics.get(energy_name)
        if energy is None:
            findings.unavailable[name] = unavailable[energy_name]
            continue
        source = f"{energy.source} x {carbon.source}"
        grams = carbon.grams(energy.value)
        findings.metrics[name] = measured(name, grams, source, estimated=energy.estimated)
    return findings
