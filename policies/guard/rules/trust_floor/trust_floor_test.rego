package guard.rules.trust_floor_test

import rego.v1

import data.guard.lib.cases_test as cases
import data.guard.rules.trust_floor

_call(effects, lower) := object.union(
	cases.tool_call(effects, {}),
	{"evidence": {"trust": {"lower": lower}}},
)

_codes(effects, lower) := codes if {
	codes := cases.codes(trust_floor.verdicts) with input as _call(effects, lower)
}

test_below_the_floor_an_agent_changes_nothing if {
	trust_floor.verdicts == {{
		"effect": "deny",
		"code": "trust_floor.too_low_to_act",
		"message": "the agent is not trusted enough to use a tool that does more than read",
	}} with input as _call(["read", "write"], 0.29)
}

test_below_the_floor_an_agent_reads_with_approval if {
	trust_floor.verdicts == {{
		"effect": "review",
		"code": "trust_floor.too_low_to_read",
		"message": "the agent is not trusted enough to read without approval",
		"review": {"queue": "operations", "ttl_s": 3600},
	}} with input as _call(["read"], 0.29)
}

test_at_the_floor_an_agent_is_left_alone if {
	every lower in [0.3, 0.31, 1, 1.0] {
		_codes(["read"], lower) == set()
		_codes(["pay", "delete"], lower) == set()
	}
}

test_the_lower_bound_counts_and_not_the_score if {
	call := object.union(_call(["send"], 0.1), {"evidence": {"trust": {"score": 0.99}}})
	cases.codes(trust_floor.verdicts) == {"trust_floor.too_low_to_act"} with input as call
}

test_trust_that_is_not_understood_is_none if {
	every lower in ["0.9", null, true, [0.9], {}] {
		_codes(["send"], lower) == {"trust_floor.too_low_to_act"}
	}
	cases.codes(trust_floor.verdicts) == {"trust_floor.too_low_to_act"} with input as {}
}

test_effects_that_are_not_understood_are_more_than_reading if {
	every effects in [["Read"], "read", null, ["read", null], {"read": "read"}] {
		_codes(effects, 0) == {"trust_floor.too_low_to_act"}
	}
}

test_a_floor_that_is_not_understood_is_out_of_reach if {
	every floor in ["0.3", null, [], 2] {
		_codes(["send"], 1) == {"trust_floor.too_low_to_act"}
			with data.settings.trust_floor.floor as floor
	}
}
