# METADATA
# scope: package
# title: Inputs for the tests of the rules
# description: A plain call for every point; a test changes only what it is about.
package guard.lib.cases_test

import rego.v1

# Wednesday, 15 January 2025, 12:00 UTC.
_noon_ns := 1736942400000000000

_targets := {"input": "messages", "pre_model_call": "messages"}

_plain := {
	"principal": {
		"id": "did:web:agents.example:clerk",
		"roles": [],
		"on_behalf_of": null,
		"delegation": [],
	},
	"tool": null,
	"model": null,
	"error": null,
	"path": {"length": 3, "facts": {}, "pending": {}, "counts": {}, "recent": []},
	"evidence": {
		"pii": {},
		"secrets": {},
		"unscanned": [],
		"provenance": {},
		"labels": {},
		"capability": {"granted": true, "why": "granted"},
		"trust": {"score": 0.8, "lower": 0.7, "observations": 12},
		"budget": {},
	},
	"context": {
		"tenant": null,
		"tags": [],
		"purpose": null,
		"jurisdiction": null,
		"constraints": {},
		"now_ns": _noon_ns,
	},
	"host": {"framework": "python", "can_rewrite": true, "can_route": true, "can_pause": true},
}

at(point, changes) := object.union_n([_plain, {"point": point}, _target(point), changes])

_target(point) := {"messages": [{"role": "user", "content": "good morning"}]} if _targets[point]

_target(point) := {"result": "done"} if {
	not _targets[point]
	_is_answer(point)
}

_target(point) := {"args": {}} if {
	not _targets[point]
	not _is_answer(point)
}

_is_answer(point) if startswith(point, "post_")

_is_answer(point) if point == "output"

tool(effects) := {"tool": {
	"name": "some_tool",
	"effects": effects,
	"destinations": ["to"],
	"payloads": ["body"],
	"returns": "trusted",
	"confidentiality": "internal",
	"is_declared": true,
}}

tool_call(effects, args) := at("pre_tool_call", object.union(tool(effects), {"args": args}))

undeclared_tool := {
	"tool": {
		"name": "new_tool",
		"effects": ["read", "write", "pay", "send", "delete", "publish", "execute", "admin"],
		"destinations": [],
		"payloads": [],
		"returns": "untrusted",
		"confidentiality": "secret",
		"is_declared": false,
	},
	"evidence": {"capability": {"granted": false, "why": "no_grant"}},
}

model_call(model, changes) := at("pre_model_call", object.union({"model": model}, changes))

# A fleet of one model for each status, and one that is cleared for personal data in the EU.
fleet := {
	"gpt-eu": _model("eu-cloud", "https://eu.example", "active", ["public", "personal"], ["eu"]),
	"gpt-us": _model("us-cloud", null, "active", ["public", "internal", "personal"], ["us"]),
	"gpt-public": _model("eu-cloud", null, "active", ["public"], ["eu"]),
	"gpt-old": _model("eu-cloud", null, "deprecated", ["public", "personal"], ["eu"]),
	"gpt-gone": _model("eu-cloud", null, "retired", ["public", "personal"], ["eu"]),
	"gpt-next": _model("eu-cloud", null, "candidate", ["public", "personal"], ["eu"]),
	"gpt-shadow": _model("eu-cloud", null, "shadow", ["public", "personal"], ["eu"]),
}

_model(provider, endpoint, status, classes, places) := {
	"provider": provider,
	"endpoint": endpoint,
	"context_window_tokens": 128000,
	"data_classes": classes,
	"jurisdictions": places,
	"status": status,
}

# The fleet with no active model left.
fleet_asleep := {id: model | some id, model in fleet; model.status != "active"}

codes(verdicts) := {verdict.code | some verdict in verdicts}
