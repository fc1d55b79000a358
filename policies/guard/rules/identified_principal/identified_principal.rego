# METADATA
# scope: package
# title: Who acts must be known
# description: >-
#   An agent without an identity calls no model and no tool, takes no step and hands nothing on,
#   whatever other rules permit.
# custom:
#   points: [pre_model_call, pre_tool_call, pre_step, pre_handoff]
#   controls: [OWASP-ASI03, OWASP-ASI10, EU-AI-ACT-12]
package guard.rules.identified_principal

import rego.v1

import data.guard.lib.principal

verdicts contains {
	"effect": "deny",
	"code": "identified_principal.anonymous",
	"message": "the agent has no identity",
} if {
	not principal.is_identified(input)
}
