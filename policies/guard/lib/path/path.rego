# METADATA
# scope: package
# title: What has become true on this path
# description: >-
#   A fact counts as soon as a call that may establish it is in flight: two calls at once must not
#   pass a rule that the same two calls, one after the other, would not pass.
package guard.lib.path

import rego.v1

has(fact) if input.path.facts[fact]

has(fact) if input.path.pending[fact] > 0
