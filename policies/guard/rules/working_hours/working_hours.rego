# METADATA
# scope: package
# title: What cannot be undone happens in working hours
# description: >-
#   Paying, deleting and administering outside working hours wait for the operations queue. A time,
#   or working hours, that cannot be read count as outside.
# custom:
#   points: [pre_tool_call]
#   controls: [OWASP-ASI09, EU-AI-ACT-14]
package guard.rules.working_hours

import rego.v1

verdicts contains {
	"effect": "review",
	"code": "working_hours.outside",
	"message": "the call cannot easily be undone and is made outside working hours",
	"review": {"queue": "operations", "ttl_s": 3600},
} if {
	_is_hard_to_undo
	not _is_working_time
}

_is_hard_to_undo if "pay" in input.tool.effects

_is_hard_to_undo if "delete" in input.tool.effects

_is_hard_to_undo if "admin" in input.tool.effects

_is_working_time if {
	hours := data.settings.working_hours
	is_string(hours.tz)
	is_number(hours.hour_from)
	is_number(hours.hour_to)
	is_number(input.context.now_ns)
	input.context.now_ns > 0
	[hour, _, _] := time.clock([input.context.now_ns, hours.tz])
	hours.hour_from <= hour
	hour < hours.hour_to
	time.weekday([input.context.now_ns, hours.tz]) in hours.weekdays
}
