# METADATA
# scope: package
# title: The points that need no grant
# description: >-
#   Permits what is neither a tool call, a model call nor a hand-off, for an agent that has an
#   identity. An agent without one may be spoken to, answer and shut down, and nothing else.
# custom:
#   points:
#     - agent_startup
#     - input
#     - post_model_call
#     - post_tool_call
#     - output
#     - agent_shutdown
#     - pre_step
#     - post_step
#     - post_handoff
#   controls: [OWASP-ASI03, EU-AI-ACT-12]
package guard.rules.baseline

import rego.v1

import data.guard.lib.principal

verdicts contains {
	"effect": "allow",
	"code": "baseline.identified",
	"message": "the agent has an identity",
} if {
	_is_identified
}

verdicts contains {
	"effect": "allow",
	"code": "baseline.open_to_anyone",
	"message": "an agent without an identity may be spoken to, answer and shut down",
} if {
	not _is_identified
	input.point in {"input", "output", "agent_shutdown"}
}

verdicts contains {
	"effect": "deny",
	"code": "baseline.anonymous",
	"message": "the agent has no identity",
} if {
	not _is_identified
	not input.point == "input"
	not input.point == "output"
	not input.point == "agent_shutdown"
}

_is_identified if principal.is_identified(input)
