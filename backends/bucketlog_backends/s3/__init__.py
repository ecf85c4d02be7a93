"""Buckets of S3, Ceph RGW, MinIO and similar servers, through obstore, or through s3fs for programs that use it."""

from bucketlog_backends.s3.backend import S3Backend
from bucketlog_backends.s3.opening import from_object, open_s3

__all__ = ["S3Backend", "from_object", "open_s3"]
