package guard.rules.identified_principal_test

import rego.v1

import data.guard.lib.cases_test as cases
import data.guard.rules.identified_principal

_points := ["pre_model_call", "pre_tool_call", "pre_step", "pre_handoff"]

_codes(point, id) := codes if {
	codes := cases.codes(identified_principal.verdicts)
		with input as cases.at(point, {"principal": {"id": id}})
}

test_an_agent_without_an_identity_is_refused if {
	identified_principal.verdicts == {{
		"effect": "deny",
		"code": "identified_principal.anonymous",
		"message": "the agent has no identity",
	}} with input as cases.at("pre_tool_call", {"principal": {"id": "anonymous"}})
}

test_an_agent_with_an_identity_is_left_alone if {
	every point in _points {
		_codes(point, "did:web:agents.example:clerk") == set()
		_codes(point, "billing-agent") == set()
		_codes(point, "anonymous-feedback-agent") == set()
	}
}

test_what_only_looks_like_an_identity_is_refused if {
	every id in [
		"", "  ", "Anonymous", "anonymous ", "\u200banonymous", "\u00a0", null, 0, ["anonymous"],
	] {
		_codes("pre_model_call", id) == {"identified_principal.anonymous"}
	}
	cases.codes(identified_principal.verdicts) == {"identified_principal.anonymous"} with input as {}
}

test_arguments_cannot_claim_an_identity if {
	changes := {"principal": {"id": ""}, "args": {"principal": {"id": "did:web:x"}, "id": "did:web:x"}}
	call := cases.at("pre_tool_call", changes)
	cases.codes(identified_principal.verdicts) == {"identified_principal.anonymous"} with input as call
}
