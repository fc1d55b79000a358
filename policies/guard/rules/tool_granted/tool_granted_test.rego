package guard.rules.tool_granted_test

import rego.v1

import data.guard.lib.cases_test as cases
import data.guard.rules.tool_granted

_codes(capability) := codes if {
	changes := object.union(cases.tool(["read"]), {"evidence": {"capability": capability}})
	codes := cases.codes(tool_granted.verdicts) with input as cases.at("pre_tool_call", changes)
}

test_a_grant_permits_a_declared_tool if {
	tool_granted.verdicts == {{
		"effect": "allow",
		"code": "tool_granted.granted",
		"message": "a grant of this session covers the call",
	}} with input as cases.tool_call(["read"], {})
}

test_a_planner_may_call_nothing if {
	_codes({"granted": false, "why": "no_grant"}) == {"tool_granted.no_grant"}
}

test_a_grant_for_other_arguments_is_refused if {
	_codes({"granted": false, "why": "argument_not_allowed"}) == {"tool_granted.argument_not_allowed"}
}

test_an_expired_grant_is_refused if {
	_codes({"granted": false, "why": "expired"}) == {"tool_granted.expired"}
}

test_a_grant_that_contradicts_itself_is_refused if {
	_codes({"granted": true, "why": "expired"}) == {"tool_granted.expired"}
	_codes({"granted": false, "why": "granted"}) == {"tool_granted.not_covered"}
}

test_what_is_not_understood_is_refused if {
	every capability in [
		{"granted": "true", "why": "granted"},
		{"granted": 1, "why": "granted"},
		{"granted": ["true"], "why": "granted"},
		{"granted": false, "why": "no_tool"},
		{"granted": false, "why": ["no_grant"]},
	] {
		_codes(capability) == {"tool_granted.not_covered"}
	}
}

test_a_grant_that_does_not_plainly_say_so_permits_nothing if {
	every why in ["Granted", " granted", null, ["granted"], true] {
		_codes({"granted": true, "why": why}) == set()
	}
}

test_missing_evidence_is_refused if {
	cases.codes(tool_granted.verdicts) == {"tool_granted.not_covered"} with input as {}
}

test_a_grant_does_not_permit_an_undeclared_tool if {
	call := object.union(cases.tool_call(["read"], {}), {"tool": {"is_declared": false}})
	tool_granted.verdicts == set() with input as call
}
