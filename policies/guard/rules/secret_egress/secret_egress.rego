# METADATA
# scope: package
# title: Secrets do not leave
# description: >-
#   A secret in the arguments of a tool that sends, publishes or runs code stops the call. A secret
#   in anything that goes to a model, another agent or a person, or comes back, is replaced.
# custom:
#   points:
#     - input
#     - pre_model_call
#     - post_model_call
#     - pre_tool_call
#     - post_tool_call
#     - pre_handoff
#     - post_handoff
#     - output
#   controls: [OWASP-ASI02, OWASP-ASI03, GDPR-32]
package guard.rules.secret_egress

import rego.v1

verdicts contains {
	"effect": "deny",
	"code": "secret_egress.in_arguments",
	"message": "the arguments of a tool that sends data or runs code hold a secret",
	"pointers": [pointer |
		is_object(input.evidence.secrets)
		some found in input.evidence.secrets
		some pointer in found.pointers
	],
} if {
	not input.evidence.secrets == {}
	input.point == "pre_tool_call"
	some effect in input.tool.effects
	effect in {"send", "publish", "execute"}
}

verdicts contains {
	"effect": "redact",
	"code": "secret_egress.replaced",
	"message": "secrets were found and are replaced",
	"redact": {"entities": _entities, "operator": "replace", "pointers": []},
} if {
	not input.evidence.secrets == {}
	input.point != "pre_tool_call"
}

# Without readable evidence everything found is replaced, not nothing.
default _entities := ["*"]

_entities := [entity | some entity, _ in input.evidence.secrets] if {
	is_object(input.evidence.secrets)
}
