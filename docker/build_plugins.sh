#!/bin/sh
# Builds every plugin below FOLDER into OUT: `sh build_plugins.sh FOLDER OUT`. Runs in the build stage of an image.
#
# A plugin is a folder with a CMakeLists.txt (its install rules put lib<name>.so into lib) or a Makefile (`make install
# DESTDIR=OUT`). A folder with sources and neither is an error, and so is a plugin that installs no library: an image
# without a plugin that the bundle names would fail on the board, long after this.
set -eu
folder=$1
out=$2
mkdir -p "$out"
built=0
for plugin in "$folder"/*/; do
    [ -d "$plugin" ] || continue
    name=$(basename "$plugin")
    before=$(find "$out" -name '*.so*' | wc -l)
    if [ -e "$plugin/CMakeLists.txt" ]; then
        cmake -S "$plugin" -B "/tmp/build-$name" -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$out"
        cmake --build "/tmp/build-$name" --parallel
        cmake --install "/tmp/build-$name"
    elif [ -e "$plugin/Makefile" ]; then
        make -C "$plugin" install DESTDIR="$out"
    else
        echo "error: plugin '$name' has neither CMakeLists.txt nor Makefile" >&2
        exit 4
    fi
    if [ "$(find "$out" -name '*.so*' | wc -l)" -le "$before" ]; then
        echo "error: plugin '$name' installed no library into $out" >&2
        exit 4
    fi
    built=$((built + 1))
done
if [ "$built" = 0 ]; then echo "no plugins"; else echo "plugins built: $built"; fi
