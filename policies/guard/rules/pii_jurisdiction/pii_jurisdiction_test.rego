package guard.rules.pii_jurisdiction_test

import rego.v1

import data.guard.lib.cases_test as cases
import data.guard.rules.pii_jurisdiction

_eu := {"id": "gpt-eu", "provider": "eu-cloud", "endpoint": "https://eu.example"}

_us := {"id": "gpt-us", "provider": "us-cloud", "endpoint": null}

_pii := {"EMAIL_ADDRESS": {"count": 1, "pointers": ["/messages/0/content"]}}

_codes(model, jurisdiction, evidence) := codes if {
	codes := cases.codes(pii_jurisdiction.verdicts) with input as _call(model, jurisdiction, evidence)
		with data.fleet.models as cases.fleet
}

_call(model, jurisdiction, evidence) := cases.model_call(
	model,
	{"context": {"jurisdiction": jurisdiction}, "evidence": evidence},
)

_moved := {"pii_jurisdiction.model_not_cleared"}

test_personal_data_moves_to_the_cleared_active_models if {
	pii_jurisdiction.verdicts == {{
		"effect": "route",
		"code": "pii_jurisdiction.model_not_cleared",
		"message": "the model is not cleared for the personal data that the messages may hold",
		"route": {"models": ["gpt-eu"]},
	}} with input as _call(_us, "eu", {"pii": _pii}) with data.fleet.models as cases.fleet
}

test_a_cleared_model_is_left_alone if {
	_codes(_eu, "eu", {"pii": _pii}) == set()
	_codes({"id": "gpt-old", "provider": "eu-cloud", "endpoint": null}, "eu", {"pii": _pii}) == set()
}

test_without_personal_data_nothing_moves if {
	_codes(_us, "eu", {}) == set()
}

test_without_a_jurisdiction_nothing_moves if {
	_codes(_us, null, {"pii": _pii}) == set()
}

test_what_was_not_scanned_counts_as_personal_data if {
	_codes(_us, "eu", {"unscanned": ["/messages/0/content/1"]}) == _moved
	_codes(_us, "eu", {"unscanned": null}) == _moved
	_codes(_us, "eu", {"pii": null}) == _moved
}

test_a_model_not_cleared_for_personal_data_is_not_cleared if {
	model := {"id": "gpt-public", "provider": "eu-cloud", "endpoint": null}
	_codes(model, "eu", {"pii": _pii}) == _moved
}

test_an_unknown_model_is_not_cleared if {
	every model in [{"id": "llama", "provider": null, "endpoint": null}, {"id": null}, null] {
		_codes(model, "eu", {"pii": _pii}) == _moved
	}
}

test_a_cleared_name_at_another_endpoint_is_not_cleared if {
	_codes(object.union(_eu, {"endpoint": "https://evil.example"}), "eu", {"pii": _pii}) == _moved
	_codes(object.union(_eu, {"provider": "us-cloud"}), "eu", {"pii": _pii}) == _moved
}

test_a_retired_model_is_not_cleared if {
	_codes({"id": "gpt-gone", "provider": "eu-cloud", "endpoint": null}, "eu", {"pii": _pii}) == _moved
}

test_without_a_cleared_active_model_the_call_is_refused if {
	every jurisdiction in ["ch", "EU", " eu", "", ["eu"], 7, {}] {
		_codes(_eu, jurisdiction, {"pii": _pii}) == {"pii_jurisdiction.no_cleared_model"}
	}
	cases.codes(pii_jurisdiction.verdicts) == {"pii_jurisdiction.no_cleared_model"}
		with input as _call(_us, "eu", {"pii": _pii})
		with data.fleet as {}
}
