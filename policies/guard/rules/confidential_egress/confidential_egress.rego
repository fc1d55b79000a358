# METADATA
# scope: package
# title: Confidential data stays inside
# description: >-
#   Once confidential data was read in a run, nothing is sent or published to anyone outside the
#   listed e-mail domains. A destination that is not plainly one address inside counts as outside.
# custom:
#   points: [pre_tool_call]
#   controls: [OWASP-ASI01, OWASP-ASI02, GDPR-32]
package guard.rules.confidential_egress

import rego.v1

import data.guard.lib.destinations
import data.guard.lib.path

verdicts contains {
	"effect": "deny",
	"code": "confidential_egress.outside",
	"message": "the run has read confidential data, and the call sends data outside",
	"pointers": destinations.pointers,
} if {
	some effect in input.tool.effects
	effect in {"send", "publish"}
	path.has("read:confidential")
	not _is_inside
}

_is_inside if destinations.are_inside(input, data.settings.confidential_egress.internal_domains)
