"""`bucketlog signals URL …`: the commands for workspaces of signals and emissions."""

from bucketlog.cli.group import Commands
from bucketlog.cli.signals import digest, import_workspace, outcomes, recent
from bucketlog.cli.signals.arguments import signals

SIGNALS = Commands(
    signals,
    """\
bucketlog signals ./workspace import-workspace ./old
bucketlog signals s3://acme-events/workspace recent -n 5""",
    {
        "import-workspace": (import_workspace.import_workspace, import_workspace.EXAMPLE),
        "recent": (recent.recent, recent.EXAMPLE),
        "outcomes": (outcomes.outcomes, outcomes.EXAMPLE),
        "digest": (digest.digest, digest.EXAMPLE),
    },
)
