package guard.rules.pii_minimised_test

import rego.v1

import data.guard.lib.cases_test as cases
import data.guard.rules.pii_minimised

_call(point, entities) := cases.at(
	point,
	{"evidence": {"pii": {entity: {"count": 1, "pointers": ["/result"]} | some entity in entities}}},
)

_entities(verdicts) := [verdict.redact.entities | some verdict in verdicts]

test_listed_kinds_are_replaced_and_the_rest_is_kept if {
	pii_minimised.verdicts == {{
		"effect": "redact",
		"code": "pii_minimised.replaced",
		"message": "personal data that the task does not need is replaced",
		"redact": {"entities": ["CREDIT_CARD", "US_SSN"], "operator": "replace", "pointers": []},
	}} with input as _call("post_tool_call", ["US_SSN", "EMAIL_ADDRESS", "CREDIT_CARD"])
}

test_it_holds_for_models_tools_and_answers if {
	every point in ["pre_model_call", "post_tool_call", "output"] {
		_entities(pii_minimised.verdicts) == [["IBAN_CODE"]] with input as _call(point, ["IBAN_CODE"])
	}
}

test_other_kinds_are_left_alone if {
	pii_minimised.verdicts == set() with input as _call("output", ["EMAIL_ADDRESS", "PERSON"])
	pii_minimised.verdicts == set() with input as _call("output", [])
}

test_the_kinds_are_a_setting if {
	_entities(pii_minimised.verdicts) == [["PERSON"]]
		with input as _call("output", ["PERSON", "US_SSN"])
		with data.settings.pii_minimised.entities as ["PERSON"]
}

test_without_a_readable_list_every_kind_is_replaced if {
	every entities in [null, "US_SSN", {}] {
		_entities(pii_minimised.verdicts) == [["PERSON", "US_SSN"]]
			with input as _call("output", ["PERSON", "US_SSN"])
			with data.settings.pii_minimised.entities as entities
	}
	_entities(pii_minimised.verdicts) == [["PERSON"]] with input as _call("output", ["PERSON"])
		with data.settings as {}
}

test_evidence_that_is_not_understood_replaces_everything if {
	every found in [null, ["US_SSN"], "US_SSN", false] {
		call := cases.at("output", {"evidence": {"pii": found}})
		_entities(pii_minimised.verdicts) == [["*"]] with input as call
	}
	_entities(pii_minimised.verdicts) == [["*"]] with input as {"point": "output"}
}
