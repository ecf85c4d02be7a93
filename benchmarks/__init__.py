"""Benchmarks: bucketlog beside its peers, `make bench` or `python -m benchmarks.run`.

One module a subject: `starting`, `appending`, `replaying`, `scaling`, `signals`, `s3` and `s3_clients`. They take
their events from `data`, what others do from `peers`, compare with `harness`, and measure in processes of their own by
`fresh`, `probes` and `signal_probes`. `report` prints, `figure` draws; `profile` tells where the time goes.
"""
