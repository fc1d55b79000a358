# METADATA
# scope: package
# title: What has become true on this path
# description: >-
#   Facts are emitted when a call has ended. A call that is still in flight has none yet.
package guard.lib.path

import rego.v1

has(fact) if input.path.facts[fact]
