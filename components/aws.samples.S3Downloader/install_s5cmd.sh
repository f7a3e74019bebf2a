#!/bin/sh
# Fetches a version of s5cmd from its official release, without root.
#
#   sh install_s5cmd.sh VERSION FOLDER     installs FOLDER/s5cmd-VERSION/s5cmd
#
# The daemon calls it where S5cmdVersion is not the version that comes with the component. The
# archive must have the checksum that the release states. S5CMD_RELEASES names another place with
# the same layout, such as a mirror without internet behind it.
set -eu
umask "$(printf '%04o' "$(($(umask) | 022))")" # nobody else changes what is run

fail() {
    echo "install_s5cmd: $*" >&2
    exit 1
}

[ $# -eq 2 ] || fail "give version and folder, as in: sh install_s5cmd.sh 2.3.0 FOLDER"
version=$1
releases=${S5CMD_RELEASES:-https://github.com/peak/s5cmd/releases/download}
release=$releases/v$version
case $version in
*[!0-9.]* | '' | .* | *..* | *.) fail "$version is no version of s5cmd; give one such as 2.3.0" ;;
esac

case $(uname -m) in
x86_64 | amd64) archive=s5cmd_${version}_Linux-64bit.tar.gz ;;
aarch64 | arm64) archive=s5cmd_${version}_Linux-arm64.tar.gz ;;
*) fail "there is no s5cmd for $(uname -m); x86_64 and aarch64 are supported" ;;
esac

target=$2/s5cmd-$version
if [ -x "$target/s5cmd" ]; then
    exit 0 # it got its name when it was whole
fi

# Prints the HTTP status; fails where none came.
fetch() {
    if command -v curl >/dev/null; then
        curl --silent --show-error --location --connect-timeout 15 --max-time 600 \
            --output "$2" --write-out '%{http_code}' "$1"
    else
        "${PYTHON:-python3}" - "$1" "$2" <<'PROGRAM'
import shutil, sys, urllib.error, urllib.request
try:
    with urllib.request.urlopen(sys.argv[1], timeout=15) as answer, open(sys.argv[2], "wb") as file:
        shutil.copyfileobj(answer, file)
        print(answer.status)
except urllib.error.HTTPError as error:
    print(error.code)
except OSError as error:
    sys.exit(str(error))
PROGRAM
    fi
}

mkdir -p "$2"
new=$2/s5cmd-$version.new
rm -rf "$new"
mkdir "$new"
trap 'rm -rf "$new"' EXIT
trap 'exit 1' TERM INT

for name in s5cmd_checksums.txt "$archive"; do
    status=$(fetch "$release/$name" "$new/$name") ||
        fail "$release/$name cannot be reached; is there a network? S5CMD_RELEASES names a mirror"
    case $status in
    200) ;;
    404) fail "there is no s5cmd $version: $release/$name does not exist; set S5cmdVersion" \
        "to a release of s5cmd" ;;
    *) fail "$release/$name was answered with status $status" ;;
    esac
done

wanted=$(awk -v name="$archive" '$2 == name || $2 == "*" name { print $1 }' \
    "$new/s5cmd_checksums.txt")
[ -n "$wanted" ] || fail "the release states no checksum of $archive; nothing was installed"
found=$(sha256sum "$new/$archive" | cut -d ' ' -f 1)
[ "$found" = "$wanted" ] ||
    fail "$archive has the checksum $found, and the release states $wanted; nothing was installed"

tar -xzf "$new/$archive" -C "$new" s5cmd || fail "$archive holds no program s5cmd"
chmod 755 "$new/s5cmd"
"$new/s5cmd" version >/dev/null || fail "s5cmd $version does not run on this device"
rm "$new/$archive" "$new/s5cmd_checksums.txt"
sync
mv "$new" "$target"
echo "install_s5cmd: installed s5cmd $version"
