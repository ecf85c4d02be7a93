"""Buckets of S3, Ceph RGW, MinIO and the like, through obstore; and through s3fs for who has that open already."""

from bucketlog_backends.s3.backend import S3Backend
from bucketlog_backends.s3.opening import from_object, open_s3

__all__ = ["S3Backend", "from_object", "open_s3"]
