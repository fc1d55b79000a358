package guard.rules.baseline_test

import rego.v1

import data.guard.lib.cases_test as cases
import data.guard.rules.baseline

_closed := [
	"agent_startup", "pre_step", "post_step",
	"post_model_call", "post_tool_call", "post_handoff",
]

_open := ["input", "output", "agent_shutdown"]

_codes(point, id) := codes if {
	codes := cases.codes(baseline.verdicts) with input as cases.at(point, {"principal": {"id": id}})
}

test_an_agent_with_an_identity_is_permitted if {
	baseline.verdicts == {{
		"effect": "allow",
		"code": "baseline.identified",
		"message": "the agent has an identity",
	}} with input as cases.at("agent_startup", {})
	every point in array.concat(_open, _closed) {
		_codes(point, "billing-agent") == {"baseline.identified"}
	}
}

test_an_agent_without_an_identity_is_refused if {
	every point in _closed {
		_codes(point, "anonymous") == {"baseline.anonymous"}
	}
}

test_an_agent_without_an_identity_may_be_spoken_to_answer_and_shut_down if {
	every point in _open {
		_codes(point, "anonymous") == {"baseline.open_to_anyone"}
	}
}

test_what_only_looks_like_an_identity_is_none if {
	every id in [
		"", " ", "\u200b", "\t\n", "Anonymous", " ANONYMOUS ", "anonymous\u200b",
		"\ufeffanonymous", null, 7, true, ["clerk"], {},
	] {
		_codes("agent_startup", id) == {"baseline.anonymous"}
	}
}

test_a_missing_principal_is_refused if {
	cases.codes(baseline.verdicts) == {"baseline.anonymous"} with input as {"point": "pre_step"}
	cases.codes(baseline.verdicts) == {"baseline.anonymous"} with input as {}
}

test_a_point_that_is_not_understood_is_closed_to_anyone if {
	_codes("Output", "anonymous") == {"baseline.anonymous"}
}
