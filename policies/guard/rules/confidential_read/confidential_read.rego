# METADATA
# scope: package
# title: What a run has read is remembered
# description: >-
#   Establishes facts and decides nothing: the run has read confidential data, or data from a
#   source that is not trusted. A label that is missing or unknown counts as the stricter one.
# custom:
#   points: [post_tool_call]
#   controls: [OWASP-ASI01, OWASP-ASI06, EU-AI-ACT-12]
package guard.rules.confidential_read

import rego.v1

facts contains "read:confidential" if {
	not input.tool.confidentiality == "public"
	not input.tool.confidentiality == "internal"
}

facts contains "read:untrusted" if not input.tool.returns == "trusted"
