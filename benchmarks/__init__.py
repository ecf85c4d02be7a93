"""Benchmarks: bucketlog beside its peers, `make bench` or `python -m benchmarks.run`.

One module for each subject: `starting`, `appending`, `replaying`, `scaling`, `signals`, `s3` and `s3_clients`. They
take their events from `data` and the peers' code from `peers`, compare with `harness`, and measure in separate
processes with `fresh`, `probes` and `signal_probes`. `report` prints, `figure` draws; `profile` shows where the time
goes.
"""
