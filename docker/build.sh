#!/usr/bin/env bash
# Builds the image for this machine; or builds it for amd64 and arm64, and pushes it to a registry.
#
#   docker/build.sh                     s3downloader:VERSION-DIGEST and s3downloader:latest
#   docker/build.sh --push REGISTRY     the same in REGISTRY, for both platforms
#
# IMAGE_NAME sets another name. PYTHON_IMAGE sets another base image; pin it by its digest.
set -euo pipefail
# shellcheck source=docker/image.sh
source "$(dirname "${BASH_SOURCE[0]}")/image.sh"

case ${1:-} in
'')
    where=(--load)
    name=$image
    ;;
--push)
    [ $# -eq 2 ] || {
        echo "build: --push needs a registry" >&2
        exit 2
    }
    where=(--push --platform "linux/amd64,linux/arm64")
    name=$2/$image
    ;;
*)
    echo "build: there is no option $1; see the first lines of docker/build.sh" >&2
    exit 2
    ;;
esac
command -v docker >/dev/null || {
    echo "build: docker is not installed; install it with buildx" >&2
    exit 1
}
[ -z "${PYTHON_IMAGE:-}" ] || where+=(--build-arg "PYTHON_IMAGE=$PYTHON_IMAGE")

docker buildx build "${where[@]}" --tag "$name:$tag" --tag "$name:latest" \
    --file "$(dirname "${BASH_SOURCE[0]}")/Dockerfile" "$context"
echo "build: $name:$tag"
