#!/bin/bash
# Sets a Jetson's power mode and holds its clocks for a measurement, and puts back what was there before.
#
#   sudo ./setup.sh set MODE [--no-clocks] [--dry-run]   switch to that nvpmodel mode, then hold the clocks (jetson_clocks)
#   sudo ./setup.sh restore [--dry-run]                  the mode and the clocks from before the first `set`
#   ./setup.sh show                                      what is set now, and whether something waits to be restored
#
# MODE is a name such as MAXN or 15W: the same number means different modes on different boards.
#
# The state from before is written to $HWC_STATE_DIR (default /var/lib/hwc) and synced before anything is changed, and
# removed only after `restore` has succeeded. So it survives a second `set`, a kill between the two, and a reboot; the
# stored clocks are those of the stored mode, so the mode goes back first and the clocks after it.
#
# Exit codes: 0 done, 1 it did not work and the message says what stands, 2 wrong usage, 3 this machine cannot do that.

set -u -o pipefail

STATE_DIR="${HWC_STATE_DIR:-/var/lib/hwc}"
CONF="${HWC_NVPMODEL_CONF:-/etc/nvpmodel.conf}"
MODE_FILE="$STATE_DIR/power_mode"
CLOCKS_FILE="$STATE_DIR/clocks"
DRY_RUN=0

fail() { # code, message, what to do
  printf 'error: %s\n' "$2" >&2
  [ -z "${3:-}" ] || printf '  do: %s\n' "$3" >&2
  exit "$1"
}

usage() {
  sed -n '4,6s/^# *//p' "$0" >&2
  exit 2
}

run() { # runs a command that changes the board, or prints it
  if [ "$DRY_RUN" = 1 ]; then
    printf 'would run: %s\n' "$*"
    return 0
  fi
  # No input: nvpmodel asks whether to reboot now and jetson_clocks whether to overwrite. The answer is no.
  "$@" </dev/null
}

require() {
  command -v "$1" >/dev/null || fail 3 "$1 is not on this machine" "run this on a Jetson with NVIDIA's L4T"
}

require_root() {
  [ "$DRY_RUN" = 1 ] && return 0
  [ "$(id -u)" = 0 ] || fail 2 "changing power modes and clocks needs root" "sudo $0 $*"
}

current_mode() { # name of the mode that is set; nothing if it cannot be told
  nvpmodel -q 2>/dev/null </dev/null | sed -n 's/^NV Power Mode: *//p' | head -n 1 | sed 's/[[:space:]]*$//'
}

mode_names() {
  sed -n 's/^[[:space:]]*<[[:space:]]*POWER_MODEL[[:space:]]*ID=\([0-9]*\)[[:space:]]*NAME=\([^[:space:]>]*\).*/\1 \2/p' "$CONF"
}

mode_id() { # number of the mode of that name; nothing if there is none
  mode_names | while read -r id name; do
    if [ "$name" = "$1" ]; then
      echo "$id"
      break
    fi
  done
}

switch_mode() { # name: switches, then asks the board whether it did
  local id
  [ -r "$CONF" ] || fail 3 "$CONF cannot be read, so the modes of this board are not known"
  id="$(mode_id "$1")"
  [ -n "$id" ] || fail 2 "this board has no power mode called '$1'" "one of: $(mode_names | cut -d' ' -f2 | tr '\n' ' ')"
  run nvpmodel -m "$id" || fail 1 "nvpmodel -m $id ($1) failed; the mode is now $(current_mode)"
  [ "$DRY_RUN" = 1 ] && return 0
  if [ "$(current_mode)" != "$1" ]; then
    fail 1 "the mode is still '$(current_mode)', not '$1'" "this switch may need a reboot: sudo nvpmodel -m $id, answer YES"
  fi
}

store_state() { # once: a second `set` must not store what the first one set
  local mode
  if [ -e "$MODE_FILE" ]; then
    echo "keeping the state stored before: $(cat "$MODE_FILE")"
    return 0
  fi
  mode="$(current_mode)"
  [ -n "$mode" ] || fail 1 "nvpmodel -q tells no mode, so it could not be restored later" "run: sudo nvpmodel -q"
  if [ "$DRY_RUN" = 1 ]; then
    echo "would store: mode $mode and clocks in $STATE_DIR"
    return 0
  fi
  mkdir -p "$STATE_DIR" || fail 1 "$STATE_DIR cannot be made"
  # jetson_clocks asks before it overwrites, and a leftover of a killed run is worth nothing without its mode.
  rm -f "$CLOCKS_FILE" "$CLOCKS_FILE.tmp" "$MODE_FILE.tmp"
  jetson_clocks --store "$CLOCKS_FILE.tmp" </dev/null >/dev/null || fail 1 "jetson_clocks could not store the clocks"
  [ -s "$CLOCKS_FILE.tmp" ] || fail 1 "jetson_clocks stored nothing in $CLOCKS_FILE.tmp"
  mv "$CLOCKS_FILE.tmp" "$CLOCKS_FILE" || fail 1 "$CLOCKS_FILE cannot be written"
  # The mode is last: the state counts as stored once it is there, and all of it is.
  if ! printf '%s\n' "$mode" >"$MODE_FILE.tmp" || ! mv "$MODE_FILE.tmp" "$MODE_FILE"; then
    fail 1 "$MODE_FILE cannot be written"
  fi
  sync
  echo "stored: mode $mode and clocks in $STATE_DIR"
}

set_mode() {
  local mode="" with_clocks=1
  while [ $# -gt 0 ]; do
    case "$1" in
      --dry-run) DRY_RUN=1 ;;
      --no-clocks) with_clocks=0 ;;
      -*) usage ;;
      *)
        [ -z "$mode" ] || usage
        mode="$1"
        ;;
    esac
    shift
  done
  [ -n "$mode" ] || usage
  case "$mode" in *[!0-9]*) ;; *) fail 2 "give the name of a mode, not its number" "see: $0 show" ;; esac
  require nvpmodel
  require jetson_clocks
  require_root set "$mode"
  # Asked before anything is stored or changed.
  [ ! -r "$CONF" ] || [ -n "$(mode_id "$mode")" ] ||
    fail 2 "this board has no power mode called '$mode'" "one of: $(mode_names | cut -d' ' -f2 | tr '\n' ' ')"
  store_state
  switch_mode "$mode"
  if [ "$with_clocks" = 1 ]; then
    run jetson_clocks || fail 1 "jetson_clocks failed; the mode is $mode, the clocks are not held" "$0 restore"
  fi
  [ "$DRY_RUN" = 1 ] || echo "set: mode $mode$([ "$with_clocks" = 0 ] || echo ', clocks held'); put back with: $0 restore"
}

restore() {
  while [ $# -gt 0 ]; do
    case "$1" in
      --dry-run) DRY_RUN=1 ;;
      *) usage ;;
    esac
    shift
  done
  require nvpmodel
  require jetson_clocks
  require_root restore
  [ -e "$MODE_FILE" ] || fail 2 "nothing is stored in $STATE_DIR, so there is nothing to restore"
  [ -s "$CLOCKS_FILE" ] || fail 1 "$CLOCKS_FILE is missing or empty" "set the mode by hand: $(cat "$MODE_FILE"); then rm -r $STATE_DIR"
  local mode
  mode="$(cat "$MODE_FILE")"
  [ "$(current_mode)" = "$mode" ] || switch_mode "$mode"
  run jetson_clocks --restore "$CLOCKS_FILE" || fail 1 "the clocks could not be restored; the stored state is kept" "$0 restore"
  if [ "$DRY_RUN" = 0 ]; then
    rm -f "$MODE_FILE" "$CLOCKS_FILE" # the mode first: without it nothing counts as stored
    sync
    echo "restored: mode $mode and its clocks"
  fi
}

show() {
  [ $# = 0 ] || usage
  require nvpmodel
  echo "mode: $(current_mode)"
  if [ -r "$CONF" ]; then
    echo "modes of this board: $(mode_names | cut -d' ' -f2 | tr '\n' ' ')"
  fi
  if [ -e "$MODE_FILE" ]; then
    echo "waiting to be restored: mode $(cat "$MODE_FILE") ($0 restore)"
  else
    echo "nothing waits to be restored"
  fi
  if command -v jetson_clocks >/dev/null; then
    jetson_clocks --show </dev/null || echo "clocks: jetson_clocks --show needs root"
  fi
}

[ $# -gt 0 ] || usage
verb="$1"
shift
case "$verb" in
  set) set_mode "$@" ;;
  restore) restore "$@" ;;
  show) show "$@" ;;
  *) usage ;;
esac
