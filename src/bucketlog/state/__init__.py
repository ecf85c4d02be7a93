"""Small state beside the streams: checkpoints, snapshots, blobs and objects."""
