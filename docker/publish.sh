#!/usr/bin/env bash
# Builds the image for amd64 and arm64 and publishes it to Amazon ECR, unless it is already there.
#
#   docker/publish.sh [--dry-run]
#
# Account and region are those of the AWS CLI. The repository is created if it does not exist.
set -euo pipefail
# shellcheck source=docker/image.sh
source "$(dirname "${BASH_SOURCE[0]}")/image.sh"

dry_run=
case ${1:-} in
'') ;;
--dry-run) dry_run=yes ;;
*)
    echo "publish: there is no option $1; the only one is --dry-run" >&2
    exit 2
    ;;
esac
for program in aws docker; do
    command -v "$program" >/dev/null || {
        echo "publish: $program is not installed; install it" >&2
        exit 1
    }
done

region=${AWS_REGION:-$(aws configure get region || true)}
[ -n "$region" ] || {
    echo "publish: no region is configured; set AWS_REGION" >&2
    exit 1
}
account=$(aws sts get-caller-identity --query Account --output text)
suffix=amazonaws.com
[[ $region != cn-* ]] || suffix=amazonaws.com.cn
registry=$account.dkr.ecr.$region.$suffix

if aws ecr describe-images --region "$region" --repository-name "$image" \
    --image-ids "imageTag=$tag" >/dev/null 2>&1; then
    echo "publish: unchanged since $registry/$image:$tag"
    exit 0
fi
if [ -n "$dry_run" ]; then
    echo "publish: would be published as $registry/$image:$tag"
    exit 0
fi
if ! aws ecr describe-repositories --region "$region" --repository-names "$image" >/dev/null 2>&1; then
    aws ecr create-repository --region "$region" --repository-name "$image" \
        --image-scanning-configuration scanOnPush=true >/dev/null
fi
aws ecr get-login-password --region "$region" |
    docker login --username AWS --password-stdin "$registry"
"$(dirname "${BASH_SOURCE[0]}")/build.sh" --push "$registry"
echo "publish: published as $registry/$image:$tag"
