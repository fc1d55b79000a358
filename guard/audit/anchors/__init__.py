"""Places that the writer of the log does not own, where its checkpoints are kept or cosigned."""

from .anchor import Anchor, DirectoryAnchor, Receipt, WebhookAnchor
from .build import anchors_from
from .cosignature import Cosignature, WitnessKey, WitnessSigner, cosignatures_of
from .cosigner import WitnessAnchor
from .object_store import ObjectStoreAnchor
from .publisher import AnchorStatus, Publisher

__all__ = [
    "Anchor",
    "AnchorStatus",
    "Cosignature",
    "DirectoryAnchor",
    "ObjectStoreAnchor",
    "Publisher",
    "Receipt",
    "WebhookAnchor",
    "WitnessAnchor",
    "WitnessKey",
    "WitnessSigner",
    "anchors_from",
    "cosignatures_of",
]
