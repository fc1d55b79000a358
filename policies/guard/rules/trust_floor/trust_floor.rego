# METADATA
# scope: package
# title: An agent must have earned its trust
# description: >-
#   Below the floor an agent changes nothing, and reads only with the approval of a person. What
#   counts is the lower bound of the score, so that few observations are no excuse.
# custom:
#   points: [pre_tool_call]
#   controls: [OWASP-ASI10, OWASP-ASI03, EU-AI-ACT-14]
package guard.rules.trust_floor

import rego.v1

verdicts contains {
	"effect": "deny",
	"code": "trust_floor.too_low_to_act",
	"message": "the agent is not trusted enough to use a tool that does more than read",
} if {
	not _is_trusted
	not _is_read_only
}

verdicts contains {
	"effect": "review",
	"code": "trust_floor.too_low_to_read",
	"message": "the agent is not trusted enough to read without approval",
	"review": {"queue": "operations", "ttl_s": 3600},
} if {
	not _is_trusted
	_is_read_only
}

_is_trusted if {
	is_number(input.evidence.trust.lower)
	is_number(data.settings.trust_floor.floor)
	input.evidence.trust.lower >= data.settings.trust_floor.floor
}

_is_read_only if {
	is_array(input.tool.effects)
	every effect in input.tool.effects { effect == "read" }
}
