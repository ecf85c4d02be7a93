"""The vocabulary of a pipeline: the default meaning of types, and the policies for duplicate ids."""

from typing import Final, Literal, TypeAlias

DuplicatePolicy: TypeAlias = Literal["ignore", "return_existing", "raise"]
DUPLICATE_POLICIES: Final = ("ignore", "return_existing", "raise")

RESOLVED_ENTITY_PAYLOAD_TYPES: Final = frozenset({"EntityResolved", "EntityMerged", "EntityAliasAdded"})
POST_PAYLOAD_TYPES: Final = frozenset({"SocialPostSeen"})

DEFAULT_PENDING_OUTCOME_PAYLOAD_TYPES: Final = frozenset(
    {"OutcomePending", "EvaluationRequested", "RecommendationAttempted"}
)
DEFAULT_SUCCESS_EMISSION_TYPES: Final = frozenset({"OutcomeSuccess", "DraftApproved"})
DEFAULT_FAILURE_EMISSION_TYPES: Final = frozenset({"OutcomeFailure", "DraftRejected"})
