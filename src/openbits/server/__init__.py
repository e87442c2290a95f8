"""The upload and file server: BITS uploads, downloads with ranges, notifications of applications and their replies."""
