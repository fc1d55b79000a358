package guard.rules.unknown_tool_test

import rego.v1

import data.guard.lib.cases_test as cases
import data.guard.rules.unknown_tool

_codes(changes) := codes if {
	codes := cases.codes(unknown_tool.verdicts) with input as cases.at("pre_tool_call", changes)
}

test_an_undeclared_tool_is_refused if {
	unknown_tool.verdicts == {{
		"effect": "deny",
		"code": "unknown_tool.undeclared",
		"message": "the tool is not declared, so nobody has said what it does",
	}} with input as cases.at("pre_tool_call", cases.undeclared_tool)
}

test_a_declared_tool_is_left_alone if {
	_codes(cases.tool(["read", "pay"])) == set()
	_codes(cases.tool([])) == set()
}

test_a_declaration_must_be_plainly_true if {
	every claim in ["true", 1, null, [true]] {
		tool := {"name": "x", "effects": ["read"], "is_declared": claim}
		_codes({"tool": tool}) == {"unknown_tool.undeclared"}
	}
}

test_a_missing_tool_is_refused if {
	_codes({"tool": null}) == {"unknown_tool.undeclared"}
	cases.codes(unknown_tool.verdicts) == {"unknown_tool.undeclared"} with input as {}
}

test_an_effect_nobody_knows_is_refused if {
	every effects in [["Pay"], ["pay "], ["read", "transfer"], [null], "pay", null, {"pay": true}] {
		_codes(cases.tool(effects)) == {"unknown_tool.unknown_effect"}
	}
}
