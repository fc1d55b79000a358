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
	some effect in input.tool.effects
	effect in {"pay", "delete", "admin"}
	not _is_working_time(input)
}

_is_working_time(request) if {
	is_string(data.settings.working_hours.tz)
	is_number(data.settings.working_hours.hour_from)
	is_number(data.settings.working_hours.hour_to)
	is_number(request.context.now_ns)
	request.context.now_ns > 0
	[hour, _, _] := time.clock([request.context.now_ns, data.settings.working_hours.tz])
	hour >= data.settings.working_hours.hour_from
	hour < data.settings.working_hours.hour_to
	weekday := time.weekday([request.context.now_ns, data.settings.working_hours.tz])
	weekday in data.settings.working_hours.weekdays
}
