# METADATA
# scope: package
# title: A tool must be declared
# description: >-
#   Nobody has said what an undeclared tool does, so it is not called. A declaration that names an
#   effect nobody knows would pass by every rule about effects, so it counts as none.
# custom:
#   points: [pre_tool_call]
#   controls: [OWASP-ASI02, OWASP-ASI04, EU-AI-ACT-9]
package guard.rules.unknown_tool

import rego.v1

verdicts contains {
	"effect": "deny",
	"code": "unknown_tool.undeclared",
	"message": "the tool is not declared, so nobody has said what it does",
} if {
	not input.tool.is_declared == true
}

verdicts contains {
	"effect": "deny",
	"code": "unknown_tool.unknown_effect",
	"message": "the declaration of the tool names an effect that is not known",
} if {
	not input.tool.effects == ["read"]
	input.tool.is_declared == true
	not _is_understood(input.tool)
}

_is_understood(tool) if {
	is_array(tool.effects)
	every effect in tool.effects {
		effect in {"read", "write", "pay", "send", "delete", "publish", "execute", "admin"}
	}
}
