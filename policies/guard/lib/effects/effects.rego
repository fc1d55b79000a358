# METADATA
# scope: package
# title: What a tool does
# description: Groups of the declared effects that several rules ask about.
package guard.lib.effects

import rego.v1

is_sending if "send" in input.tool.effects

is_sending if "publish" in input.tool.effects
