package guard.rules.confidential_read_test

import rego.v1

import data.guard.lib.cases_test as cases
import data.guard.rules.confidential_read

_facts(labels) := facts if {
	changes := object.union(cases.tool(["read"]), {"tool": labels})
	facts := confidential_read.facts with input as cases.at("post_tool_call", changes)
}

test_a_confidential_result_is_remembered if {
	every label in ["confidential", "secret"] {
		_facts({"confidentiality": label}) == {"read:confidential"}
	}
}

test_an_untrusted_result_is_remembered if {
	_facts({"returns": "untrusted"}) == {"read:untrusted"}
}

test_open_and_trusted_results_leave_no_fact if {
	every label in ["public", "internal"] {
		_facts({"confidentiality": label}) == set()
	}
}

test_a_label_that_is_not_understood_counts_as_the_stricter_one if {
	every label in ["Public", " internal", "", null, ["public"], {}] {
		_facts({"confidentiality": label, "returns": label}) == {"read:confidential", "read:untrusted"}
	}
}

test_an_undeclared_or_missing_tool_leaves_both_facts if {
	confidential_read.facts == {"read:confidential", "read:untrusted"}
		with input as cases.at("post_tool_call", cases.undeclared_tool)
	confidential_read.facts == {"read:confidential", "read:untrusted"}
		with input as cases.at("post_tool_call", {})
}

test_an_error_of_the_tool_leaves_the_fact_too if {
	changes := object.union(
		cases.tool(["read"]),
		{"tool": {"confidentiality": "secret"}, "error": "ValueError"},
	)
	confidential_read.facts == {"read:confidential"} with input as cases.at("post_tool_call", changes)
}
