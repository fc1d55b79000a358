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
	not input.tool.effects == ["read"]
	not input.tool.effects == []
	not _is_trusted(input)
}

verdicts contains {
	"effect": "review",
	"code": "trust_floor.too_low_to_read",
	"message": "the agent is not trusted enough to read without approval",
	"review": {"queue": "operations", "ttl_s": 3600},
} if {
	input.tool.effects in [["read"], []]
	not _is_trusted(input)
}

_is_trusted(request) if {
	is_number(request.evidence.trust.lower)
	is_number(data.settings.trust_floor.floor)
	request.evidence.trust.lower >= data.settings.trust_floor.floor
}
