package guard.rules.unscanned_input_test

import rego.v1

import data.guard.lib.cases_test as cases
import data.guard.rules.unscanned_input

_call(effects, unscanned) := object.union(
	cases.tool_call(effects, {"to": "bob@corp.com", "file": "x"}),
	{"evidence": {"unscanned": unscanned}},
)

_codes(effects, unscanned) := codes if {
	codes := cases.codes(unscanned_input.verdicts) with input as _call(effects, unscanned)
}

test_sending_what_was_not_scanned_is_reviewed if {
	unscanned_input.verdicts == {{
		"effect": "review",
		"code": "unscanned_input.sent_unseen",
		"message": "the call sends data that could not be scanned",
		"review": {"queue": "privacy", "ttl_s": 3600},
	}} with input as _call(["send"], ["/args/file"])
}

test_publishing_is_sending if {
	_codes(["read", "publish"], ["/args/file"]) == {"unscanned_input.sent_unseen"}
}

test_what_was_scanned_is_left_alone if {
	_codes(["send", "publish"], []) == set()
}

test_a_tool_that_keeps_data_inside_is_left_alone if {
	_codes(["read", "write", "pay", "delete", "execute", "admin"], ["/args/file"]) == set()
}

test_evidence_that_is_not_understood_counts_as_not_scanned if {
	every unscanned in [null, "", {}, false, 0, [null]] {
		_codes(["send"], unscanned) == {"unscanned_input.sent_unseen"}
	}
	cases.codes(unscanned_input.verdicts) == {"unscanned_input.sent_unseen"}
		with input as {"tool": {"effects": ["send"]}}
}
