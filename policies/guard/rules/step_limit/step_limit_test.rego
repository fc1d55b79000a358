package guard.rules.step_limit_test

import rego.v1

import data.guard.lib.cases_test as cases
import data.guard.rules.step_limit

_codes(point, length) := codes if {
	codes := cases.codes(step_limit.verdicts)
		with input as cases.at(point, {"path": {"length": length}})
}

_points := ["pre_tool_call", "pre_model_call", "pre_step", "pre_handoff"]

test_a_run_at_its_limit_takes_no_further_step if {
	step_limit.verdicts == {{
		"effect": "deny",
		"code": "step_limit.too_many_steps",
		"message": "the run has reached its limit of steps",
	}} with input as cases.at("pre_tool_call", {"path": {"length": 200}})
}

test_the_limit_holds_at_every_point_that_starts_something if {
	every point in _points {
		_codes(point, 199) == set()
		_codes(point, 200) == {"step_limit.too_many_steps"}
		_codes(point, 10000) == {"step_limit.too_many_steps"}
	}
}

test_the_limit_is_a_setting if {
	_codes("pre_step", 5) == {"step_limit.too_many_steps"} with data.settings.step_limit.steps_max as 5
	_codes("pre_step", 200) == set() with data.settings.step_limit.steps_max as 201
}

test_a_length_that_is_not_understood_is_over_the_limit if {
	every length in ["3", null, true, [3], {}] {
		_codes("pre_tool_call", length) == {"step_limit.too_many_steps"}
	}
	cases.codes(step_limit.verdicts) == {"step_limit.too_many_steps"} with input as {}
}

test_a_limit_that_is_not_understood_is_reached if {
	every limit in ["200", null, [200]] {
		_codes("pre_tool_call", 3) == {"step_limit.too_many_steps"}
			with data.settings.step_limit.steps_max as limit
	}
	_codes("pre_tool_call", 3) == {"step_limit.too_many_steps"} with data.settings as {}
}
