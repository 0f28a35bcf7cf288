#!/usr/bin/env bash
# Fills the ignored folder .gpu/ with what a GPU host without network lacks, so that scripts/gpu/run.sh can build and test
# there: Node itself, the compiled TypeScript, and the packages that tests and the build need. Run it after `npm ci`; what
# has not changed since the last time is kept.
#
#   bash scripts/gpu/pack.sh
set -euo pipefail
cd "$(dirname "$0")/../.."

limit_mib=60
folder=.gpu
mkdir -p "$folder"

# What packages are asked for by; everything they need comes with them.
roots=(vitest fast-check bindings commander node-addon-api node-api-headers)

size_of() { stat -c %s "$1"; }

# Writes standard input to a file that is whole or not there.
put() { cat >"$1.part" && mv "$1.part" "$1"; }

pack_node() {
  local version file
  version=$(node -p process.versions.node)
  file=$folder/node-$version.xz
  if [[ ! -s $file ]]; then
    rm -f "$folder"/node-*.xz
    strip -s -o "$folder/node.stripped" "$(node -p process.execPath)"
    xz --x86 --lzma2=preset=9e,dict=128MiB -T1 -c "$folder/node.stripped" | put "$file"
    rm "$folder/node.stripped"
  fi
  echo "node $version: $(size_of "$file") bytes"
}

pack_modules() {
  local key file
  key=$(cat package-lock.json scripts/gpu/closure.mjs "$0" | sha256sum | cut -c1-12)
  file=$folder/modules-$key.tar.xz
  if [[ ! -s $file ]]; then
    rm -f "$folder"/modules-*.tar.xz
    node scripts/gpu/closure.mjs "${roots[@]}" >"$folder/packages.txt"
    # What only an editor or a debugger reads stays here.
    tar -c --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 \
      --exclude='*.d.ts' --exclude='*.d.mts' --exclude='*.d.cts' --exclude='*.map' --exclude='*.md' --exclude='*.flow' \
      --exclude='node_modules/.bin' -T "$folder/packages.txt" |
      xz --lzma2=preset=9e,dict=64MiB -T1 | put "$file"
    echo "packages: $(paste -sd' ' "$folder/packages.txt" | sed 's|node_modules/||g')"
    rm "$folder/packages.txt"
  fi
  echo "packages: $(size_of "$file") bytes"
}

pack_dist() {
  [[ -f dist/index.js ]] || { echo "dist/ is missing; run \`npm run build:ts\` first" >&2; exit 1; }
  local newer
  newer=$(find src -name '*.ts' -newer dist/index.js -print -quit)
  [[ -z $newer ]] || echo "warning: $newer is newer than dist/; run \`npm run build:ts\` unless that is meant" >&2
  tar -c --sort=name --exclude='*.d.ts' --exclude='*.map' dist | xz -6 | put "$folder/dist.tar.xz"
  echo "dist: $(size_of "$folder/dist.tar.xz") bytes"
}

pack_node
pack_modules
pack_dist

# A file that was deleted, but not yet in the index, has no size.
tree=$(git ls-files -co --exclude-standard -z | { xargs -0 stat -c %s 2>/dev/null || true; } | awk '{ sum += $1 } END { print sum + 0 }')
carried=$(find "$folder" -type f -print0 | xargs -0 stat -c %s | awk '{ sum += $1 } END { print sum + 0 }')
total=$(((tree + carried + 1048575) / 1048576))
echo "tree $tree + $folder $carried bytes = $total MiB, of at most $limit_mib"
((total <= limit_mib)) || { echo "too large to be carried" >&2; exit 1; }
