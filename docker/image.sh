#!/usr/bin/env bash
# Sets the name and the tag of the image; sourced by build.sh and publish.sh. The tag is the version
# and the start of a digest of the image's files.
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
context=$repository/components/aws.samples.S3Downloader
image=${IMAGE_NAME:-s3downloader}

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$context/s3downloader/__init__.py")
[ -n "$version" ] || {
    echo "image: there is no __version__ in $context/s3downloader/__init__.py" >&2
    exit 1
}
digest=$(
    cd "$context"
    find . ../../docker/Dockerfile -type f \
        ! -path '*/__pycache__/*' ! -path './greengrass-build/*' -print0 |
        LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum
)
tag=$version-${digest:0:12}
export context image tag
