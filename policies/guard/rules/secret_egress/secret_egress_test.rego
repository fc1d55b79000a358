package guard.rules.secret_egress_test

import rego.v1

import data.guard.lib.cases_test as cases
import data.guard.rules.secret_egress

_found(pointer) := {"evidence": {"secrets": {
	"API_KEY": {"count": 1, "pointers": [pointer]},
	"SECRET_FIELD": {"count": 1, "pointers": [pointer]},
}}}

_call(effects) := object.union(cases.tool_call(effects, {"body": "x"}), _found("/args/body"))

_codes(effects) := codes if {
	codes := cases.codes(secret_egress.verdicts) with input as _call(effects)
}

test_a_secret_in_the_arguments_of_a_sending_tool_stops_the_call if {
	secret_egress.verdicts == {{
		"effect": "deny",
		"code": "secret_egress.in_arguments",
		"message": "the arguments of a tool that sends data or runs code hold a secret",
		"pointers": ["/args/body", "/args/body"],
	}} with input as _call(["send"])
}

test_every_effect_that_leaves_the_process_counts if {
	every effects in [["publish"], ["execute"], ["read", "send"]] {
		_codes(effects) == {"secret_egress.in_arguments"}
	}
	cases.codes(secret_egress.verdicts) == {"secret_egress.in_arguments"} with input as object.union(
		cases.at("pre_tool_call", cases.undeclared_tool),
		_found("/args"),
	)
}

test_a_tool_that_sends_nothing_may_be_given_a_secret if {
	_codes(["read", "write", "admin"]) == set()
}

test_only_the_secrets_that_were_found_are_replaced if {
	secret_egress.verdicts == {{
		"effect": "redact",
		"code": "secret_egress.replaced",
		"message": "secrets were found and are replaced",
		"redact": {"entities": ["API_KEY", "SECRET_FIELD"], "operator": "replace", "pointers": []},
	}} with input as cases.at("post_tool_call", object.union(cases.tool(["send"]), _found("/result")))
}

test_secrets_are_replaced_wherever_data_flows if {
	every point in [
		"input", "pre_model_call", "post_model_call", "post_tool_call", "pre_handoff",
		"post_handoff", "output",
	] {
		call := cases.at(point, _found("/x"))
		cases.codes(secret_egress.verdicts) == {"secret_egress.replaced"} with input as call
	}
}

test_without_a_secret_nothing_happens if {
	every point in ["input", "pre_model_call", "post_model_call", "post_tool_call", "output"] {
		call := cases.at(point, {})
		secret_egress.verdicts == set() with input as call
	}
	secret_egress.verdicts == set() with input as cases.tool_call(["send"], {"to": "bob@corp.com"})
}

test_evidence_that_is_missing_stops_a_sending_tool if {
	call := object.union(cases.tool_call(["send"], {}), {"evidence": {"secrets": null}})
	cases.codes(secret_egress.verdicts) == {"secret_egress.in_arguments"} with input as call
}

test_evidence_that_is_not_understood_replaces_everything if {
	call := cases.at("output", {"evidence": {"secrets": ["API_KEY"]}})
	[verdict.redact.entities | some verdict in secret_egress.verdicts] == [["*"]] with input as call
	[verdict.redact.entities | some verdict in secret_egress.verdicts] == [["*"]]
		with input as {"point": "output"}
}
