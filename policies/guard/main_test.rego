package guard_test

import rego.v1

import data.guard
import data.guard.lib.cases_test as cases

_scope := {
	"pre_tool_call": {"*": ["unknown_tool", "tool_granted"], "run_shell": ["code_execution"]},
	"post_tool_call": {"*": ["confidential_read", "baseline"]},
}

_codes(point, changes) := codes if {
	codes := cases.codes(guard.verdicts) with input as cases.at(point, changes)
		with data.guard_scope as _scope
}

_facts(point, changes) := facts if {
	facts := guard.facts with input as cases.at(point, changes) with data.guard_scope as _scope
}

test_verdicts_of_all_rules_in_scope_are_united if {
	_codes("pre_tool_call", cases.undeclared_tool) == {
		"unknown_tool.undeclared",
		"tool_granted.no_grant",
	}
}

test_a_rule_for_one_tool_runs_for_that_tool_only if {
	tool := cases.tool(["execute"])
	_codes("pre_tool_call", tool) == {"tool_granted.granted"}
	_codes("pre_tool_call", object.union(tool, {"tool": {"name": "run_shell"}})) == {
		"tool_granted.granted",
		"code_execution.not_a_role",
	}
}

test_a_tool_named_star_gains_no_scope if {
	tool := object.union(cases.tool(["execute"]), {"tool": {"name": "*"}})
	_codes("pre_tool_call", tool) == {"tool_granted.granted"}
}

test_facts_of_the_rules_in_scope_are_united if {
	_facts("post_tool_call", cases.undeclared_tool) == {"read:confidential", "read:untrusted"}
	_facts("pre_tool_call", cases.undeclared_tool) == set()
}

test_a_point_without_a_scope_permits_nothing if {
	_codes("output", {}) == set()
	_codes("PRE_TOOL_CALL", cases.tool(["read"])) == set()
}
