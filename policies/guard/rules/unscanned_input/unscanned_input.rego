# METADATA
# scope: package
# title: What could not be scanned is not sent unseen
# description: >-
#   Arguments with parts that no scanner could read (an image, a file) wait for the privacy queue
#   before a tool sends or publishes them. At other points, and for tools that keep data inside,
#   nothing is decided here; `pii_jurisdiction` treats such parts as personal data.
# custom:
#   points: [pre_tool_call]
#   controls: [OWASP-ASI02, GDPR-32, EU-AI-ACT-14]
package guard.rules.unscanned_input

import rego.v1

verdicts contains {
	"effect": "review",
	"code": "unscanned_input.sent_unseen",
	"message": "the call sends data that could not be scanned",
	"review": {"queue": "privacy", "ttl_s": 3600},
} if {
	not input.evidence.unscanned == []
	some effect in input.tool.effects
	effect in {"send", "publish"}
}
