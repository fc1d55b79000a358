# METADATA
# scope: package
# title: A run has an end
# description: >-
#   A run that has taken as many steps as the limit allows takes no further one, so that a loop, or
#   an agent led astray, stops by itself. A length that cannot be read counts as over the limit.
# custom:
#   points: [pre_tool_call, pre_model_call, pre_step, pre_handoff]
#   controls: [OWASP-ASI08, OWASP-ASI10, EU-AI-ACT-9]
package guard.rules.step_limit

import rego.v1

verdicts contains {
	"effect": "deny",
	"code": "step_limit.too_many_steps",
	"message": "the run has reached its limit of steps",
} if {
	not _is_below(input)
}

_is_below(request) if {
	is_number(request.path.length)
	is_number(data.settings.step_limit.steps_max)
	request.path.length < data.settings.step_limit.steps_max
}
