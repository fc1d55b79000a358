"""The fleet: strict to read, approval of all three fields, and one answer to one question."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from guard.errors import FleetFault
from guard.fleet import Choice, Fleet, Model, choose
from guard.request import ModelRef

EXAMPLE = Path(__file__).resolve().parents[2] / "policies" / "fleet.example.toml"

ROW = """
[[models]]
id = "m1"
provider = "acme"
context_window_tokens = 1000
price_in_micros_per_mtok = 10
price_out_micros_per_mtok = 20
status = "active"
"""


def _model(name: str, price: int = 10, window: int = 1_000, status: str = "active") -> Model:
    return Model(
        id=name,
        provider="acme",
        context_window_tokens=window,
        price_in_micros_per_mtok=price,
        price_out_micros_per_mtok=price,
        status=status,
    )


def _fleet(*models: Model) -> Fleet:
    return Fleet({model.id: model for model in models})


def _load(folder: Path, text: str) -> Fleet:
    file = folder / "fleet.toml"
    file.write_text(text)
    return Fleet.load(file)


def test_the_example_loads_with_six_models() -> None:
    fleet = Fleet.load(EXAMPLE)
    assert len(fleet.models) == 6
    assert fleet.models["example-local"] == Model(
        id="example-local",
        provider="in-house",
        context_window_tokens=32_000,
        price_in_micros_per_mtok=0,
        price_out_micros_per_mtok=0,
        data_classes=("public", "internal", "personal", "confidential", "secret"),
        jurisdictions=("eu", "us"),
        status="active",
        tasks=("classify", "extract"),
        tier="small",
    )


def test_the_data_for_rego_is_plain_json_by_id(tmp_path: Path) -> None:
    data = _load(tmp_path, ROW).as_data()
    assert data == {
        "models": {
            "m1": {
                "id": "m1",
                "provider": "acme",
                "endpoint": None,
                "context_window_tokens": 1000,
                "price_in_micros_per_mtok": 10,
                "price_out_micros_per_mtok": 20,
                "data_classes": [],
                "jurisdictions": [],
                "status": "active",
                "tasks": [],
                "tier": "medium",
            }
        }
    }
    assert json.loads(json.dumps(data)) == data


@pytest.mark.parametrize(
    ("ref", "is_approved"),
    [
        (ModelRef(id="example-small-eu", provider="example-cloud"), False),
        (ModelRef(id="example-small-eu", endpoint="https://eu.models.example/v1"), False),
        (
            ModelRef(
                id="example-small-eu",
                provider="example-cloud",
                endpoint="https://eu.models.example/v1",
            ),
            True,
        ),
        (
            ModelRef(
                id="example-small-eu",
                provider="example-cloud",
                endpoint="https://eu.models.example.evil/v1",
            ),
            False,
        ),
        (ModelRef(id="example-local", provider="in-house"), True),
        (ModelRef(id="example-local", provider="in-house", endpoint="https://x.example"), False),
        (ModelRef(id="unheard-of"), False),
    ],
)
def test_approval_is_of_id_provider_and_endpoint_together(ref: ModelRef, is_approved: bool) -> None:
    assert Fleet.load(EXAMPLE).approved(ref) is is_approved


@pytest.mark.parametrize(
    ("status", "is_approved"),
    [
        ("candidate", False),
        ("shadow", False),
        ("active", True),
        ("deprecated", True),
        ("retired", False),
    ],
)
def test_only_active_and_deprecated_models_are_approved(status: str, is_approved: bool) -> None:
    fleet = _fleet(_model("m", status=status))
    assert fleet.approved(ModelRef(id="m", provider="acme")) is is_approved


def test_an_empty_fleet_approves_nothing() -> None:
    assert Fleet.empty() == Fleet({})
    assert not Fleet.empty().approved(ModelRef(id="m"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            ROW.replace("provider", "providr"),
            "unknown key `providr` at `models.0.providr`: did you",
        ),
        (ROW.replace("provider", "providr"), "`models.0.provider` is missing"),
        ("modles = []", "unknown key `modles` at `modles`: did you mean `models`?"),
        (ROW.replace("1000", '"1000"'), "`models.0.context_window_tokens`: input should be a"),
        (ROW.replace("= 10\n", "= 1.5\n"), "`models.0.price_in_micros_per_mtok`: input should"),
        (ROW.replace("= 10\n", "= -1\n"), "`models.0.price_in_micros_per_mtok`: input should"),
        (ROW.replace("active", "actve"), "`models.0.status`: input should be 'candidate'"),
        (ROW + 'data_classes = ["Public Data"]', "`models.0.data_classes.0`: string should match"),
        (ROW.replace('status = "active"', ""), "`models.0.status` is missing"),
        (ROW + ROW, "two models have the id `m1`"),
        ("models = ", "is not TOML"),
        ("x = 1\n" * 250_000, "is larger than 1048576 bytes"),
    ],
)
def test_a_wrong_file_is_a_fault_that_names_file_key_and_mend(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(FleetFault) as caught:
        _load(tmp_path, text)
    assert "fleet.toml" in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(FleetFault, match="cannot read"):
        Fleet.load(tmp_path / "none.toml")


def test_a_file_that_is_not_utf8_is_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(FleetFault, match="is not TOML"):
        Fleet.load(file)


def test_the_cheapest_model_that_fits_is_chosen_and_the_id_breaks_ties() -> None:
    fleet = _fleet(
        _model("dear", 30), _model("b", 10), _model("a", 10), _model("tiny", 1, window=10)
    )
    for allowed in itertools.permutations(fleet.models):
        choice = choose(fleet, allowed, tokens_needed=500, available=fleet.models)
        assert choice == Choice("a", "cheapest")


@pytest.mark.parametrize(
    ("allowed", "available", "tokens_needed", "choice"),
    [
        ([], {"a"}, 1, Choice(None, "not_approved")),
        (["unheard-of", "retired"], {"retired"}, 1, Choice(None, "not_approved")),
        (["a", "retired"], {"retired"}, 1, Choice(None, "not_available")),
        (["a", "b"], {"a"}, 1_001, Choice(None, "context_too_small")),
        (["a", "b"], {"a", "b"}, 1_001, Choice("b", "cheapest")),
        (["a", "b"], {"a", "b"}, 1_000, Choice("a", "cheapest")),
    ],
)
def test_what_cannot_be_chosen_says_what_was_missing(
    allowed: list[str], available: set[str], tokens_needed: int, choice: Choice
) -> None:
    fleet = _fleet(
        _model("a"), _model("b", 20, window=2_000), _model("retired", 1, status="retired")
    )
    assert choose(fleet, allowed, tokens_needed=tokens_needed, available=available) == choice


def test_the_fleet_is_imported_without_pydantic() -> None:
    code = "import guard.fleet, sys; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
