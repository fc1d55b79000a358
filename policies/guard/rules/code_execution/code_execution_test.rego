package guard.rules.code_execution_test

import rego.v1

import data.guard.lib.cases_test as cases
import data.guard.rules.code_execution

_call(roles) := object.union(
	cases.tool_call(["read", "execute"], {}),
	{"principal": {"roles": roles}},
)

_codes(roles) := codes if {
	codes := cases.codes(code_execution.verdicts) with input as _call(roles)
		with data.settings.code_execution.roles as ["engineer"]
}

test_nobody_runs_code_by_default if {
	code_execution.verdicts == {{
		"effect": "deny",
		"code": "code_execution.not_a_role",
		"message": "the tool runs code, and the agent has no role that may",
	}} with input as _call(["engineer", "admin"])
}

test_a_listed_role_still_needs_a_person if {
	code_execution.verdicts == {{
		"effect": "review",
		"code": "code_execution.needs_review",
		"message": "the tool runs code and needs the approval of security",
		"review": {"queue": "security", "ttl_s": 3600},
	}} with input as _call(["reader", "engineer"])
		with data.settings.code_execution.roles as ["engineer"]
}

test_a_tool_that_runs_no_code_is_left_alone if {
	code_execution.verdicts == set() with input as cases.tool_call(["read", "write", "admin"], {})
}

test_a_role_that_only_looks_listed_is_none if {
	every roles in [
		[], ["Engineer"], [" engineer"], ["engineer\u200b"], [["engineer"]], "engineer",
		{"engineer": "engineer"}, null,
	] {
		_codes(roles) == {"code_execution.not_a_role"}
	}
}

test_roles_that_are_no_list_let_nobody_in if {
	every roles in ["engineer", null, {"engineer": "engineer"}] {
		cases.codes(code_execution.verdicts) == {"code_execution.not_a_role"}
			with input as _call(["engineer"])
			with data.settings.code_execution.roles as roles
	}
}

test_arguments_cannot_claim_a_role if {
	args := {"roles": ["engineer"], "principal": {"roles": ["engineer"]}}
	call := object.union(_call([]), {"args": args})
	cases.codes(code_execution.verdicts) == {"code_execution.not_a_role"} with input as call
		with data.settings.code_execution.roles as ["engineer"]
}

test_without_settings_nobody_runs_code if {
	cases.codes(code_execution.verdicts) == {"code_execution.not_a_role"}
		with input as _call(["engineer"])
		with data.settings as {}
	cases.codes(code_execution.verdicts) == {"code_execution.not_a_role"}
		with input as {"tool": {"effects": ["execute"]}}
}
