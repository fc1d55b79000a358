package guard.rules.working_hours_test

import rego.v1

import data.guard.lib.cases_test as cases
import data.guard.rules.working_hours

_hour_ns := 3600000000000

# Wednesday, 15 January 2025, 00:00 UTC.
_wednesday_ns := 1736899200000000000

_call(effects, now_ns) := object.union(
	cases.tool_call(effects, {}),
	{"context": {"now_ns": now_ns}},
)

_codes(effects, now_ns) := codes if {
	codes := cases.codes(working_hours.verdicts) with input as _call(effects, now_ns)
}

_reviewed := {"working_hours.outside"}

test_a_payment_at_night_is_reviewed_by_operations if {
	working_hours.verdicts == {{
		"effect": "review",
		"code": "working_hours.outside",
		"message": "the call cannot easily be undone and is made outside working hours",
		"review": {"queue": "operations", "ttl_s": 3600},
	}} with input as _call(["pay"], _wednesday_ns)
}

test_working_hours_begin_and_end_on_the_hour if {
	_codes(["delete"], (_wednesday_ns + (6 * _hour_ns)) - 1) == _reviewed
	_codes(["delete"], _wednesday_ns + (6 * _hour_ns)) == set()
	_codes(["delete"], (_wednesday_ns + (20 * _hour_ns)) - 1) == set()
	_codes(["delete"], _wednesday_ns + (20 * _hour_ns)) == _reviewed
}

test_the_weekend_is_outside if {
	_codes(["admin"], _wednesday_ns + (((2 * 24) + 12) * _hour_ns)) == set()
	_codes(["admin"], _wednesday_ns + (((3 * 24) + 12) * _hour_ns)) == _reviewed
	_codes(["admin"], _wednesday_ns + (((4 * 24) + 12) * _hour_ns)) == _reviewed
}

test_other_effects_are_left_alone_at_any_time if {
	_codes(["read", "write", "send", "publish", "execute"], _wednesday_ns) == set()
}

test_hours_are_those_of_the_time_zone if {
	_codes(["pay"], _wednesday_ns + (19 * _hour_ns)) == _reviewed
		with data.settings.working_hours.tz as "Europe/Berlin"
	_codes(["pay"], _wednesday_ns + (5 * _hour_ns)) == set()
		with data.settings.working_hours.tz as "Europe/Berlin"
}

test_a_time_that_is_not_understood_is_outside if {
	every now_ns in [null, 0, -1, "1736942400000000000", [1736942400000000000], true, {}] {
		_codes(["pay"], now_ns) == _reviewed
	}
}

test_hours_that_are_not_understood_are_never if {
	every change in [
		{"tz": null}, {"hour_from": "6"}, {"hour_to": "20"}, {"hour_to": null}, {"weekdays": "Wednesday"},
		{"weekdays": ["wednesday"]},
	] {
		hours := object.union(data.settings.working_hours, change)
		_codes(["pay"], _wednesday_ns + (12 * _hour_ns)) == _reviewed
			with data.settings.working_hours as hours
	}
	_codes(["pay"], _wednesday_ns + (12 * _hour_ns)) == _reviewed with data.settings as {}
}
