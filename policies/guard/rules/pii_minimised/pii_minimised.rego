# METADATA
# scope: package
# title: Nobody needs the whole card number
# description: >-
#   Replaces the listed kinds of personal data in what goes to a model, comes back from a tool or
#   leaves as the answer, and keeps the rest. Without a readable list every kind is replaced.
# custom:
#   points: [pre_model_call, post_tool_call, output]
#   controls: [GDPR-5, GDPR-25, EU-AI-ACT-10]
package guard.rules.pii_minimised

import rego.v1

verdicts contains {
	"effect": "redact",
	"code": "pii_minimised.replaced",
	"message": "personal data that the task does not need is replaced",
	"redact": {"entities": _entities, "operator": "replace", "pointers": []},
} if {
	not input.evidence.pii == {}
	_entities[0]
}

# Without readable evidence everything found is replaced, not nothing.
default _entities := ["*"]

_entities := [entity | some entity, _ in input.evidence.pii; not _is_kept(entity)] if {
	is_object(input.evidence.pii)
}

_is_kept(entity) if {
	is_array(data.settings.pii_minimised.entities)
	not entity in data.settings.pii_minimised.entities
}
