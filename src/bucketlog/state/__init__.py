"""State kept beside the streams: checkpoints, snapshots, blobs and objects."""
